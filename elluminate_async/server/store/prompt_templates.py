"""Prompt templates and their versions."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sqlalchemy import Connection, delete, func, insert, select, update

from elluminate_async.schemas import CreatePromptTemplateRequest, PromptTemplate
from elluminate_async.schemas.prompt_templates import placeholders_in
from elluminate_async.server.problems import Problem
from elluminate_async.server.store import nearest_messages, tables
from elluminate_async.server.store.rows import (
    AnyRow,
    digest,
    fetch,
    now,
    reserve_ids,
    row_by_id,
    rows_by_id,
)
from elluminate_async.server.store.wire_json import (
    dump,
    dump_or_none,
    ids_text,
    read_json,
    read_messages,
    wire_json,
    wire_prompt,
    wire_text,
    wire_time,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from elluminate_async.server.store.references import Deletion

table = tables.prompt_templates

_OF_IDS = """
SELECT id, name, version, messages, response_format_json_schema, tools, tool_choice,
 criterion_set_id, created_at, updated_at FROM prompt_templates
WHERE id IN (SELECT value FROM json_each(?)) AND +project_id = ?"""


def create(
    connection: Connection, project_id: int, body: CreatePromptTemplateRequest
) -> PromptTemplate:
    """A new template, or the next version of the name.

    Raises:
        Problem: 409 with ``prompt_template_id`` when a version of this name has the same
            content; the parent takes no part in that.
    """
    content = digest(body.messages, body.response_format_json_schema, body.tools, body.tool_choice)
    (template_id,) = reserve_ids(connection, table)
    name = body.name or f"Prompt template {template_id}"
    of_name = (table.c.project_id == project_id, table.c.name == name)
    same = connection.execute(
        select(table.c.id).where(*of_name, table.c.digest == content)
    ).scalar_one_or_none()
    if same is not None:
        raise Problem(
            409,
            f"the prompt template {name!r} exists already with this content",
            extra={"prompt_template_id": same},
        )
    latest = connection.execute(select(func.max(table.c.version)).where(*of_name)).scalar()
    criterion_set_id = None
    if body.parent_prompt_template_id is not None:
        criterion_set_id = _row(
            connection, project_id, body.parent_prompt_template_id
        ).criterion_set_id
    time = now()
    connection.execute(
        insert(table),
        {
            "id": template_id,
            "project_id": project_id,
            "name": name,
            "version": (latest or 0) + 1,
            "messages": body.messages,
            "response_format_json_schema": body.response_format_json_schema,
            "tools": body.tools,
            "tool_choice": body.tool_choice,
            "digest": content,
            "criterion_set_id": criterion_set_id,
            "created_at": time,
            "updated_at": time,
        },
    )
    return get(connection, project_id, template_id)


def get(connection: Connection, project_id: int, template_id: int) -> PromptTemplate:
    """One version by id."""
    return _document(_row(connection, project_id, template_id))


def find_ids(
    connection: Connection,
    project_id: int,
    name: str | None = None,
    version: int | None = None,
    criterion_set_id: int | None = None,
    compatible_collection_id: int | None = None,
) -> list[int]:
    """Ids in order of creation; with a name, the newest version first."""
    query = select(table.c.id, table.c.messages).where(table.c.project_id == project_id)
    if name is not None:
        query = query.where(table.c.name == name).order_by(table.c.version.desc())
    if version is not None:
        query = query.where(table.c.version == version)
    if criterion_set_id is not None:
        query = query.where(table.c.criterion_set_id == criterion_set_id)
    rows = connection.execute(query.order_by(table.c.id)).all()
    if compatible_collection_id is None:
        return [row.id for row in rows]
    columns = column_names(connection, project_id, compatible_collection_id)
    return [row.id for row in rows if columns.issuperset(placeholders_in(row.messages))]


def column_names(connection: Connection, project_id: int, collection_id: int) -> set[str]:
    """Names of a collection's columns; empty when there is no such collection."""
    rows = rows_by_id(connection, tables.collections, project_id, [collection_id])
    return {column["name"] for row in rows.values() for column in row.columns}


def documents(
    connection: Connection, project_id: int, ids: Iterable[int]
) -> dict[int, PromptTemplate]:
    """The templates of these ids."""
    rows = rows_by_id(connection, table, project_id, ids)
    return {template_id: _document(row) for template_id, row in rows.items()}


def resolved_texts(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, str]:
    """The parts besides the messages, as keys of a prompt's JSON."""
    rows = fetch(connection, _OF_IDS, ids_text(ids), project_id)
    return {
        row.id: f'"resolved_tools":{wire_json(row.tools)},'
        f'"resolved_tool_choice":{wire_json(row.tool_choice)},'
        f'"resolved_response_format":{wire_json(row.response_format_json_schema)}'
        for row in rows
    }


def texts(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, str]:
    """The templates of these ids, as JSON."""
    rows = fetch(connection, _OF_IDS, ids_text(ids), project_id)
    return {row.id: _text(*row) for row in rows}


@lru_cache(maxsize=256)
def _text(
    template_id: int,
    name: str,
    version: int,
    messages: str,
    response_format: str | None,
    tools: str | None,
    tool_choice: str | None,
    criterion_set_id: int | None,
    created_at: str,
    updated_at: str,
) -> str:
    placeholders = dump(placeholders_in(read_json(messages)))
    if _is_odd(messages):
        messages = wire_prompt(messages)
    if tools is not None:
        tools = dump_or_none(nearest_messages.tools(read_json(tools), _called(template_id)))
    if tool_choice is not None:
        choice = nearest_messages.tool_choice(read_json(tool_choice), _called(template_id))
        tool_choice = dump_or_none(choice)
    return (
        f'{{"id":{template_id},"name":{wire_text(name)},"version":{version},'
        f'"messages":{wire_json(messages)},"placeholders":{placeholders},'
        f'"response_format_json_schema":{wire_json(response_format)},"tools":{wire_json(tools)},'
        f'"tool_choice":{wire_json(tool_choice)},"criterion_set_id":{dump(criterion_set_id)},'
        f'"created_at":{wire_time(created_at)},"updated_at":{wire_time(updated_at)}}}'
    )


def odd_ones(connection: Connection, project_id: int, ids: Iterable[int]) -> set[int]:
    """Those of these templates whose messages, and prompts, readers would stumble over."""
    rows = fetch(connection, _OF_IDS, ids_text(ids), project_id)
    return {row.id for row in rows if _is_odd(row.messages)}


@lru_cache(maxsize=256)
def _is_odd(messages: str) -> bool:
    stored = read_json(messages)
    return nearest_messages.of_template(read_messages(messages)) != stored


def of_criterion_sets(
    connection: Connection, project_id: int, set_ids: Iterable[int]
) -> dict[int, list[PromptTemplate]]:
    """The templates linked to each criterion set, oldest first."""
    linked: dict[int, list[PromptTemplate]] = {set_id: [] for set_id in set_ids}
    query = select(table).where(
        table.c.project_id == project_id, table.c.criterion_set_id.in_(list(linked))
    )
    for row in connection.execute(query.order_by(table.c.id)):
        linked[row.criterion_set_id].append(_document(row))
    return linked


def link(
    connection: Connection, project_id: int, template_id: int, criterion_set_id: int | None
) -> None:
    """Let a criterion set rate this template's responses; None takes the link away."""
    _row(connection, project_id, template_id)
    connection.execute(
        update(table)
        .where(table.c.id == template_id)
        .values(criterion_set_id=criterion_set_id, updated_at=now())
    )


def remove(connection: Connection, project_id: int, template_id: int, deletion: Deletion) -> None:
    """Delete one version; where it cascades also its experiments that have responses."""
    row = _row(connection, project_id, template_id)
    name = f"prompt template {row.name!r} version {row.version}"
    deletion.require(connection, "prompt template", template_id, name)
    connection.execute(delete(table).where(table.c.id == template_id))


def _called(template_id: int) -> str:
    return f"prompt template {template_id}"


def _row(connection: Connection, project_id: int, template_id: int) -> AnyRow:
    return row_by_id(connection, table, project_id, "prompt template", template_id)


def _document(row: AnyRow) -> PromptTemplate:
    return PromptTemplate(
        id=row.id,
        name=row.name,
        version=row.version,
        messages=nearest_messages.of_template(
            [message for message in row.messages if isinstance(message, dict)], _called(row.id)
        ),
        placeholders=placeholders_in(row.messages),
        response_format_json_schema=row.response_format_json_schema,
        tools=nearest_messages.tools(row.tools, _called(row.id)),
        tool_choice=nearest_messages.tool_choice(row.tool_choice, _called(row.id)),
        criterion_set_id=row.criterion_set_id,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
