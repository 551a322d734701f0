"""Making the rows of responses, all or none, before anything is generated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, insert, select

from elluminate_async.schemas.prompt_templates import render
from elluminate_async.server.problems import Problem, not_found
from elluminate_async.server.store import llm_configs, responses, tables, work
from elluminate_async.server.store.rows import (
    AnyRow,
    AnySelect,
    digest,
    now,
    reserve_ids,
    rows_by_id,
    select_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Table

    from elluminate_async.schemas import ResponseIn
    from elluminate_async.server.store.work import Work


def place(connection: Connection, project_id: int, items: Sequence[ResponseIn]) -> list[int]:
    """Make a row for each item; those without messages wait to be generated.

    Returns:
        The rows' ids, ascending in the order of the items.

    Raises:
        Problem: 404 that names what an item refers to and is not there; 400 for an item
            without any template. Nothing is made then.
    """
    experiments = _require(
        connection, project_id, tables.experiments, "experiment", (i.experiment_id for i in items)
    )
    variables = _require(
        connection,
        project_id,
        tables.entries,
        "template variables",
        (item.template_variables_id for item in items),
    )
    template_of = [_template_id(item, experiments[item.experiment_id]) for item in items]
    templates = _require(
        connection, project_id, tables.prompt_templates, "prompt template", template_of
    )
    default = llm_configs.default_id(connection, project_id)
    config_of = [
        item.llm_config_id or experiments[item.experiment_id].llm_config_id or default
        for item in items
    ]
    _require(connection, project_id, tables.llm_configs, "LLM config", config_of)
    prompt_ids = _prompts(
        connection,
        project_id,
        [
            (templates[template_id], variables[item.template_variables_id])
            for template_id, item in zip(template_of, items, strict=True)
        ],
    )
    ids = reserve_ids(connection, tables.responses, len(items))
    responses.insert_all(
        connection,
        [
            {
                **_state(item),
                "id": response_id,
                "project_id": project_id,
                "experiment_id": item.experiment_id,
                "prompt_id": prompt_id,
                "llm_config_id": config_id,
                "epoch": item.epoch,
                "annotation": "",
            }
            for response_id, item, prompt_id, config_id in zip(
                ids, items, prompt_ids, config_of, strict=True
            )
        ],
    )
    return list(ids)


def preview(connection: Connection, project_id: int, item: ResponseIn) -> Work:
    """What generating an item would take; no row of it stays."""
    savepoint = connection.begin_nested()
    try:
        (one,) = work.load(connection, project_id, place(connection, project_id, [item]))
    finally:
        savepoint.rollback()
    return one


def _state(item: ResponseIn) -> dict[str, Any]:
    columns = responses.uploaded(item.messages, item.metadata).columns()
    return {**columns, "is_ready": bool(item.messages)}


def _template_id(item: ResponseIn, experiment: AnyRow) -> int:
    template_id = item.prompt_template_id or experiment.prompt_template_id
    if template_id is None:
        raise Problem(400, f"experiment {experiment.id} has no prompt template")
    return template_id


def _require(
    connection: Connection, project_id: int, table: Table, noun: str, ids: Iterable[int]
) -> dict[int, AnyRow]:
    wanted = dict.fromkeys(ids)
    found = rows_by_id(connection, table, project_id, wanted)
    for row_id in wanted:
        if row_id not in found:
            raise not_found(noun, row_id)
    return found


def _prompts(
    connection: Connection, project_id: int, pairs: Sequence[tuple[AnyRow, AnyRow]]
) -> list[int]:
    """Ids of the filled-in templates; an equal prompt is shared."""
    table = tables.prompts
    wanted: dict[str, dict[str, Any]] = {}
    digests: list[str] = []
    rendered: dict[tuple[int, int], str] = {}
    for template, entry in pairs:
        pair = (template.id, entry.id)
        if pair not in rendered:
            messages = render(template.messages, entry.input_values)
            rendered[pair] = content = digest(template.id, entry.id, messages)
            wanted[content] = {
                "project_id": project_id,
                "prompt_template_id": template.id,
                "template_variables_id": entry.id,
                "messages": messages,
                "digest": content,
            }
        digests.append(rendered[pair])
    query: AnySelect = select(table.c.id, table.c.digest).where(table.c.project_id == project_id)
    known = {row.digest: row.id for row in select_in(connection, query, table.c.digest, wanted)}
    new = [row for content, row in wanted.items() if content not in known]
    if new:
        time = now()
        ids = reserve_ids(connection, table, len(new))
        connection.execute(
            insert(table),
            [{**row, "id": i, "created_at": time} for i, row in zip(ids, new, strict=True)],
        )
        known.update((row["digest"], i) for i, row in zip(ids, new, strict=True))
    return [known[content] for content in digests]
