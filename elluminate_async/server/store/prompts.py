"""Prompts: rows of collections filled in to templates, or conversations as they are."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from elluminate_async.schemas.collections import with_defaults
from elluminate_async.schemas.prompt_templates import (
    Prepared,
    fill_in,
    filled_length,
    placeholders_in,
)
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import nearest, running, tables
from elluminate_async.server.store.rows import AnyRow, digest, fetch, now, reserve_ids, run_many
from elluminate_async.server.store.wire_json import (
    dump,
    dump_or_none,
    ids_text,
    read_json,
    read_messages,
    time_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from elluminate_async.schemas import Column
    from elluminate_async.schemas.conversations import PromptColumn

_KNOWN = """
SELECT id, digest, entry_digest FROM prompts
WHERE digest IN (SELECT value FROM json_each(?)) AND project_id = ?"""
_INSERT_PROMPT = """
INSERT INTO prompts (id, project_id, prompt_template_id, template_variables_id, messages, digest,
 entry_digest, resolved, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_FILLED_AGAIN = "UPDATE prompts SET entry_digest = ? WHERE id = ?"
_COLUMNS = """
SELECT id, columns FROM collections WHERE id IN (SELECT value FROM json_each(?))"""

_SHOWN = 10

MOST_PROMPT = 4 << 20
"""Characters of one filled-in prompt."""

MOST_PROMPTS = 512 << 20
"""Characters of all the prompts that one request has filled in."""


class Filling:
    """How much one request has filled in so far."""

    def __init__(self) -> None:
        self._characters = 0

    def add(
        self,
        messages: list[dict[str, Any]],
        values: Mapping[str, Any],
        column: PromptColumn | None,
    ) -> str | None:
        """Count a prompt before it is made; a text where it is too long to be made.

        A short template may name a long value a thousand times, and a long one a thousand rows.

        Raises:
            Problem: 422 when they are too long together.
        """
        length = filled_length(messages, values)
        if column is not None and (cell := values.get(column.name)) is not None:
            length += len(cell if isinstance(cell, str) else dump(cell))
        if length > MOST_PROMPT:
            return f"the filled-in prompt would have more than {MOST_PROMPT} characters"
        self._characters += length
        if self._characters > MOST_PROMPTS:
            raise Problem(
                422,
                f"the filled-in prompts of one request would have more than {MOST_PROMPTS} "
                "characters; send it as several requests",
            )
        return None


class FilledPrompt(NamedTuple):
    """A prompt that is kept, and the texts of its columns."""

    id: int
    messages: str
    resolved: str | None

    @property
    def excess(self) -> str | None:
        """The text that says that it is too long, and so was not made."""
        return None if self.resolved is None else excess_of(read_json(self.resolved))


def excess_of(resolved: dict[str, Any]) -> str | None:
    """`FilledPrompt.excess`, by what is kept with a prompt."""
    return resolved["problem"] if "is_too_long" in resolved else None


class NewPrompt(NamedTuple):
    """A prompt to be kept, with its columns' texts; an agent's has no ``entry_digest``."""

    template_id: int | None
    entry_id: int
    messages: str
    digest: str
    entry_digest: str | None
    resolved: str | None


def filled(
    connection: Connection,
    project_id: int,
    wanted: Sequence[tuple[AnyRow | None, AnyRow, AnyRow]],
    filling: Filling,
) -> list[FilledPrompt]:
    """The prompts of templates, experiments and rows; an equal one is shared.

    Raises:
        Problem: 400 for one without a template, whose row has no column of prompts; 422 as of
            `Filling.add`.
    """
    columns = columns_of(connection, (entry for _, _, entry in wanted))
    prepared = cache(_prepared)

    @cache
    def named_in(template: AnyRow | None) -> list[str]:
        return [] if template is None else placeholders_in(prepared(template).messages)

    @cache
    def column_of(
        template: AnyRow | None, collection_id: int, response_column_id: int | None
    ) -> PromptColumn | None:
        named = named_in(template)
        return running.prompts_column(columns[collection_id], response_column_id, named)

    made: dict[tuple[int | None, PromptColumn | None, int], NewPrompt] = {}
    found: list[NewPrompt] = []
    for template, experiment, entry in wanted:
        column = column_of(template, entry.collection_id, experiment.response_column_id)
        if template is None and column is None:
            raise running.no_prompt(experiment.id)
        key = (None if template is None else template.id, column, entry.id)
        if key not in made:
            given = None if template is None else prepared(template)
            values = with_defaults(columns[entry.collection_id], read_json(entry.input_values))
            made[key] = _new(key[0], given, column, entry, values, named_in(template), filling)
        found.append(made[key])
    ids = kept(connection, project_id, {one.digest: one for one in found})
    return [FilledPrompt(ids[one.digest], one.messages, one.resolved) for one in found]


def columns_of(connection: Connection, entries: Iterable[AnyRow]) -> dict[int, list[Column]]:
    """The columns of the collections that entries are of, by these."""
    ids = {entry.collection_id for entry in entries}
    return {
        row.id: nearest.columns(read_json(row.columns), row.id)
        for row in fetch(connection, _COLUMNS, ids_text(ids))
    }


def _prepared(template: AnyRow) -> Prepared:
    others = (template.tools, template.tool_choice, template.response_format_json_schema)
    return Prepared(
        read_messages(template.messages),
        *(None if text is None else read_json(text) for text in others),
    )


def _new(
    template_id: int | None,
    template: Prepared | None,
    column: PromptColumn | None,
    entry: AnyRow,
    values: Mapping[str, Any],
    named: Sequence[str],
    filling: Filling,
) -> NewPrompt:
    given = template or Prepared([])
    resolved: dict[str, Any] | None = None
    # What is wrong is told by the response, so that one such row costs the others nothing.
    if excess := filling.add(given.messages, values, column):
        prompt, resolved = given._replace(messages=[]), {"problem": excess, "is_too_long": True}
    else:
        problem = lacking(named, values)
        try:
            prompt = fill_in(template, column, values)
        except ValueError as error:
            prompt, problem = fill_in(given, None, values), str(error)
        if problem is not None:
            resolved = {"problem": problem}
        elif prompt[1:] != given[1:]:
            resolved = prompt._asdict()
            del resolved["messages"]
    content = (template_id, entry.id, prompt.messages)
    return NewPrompt(
        template_id,
        entry.id,
        dump(prompt.messages),
        digest(*content) if resolved is None else digest(*content, resolved),
        entry.digest,
        dump_or_none(resolved),
    )


def lacking(named: Sequence[str], values: Mapping[str, Any]) -> str | None:
    """The problem of a row without a value: a model would be asked for the braces. Else None."""
    missing = [f"{{{{{name:.60}}}}}" for name in named if name not in values]
    if not missing:
        return None
    shown = ", ".join(missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"the row has no value for {shown}{more}: give it one, and retry"


def kept(
    connection: Connection, project_id: int, wanted: Mapping[str, NewPrompt]
) -> dict[str, int]:
    """Keep those that are new; the ids of all, by their digests."""
    rows = fetch(connection, _KNOWN, dump(list(wanted)), project_id)
    known = {row.digest: row.id for row in rows}
    # Filled in again, and with the same texts, from an entry that was changed elsewhere.
    entry_digests = [(wanted[row.digest].entry_digest, row) for row in rows]
    again = [
        (entry, row.id) for entry, row in entry_digests if entry not in (None, row.entry_digest)
    ]
    run_many(connection, _FILLED_AGAIN, again)
    new = [one for content, one in wanted.items() if content not in known]
    if new:
        time = time_text(now())
        ids = reserve_ids(connection, tables.prompts, len(new))
        run_many(
            connection,
            _INSERT_PROMPT,
            [(prompt_id, project_id, *one, time) for prompt_id, one in zip(ids, new, strict=True)],
        )
        known.update((one.digest, i) for i, one in zip(ids, new, strict=True))
    return known
