"""Making the rows of responses, all or none, before anything is generated."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from elluminate_async.server.problems import Problem, not_found, storing_values
from elluminate_async.server.store import (
    item_keys,
    job_inputs,
    llm_configs,
    prompts,
    responses,
    running,
    sizes,
    tables,
)
from elluminate_async.server.store.prompts import Filling
from elluminate_async.server.store.rows import AnyRow, fetch, reserve_ids, run_many
from elluminate_async.server.store.wire_json import ids_text, read_json, readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Connection

    from elluminate_async.schemas import LLMConfig, ResponseIn
    from elluminate_async.server.store.in_flight import Call
    from elluminate_async.server.store.job_inputs import Work
    from elluminate_async.server.store.prompts import FilledPrompt

# A plus keeps an index on the project from being taken instead of the ids.
_WANTED = "WHERE id IN (SELECT value FROM json_each(?)) AND +project_id = ?"
_EXPERIMENTS = f"""
SELECT id, prompt_template_id, llm_config_id, collection_id, evaluation_mode, response_column_id,
 {running.COLUMN} AS response_column
FROM experiments AS e {_WANTED}"""
_ENTRIES = f"SELECT id, collection_id, input_values, digest FROM entries {_WANTED}"
_TEMPLATES = f"""
SELECT id, messages, tools, tool_choice, response_format_json_schema FROM prompt_templates
{_WANTED}"""
_CONFIGS = f"""
SELECT id, name, document, json_extract(document, '$.inference_type') AS inference_type,
 json_extract(document, '$.custom_api_config') AS custom_api_config,
 json_extract(document, '$.custom_response_parser') AS response_parser,
 json_extract(document, '$.{llm_configs.DELETED_NAME}') AS deleted_name
FROM llm_configs {_WANTED}"""
_WITHOUT_PROMPT = """
SELECT r.id, r.experiment_id, p.prompt_template_id, p.template_variables_id
FROM responses AS r JOIN prompts AS p ON p.id = r.prompt_id
WHERE r.id IN (SELECT value FROM json_each(?)) AND +r.project_id = ?
 AND json_extract(p.resolved, '$.problem') IS NOT NULL"""
_ASK = "UPDATE responses SET prompt_id = ? WHERE id = ?"
_SHOW = """
UPDATE responses SET is_ready = 1
WHERE NOT is_ready AND id IN (SELECT value FROM json_each(?))"""


def place_responses(
    connection: Connection,
    project_id: int,
    items: Sequence[ResponseIn],
    filling: Filling | None = None,
    *,
    hidden: bool = False,
    start: int = 0,
    retry_failed: bool = False,
) -> list[int]:
    """`create_responses`, where an item whose key is known has the row that is there.

    Args:
        connection: Where to.
        project_id: Of the items.
        items: Of which rows are wanted.
        filling: As there.
        hidden: As there.
        start: The place of the first item in its request.
        retry_failed: As of `item_keys.place`.

    Raises:
        Problem: As there, and as of `item_keys.place`.
    """

    def create(fresh: Sequence[ResponseIn]) -> list[int]:
        return create_responses(connection, project_id, fresh, filling, hidden=hidden)

    if not item_keys.have_any(items):
        return create(items)
    placed = item_keys.place(
        connection, project_id, items, create, start, retry_failed=retry_failed
    )
    if not hidden:
        show(connection, placed.hidden)
    return placed.ids


def create_responses(
    connection: Connection,
    project_id: int,
    items: Sequence[ResponseIn],
    filling: Filling | None = None,
    *,
    hidden: bool = False,
    answered: bool = False,
) -> list[int]:
    """Make a row for each item; those without messages wait to be generated.

    Args:
        connection: Where to.
        project_id: Of the items.
        items: What is to be made.
        filling: Of the request, where it has other items too.
        hidden: Whether rows with messages wait for `show` instead of being there at once.
        answered: Whether the others have been generated already, and are not refused.

    Returns:
        The rows' ids, ascending in the order of the items.

    Raises:
        Problem: 404 that names what an item refers to and is not there; 400 for a row of another
            collection than the experiment's, and for an item without a template, whose row has no
            column of prompts; 422 for an answer whose prompt is too long, and for prompts that
            are together. Nothing is made then.
    """
    experiment_ids = (item.experiment_id for item in items)
    experiments = _require(connection, project_id, _EXPERIMENTS, "experiment", experiment_ids)
    row_ids = (item.template_variables_id for item in items)
    variables = _require(connection, project_id, _ENTRIES, "template variables", row_ids)
    _require_own_rows(items, experiments, variables)
    template_of = [
        item.prompt_template_id or experiments[item.experiment_id].prompt_template_id
        for item in items
    ]
    known = (template_id for template_id in template_of if template_id is not None)
    templates = _require(connection, project_id, _TEMPLATES, "prompt template", known)
    default = llm_configs.default_id(connection, project_id)
    config_of = [
        item.llm_config_id or experiments[item.experiment_id].llm_config_id or default
        for item in items
    ]
    configs = _require(connection, project_id, _CONFIGS, "LLM config", config_of)
    if not answered:
        _require_runnable(items, experiments, (configs[one] for one in config_of))
    prices = cache(_prices)
    wanted = [
        (
            templates.get(template_id),
            experiments[item.experiment_id],
            variables[item.template_variables_id],
        )
        for template_id, item in zip(template_of, items, strict=True)
    ]
    filled = prompts.filled(connection, project_id, wanted, filling or Filling())
    _require_prompts(items, filled)
    _note_sizes(connection, items, filled, variables)
    ids = reserve_ids(connection, tables.responses, len(items))
    rows = [
        responses.NewRow(
            id=response_id,
            experiment_id=item.experiment_id,
            prompt_id=prompt_id,
            template_variables_id=item.template_variables_id,
            llm_config_id=config_id,
            epoch=item.epoch,
            item_key=item.item_key,
            answer=responses.uploaded(
                item.messages, item.metadata, prices(configs[config_id].document)
            )
            if item.messages
            else None,
            is_hidden=hidden,
        )
        for response_id, item, (prompt_id, *_), config_id in zip(
            ids, items, filled, config_of, strict=True
        )
    ]
    with storing_values():
        responses.insert_all(connection, project_id, rows)
    return list(ids)


def _note_sizes(
    connection: Connection,
    items: Sequence[ResponseIn],
    filled: Sequence[FilledPrompt],
    variables: Mapping[int, AnyRow],
) -> None:
    sizes.note(
        connection,
        "prompt",
        (
            (item.experiment_id, (*texts, variables[item.template_variables_id].input_values))
            for item, (_, *texts) in zip(items, filled, strict=True)
        ),
    )


def show(connection: Connection, response_ids: Sequence[int]) -> None:
    """Let rows that were made hidden be there."""
    if response_ids:
        run_many(connection, _SHOW, [(ids_text(response_ids),)])


def preview(connection: Connection, project_id: int, item: ResponseIn, call: Call) -> Work:
    """The inputs for generating an item, which ``call`` refers to; without a row that stays."""
    savepoint = connection.begin_nested()
    try:
        created = create_responses(connection, project_id, [item])
        (one,) = job_inputs.load(connection, project_id, created)
        call.refer(connection, one.response_id)
    finally:
        savepoint.rollback()
    return one


def ask_anew(connection: Connection, project_id: int, response_ids: Iterable[int]) -> None:
    """Give those of these responses that had nothing to ask the prompts that their rows have."""
    rows = fetch(connection, _WITHOUT_PROMPT, ids_text(response_ids), project_id)
    if not rows:
        return

    def found(statement: str, column: str) -> dict[int, AnyRow]:
        ids = {getattr(row, column) for row in rows} - {None}
        return {one.id: one for one in fetch(connection, statement, ids_text(ids), project_id)}

    templates = found(_TEMPLATES, "prompt_template_id")
    experiments = found(_EXPERIMENTS, "experiment_id")
    entries = found(_ENTRIES, "template_variables_id")
    wanted = [
        (
            templates.get(row.prompt_template_id),
            experiments[row.experiment_id],
            entries[row.template_variables_id],
        )
        for row in rows
    ]
    filled = prompts.filled(connection, project_id, wanted, Filling())
    changed = [(prompt.id, row.id) for row, prompt in zip(rows, filled, strict=True)]
    run_many(connection, _ASK, changed)
    sized = [
        (row.experiment_id, (*texts, entry.input_values))
        for row, (_, _, entry), (_, *texts) in zip(rows, wanted, filled, strict=True)
    ]
    sizes.note(connection, "prompt", sized)


def _prices(document: str) -> LLMConfig:
    return readable(read_json(document))


def _require_own_rows(
    items: Iterable[ResponseIn], experiments: Mapping[int, AnyRow], entries: Mapping[int, AnyRow]
) -> None:
    """400 for a row of another collection than its experiment's: its results would mix."""
    for item in items:
        own = experiments[item.experiment_id].collection_id
        other = entries[item.template_variables_id].collection_id
        if own not in (None, other):
            raise Problem(
                400,
                f"template variables {item.template_variables_id} are of collection {other}, and "
                f"experiment {item.experiment_id} is on collection {own}: add the row to that one, "
                "or make an experiment on the other",
            )


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


def _require_prompts(items: Iterable[ResponseIn], filled: Iterable[FilledPrompt]) -> None:
    """422 for an answer to be stored whose prompt cannot: it could not be judged by that."""
    for item, prompt in zip(items, filled, strict=True):
        if item.messages and (excess := prompt.excess):
            raise Problem(422, f"row {item.template_variables_id}: {excess}")


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
