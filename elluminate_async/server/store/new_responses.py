"""Making the rows of responses, all or none, before anything is generated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from elluminate_async.schemas.prompt_templates import filled_length, render
from elluminate_async.server.problems import Problem, not_found
from elluminate_async.server.store import (
    job_inputs,
    llm_configs,
    responses,
    running,
    sizes,
    tables,
)
from elluminate_async.server.store.rows import AnyRow, digest, fetch, now, reserve_ids, run_many
from elluminate_async.server.store.wire_json import (
    dump,
    ids_text,
    read_json,
    read_messages,
    readable,
    time_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from elluminate_async.schemas import LLMConfig, ResponseIn
    from elluminate_async.server.store.job_inputs import Work

# A plus keeps an index on the project from being taken instead of the ids.
_WANTED = "WHERE id IN (SELECT value FROM json_each(?)) AND +project_id = ?"
_EXPERIMENTS = f"""
SELECT id, prompt_template_id, llm_config_id, collection_id, evaluation_mode, response_column_id,
 {running.COLUMN} AS response_column
FROM experiments AS e {_WANTED}"""
_ENTRIES = f"SELECT id, input_values, digest FROM entries {_WANTED}"
_TEMPLATES = f"SELECT id, messages FROM prompt_templates {_WANTED}"
_CONFIGS = f"""
SELECT id, name, document, json_extract(document, '$.inference_type') AS inference_type,
 json_extract(document, '$.custom_api_config') AS custom_api_config,
 json_extract(document, '$.custom_response_parser') AS response_parser
FROM llm_configs {_WANTED}"""
_KNOWN = """
SELECT id, digest, entry_digest FROM prompts
WHERE digest IN (SELECT value FROM json_each(?)) AND project_id = ?"""
_INSERT_PROMPT = """
INSERT INTO prompts (id, project_id, prompt_template_id, template_variables_id, messages, digest,
 entry_digest, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""
_FILLED_AGAIN = "UPDATE prompts SET entry_digest = ? WHERE id = ?"


MOST_PROMPT = 4 << 20
"""Characters of one filled-in prompt."""

MOST_PROMPTS = 512 << 20
"""Characters of all the prompts that one request has filled in."""


class Filling:
    """How much one request has filled in so far."""

    def __init__(self) -> None:
        self._characters = 0

    def add(self, messages: list[dict[str, Any]], values: dict[str, Any]) -> None:
        """Count a prompt before it is made.

        A short template may name a long value a thousand times, and a long one a thousand rows.

        Raises:
            Problem: 422 when it is too long, or they are together.
        """
        length = filled_length(messages, values)
        if length > MOST_PROMPT:
            raise Problem(422, f"a filled-in prompt would have more than {MOST_PROMPT} characters")
        self._characters += length
        if self._characters > MOST_PROMPTS:
            raise Problem(
                422,
                f"the filled-in prompts of one request would have more than {MOST_PROMPTS} "
                "characters; send it as several requests",
            )


_SHOW = "UPDATE responses SET is_ready = 1 WHERE id IN (SELECT value FROM json_each(?))"


@dataclass(frozen=True, slots=True)
class _NewPrompt:
    template_id: int
    entry_id: int
    messages: str
    digest: str
    entry_digest: str


def create_responses(
    connection: Connection,
    project_id: int,
    items: Sequence[ResponseIn],
    filling: Filling | None = None,
    *,
    hidden: bool = False,
) -> list[int]:
    """Make a row for each item; those without messages wait to be generated.

    Args:
        connection: Where to.
        project_id: Of the items.
        items: What is to be made.
        filling: Of the request, where it has other items too.
        hidden: Whether rows with messages wait for `show` instead of being there at once.

    Returns:
        The rows' ids, ascending in the order of the items.

    Raises:
        Problem: 404 that names what an item refers to and is not there; 400 for an item
            without any template. Nothing is made then.
    """
    experiments = _require(
        connection, project_id, _EXPERIMENTS, "experiment", (item.experiment_id for item in items)
    )
    variables = _require(
        connection,
        project_id,
        _ENTRIES,
        "template variables",
        (item.template_variables_id for item in items),
    )
    template_of = [_template_id(item, experiments[item.experiment_id]) for item in items]
    templates = _require(connection, project_id, _TEMPLATES, "prompt template", template_of)
    default = llm_configs.default_id(connection, project_id)
    config_of = [
        item.llm_config_id or experiments[item.experiment_id].llm_config_id or default
        for item in items
    ]
    configs = _require(connection, project_id, _CONFIGS, "LLM config", config_of)
    _require_runnable(items, experiments, (configs[one] for one in config_of))
    prices = cache(_prices)
    prompts = _prompts(
        connection,
        project_id,
        [
            (templates[template_id], variables[item.template_variables_id])
            for template_id, item in zip(template_of, items, strict=True)
        ],
        filling or Filling(),
    )
    _note_sizes(connection, items, prompts, variables)
    ids = reserve_ids(connection, tables.responses, len(items))
    rows = [
        responses.NewRow(
            id=response_id,
            experiment_id=item.experiment_id,
            prompt_id=prompt_id,
            template_variables_id=item.template_variables_id,
            llm_config_id=config_id,
            epoch=item.epoch,
            answer=responses.uploaded(
                item.messages, item.metadata, prices(configs[config_id].document)
            )
            if item.messages
            else None,
            is_hidden=hidden,
        )
        for response_id, item, (prompt_id, _), config_id in zip(
            ids, items, prompts, config_of, strict=True
        )
    ]
    _insert(connection, project_id, rows)
    return list(ids)


def _insert(connection: Connection, project_id: int, rows: Sequence[responses.NewRow]) -> None:
    try:
        responses.insert_all(connection, project_id, rows)
    except UnicodeError:
        raise
    except ValueError as error:  # a number that is none, in messages to store
        raise Problem(422, f"a value cannot be stored: {error}") from None


def _note_sizes(
    connection: Connection,
    items: Sequence[ResponseIn],
    prompts: Sequence[tuple[int, str]],
    variables: Mapping[int, AnyRow],
) -> None:
    sizes.note(
        connection,
        "prompt",
        (
            (item.experiment_id, (prompt, variables[item.template_variables_id].input_values))
            for item, (_, prompt) in zip(items, prompts, strict=True)
        ),
    )


def show(connection: Connection, response_ids: Sequence[int]) -> None:
    """Let rows that were made hidden be there."""
    run_many(connection, _SHOW, [(ids_text(response_ids),)])


def preview(connection: Connection, project_id: int, item: ResponseIn) -> Work:
    """The inputs for generating an item, without a row that stays."""
    savepoint = connection.begin_nested()
    try:
        created = create_responses(connection, project_id, [item])
        (one,) = job_inputs.load(connection, project_id, created)
    finally:
        savepoint.rollback()
    return one


def _prices(document: str) -> LLMConfig:
    return readable(read_json(document))


def _require_runnable(
    items: Iterable[ResponseIn], experiments: Mapping[int, AnyRow], configs: Iterable[AnyRow]
) -> None:
    """400 for an item that is to be generated, and cannot be."""
    for item, config in zip(items, configs, strict=True):
        experiment = experiments[item.experiment_id]
        if item.messages:
            continue
        if experiment.response_column_id is not None:
            running.require_column(experiment)
        else:
            running.require_mode(experiment)
            running.require_callable(config)


def _template_id(item: ResponseIn, experiment: AnyRow) -> int:
    template_id = item.prompt_template_id or experiment.prompt_template_id
    if template_id is None:
        raise Problem(400, f"experiment {experiment.id} has no prompt template")
    return template_id


def _require(
    connection: Connection, project_id: int, statement: str, noun: str, ids: Iterable[int]
) -> dict[int, AnyRow]:
    wanted = dict.fromkeys(ids)
    rows = fetch(connection, statement, ids_text(wanted), project_id)
    found = {row.id: row for row in rows}
    for row_id in wanted:
        if row_id not in found:
            raise not_found(noun, row_id)
    return found


def _prompts(
    connection: Connection,
    project_id: int,
    pairs: Sequence[tuple[AnyRow, AnyRow]],
    filling: Filling,
) -> list[tuple[int, str]]:
    """Ids and messages of the filled-in templates; an equal prompt is shared."""
    wanted: dict[str, _NewPrompt] = {}
    digests: list[str] = []
    rendered: dict[tuple[int, int], str] = {}
    messages_of: dict[int, list[dict[str, Any]]] = {}
    for template, entry in pairs:
        if template.id not in messages_of:
            messages_of[template.id] = read_messages(template.messages)
        pair = (template.id, entry.id)
        if pair not in rendered:
            values = read_json(entry.input_values)
            filling.add(messages_of[template.id], values)
            messages = render(messages_of[template.id], values)
            rendered[pair] = content = digest(template.id, entry.id, messages)
            wanted[content] = _NewPrompt(
                template.id, entry.id, dump(messages), content, entry.digest
            )
        digests.append(rendered[pair])
    rows = fetch(connection, _KNOWN, dump(list(wanted)), project_id)
    known = {row.digest: row.id for row in rows}
    # Filled in again, and with the same texts, from an entry that was changed elsewhere.
    entry_digests = [(wanted[row.digest].entry_digest, row) for row in rows]
    again = [(entry, row.id) for entry, row in entry_digests if entry != row.entry_digest]
    run_many(connection, _FILLED_AGAIN, again)
    new = [row for content, row in wanted.items() if content not in known]
    if new:
        time = time_text(now())
        ids = reserve_ids(connection, tables.prompts, len(new))
        run_many(
            connection,
            _INSERT_PROMPT,
            [
                (
                    prompt_id,
                    project_id,
                    one.template_id,
                    one.entry_id,
                    one.messages,
                    one.digest,
                    one.entry_digest,
                    time,
                )
                for prompt_id, one in zip(ids, new, strict=True)
            ],
        )
        known.update((one.digest, i) for i, one in zip(ids, new, strict=True))
    return [(known[content], wanted[content].messages) for content in digests]
