"""Model configurations; a key goes in sealed, and comes out for the model's client only.

One that is deleted although experiments or responses refer to it leaves its row to them, without
its key: a stand-in that tells what it was, that no listing has, and by which nothing is generated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, delete, insert, select, text, update

from elluminate_async.schemas import CreateLLMConfigRequest, LLMConfig
from elluminate_async.server.problems import Problem, not_found, taken
from elluminate_async.server.store import tables
from elluminate_async.server.store.rows import (
    AnyRow,
    fetch,
    now,
    reserve_ids,
    row_by_id,
    rows_by_id,
)
from elluminate_async.server.store.wire_json import read_json, readable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from elluminate_async.server.store.references import Deletion

table = tables.llm_configs
DEFAULT_NAME = "default"
DELETED_NAME: Final = "deleted_name"
"""The key, in a stand-in's document, of the name that the configuration had."""

_THERE = text(f"json_extract(llm_configs.document, '$.{DELETED_NAME}') IS NULL")
# A timeout, in seconds, is how long one call that hangs may keep its permit.
_BOUNDS = {
    "timeout": 3600,
    "max_connections": 10_000,
    "max_retries": 100,
    "requests_per_minute": 1_000_000_000,
    "tokens_per_minute": 1_000_000_000,
}
_DEFAULT = "SELECT id FROM llm_configs WHERE project_id = ? AND is_default"


@dataclass(frozen=True, slots=True)
class StoredConfig:
    """A configuration with its secret, which is encrypted.

    Attributes:
        config: What may be shown.
        api_key: Key of the model's endpoint, as the vault has sealed it.
        is_default: Whether it stands for the server's own model.
        deleted_name: The name that it had; None for one that is not deleted.
    """

    config: LLMConfig
    api_key: str | None = field(repr=False)
    is_default: bool
    deleted_name: str | None = None


def create_default(connection: Connection, project_id: int, model_name: str) -> None:
    """The configuration that stands for the server's own model."""
    _insert(connection, project_id, LLMConfig(name=DEFAULT_NAME, llm_model_name=model_name), None)


def rename_defaults(connection: Connection, model_name: str) -> None:
    """Let every default configuration name the model that this server runs with."""
    for row in connection.execute(select(table).where(table.c.is_default)).all():
        if row.document["llm_model_name"] != model_name:
            document = {**row.document, "llm_model_name": model_name}
            connection.execute(update(table).where(table.c.id == row.id).values(document=document))


def create(
    connection: Connection, project_id: int, body: CreateLLMConfigRequest, sealed_key: str | None
) -> LLMConfig:
    """A new configuration, with its key as the vault has sealed it.

    Raises:
        Problem: 409 when the name is taken; 422 when a bound bounds nothing.
    """
    if _find(connection, project_id, body.name) is not None:
        raise taken("an LLM config", body.name)
    _check_bounds(body)
    config = LLMConfig.model_validate(body.model_dump(exclude={"api_key"}))
    return _document(_insert(connection, project_id, config, sealed_key))


def _check_bounds(body: CreateLLMConfigRequest) -> None:
    for name, most in _BOUNDS.items():
        least = 0 if name == "max_retries" else 1
        value: int | None = getattr(body, name)
        if value is not None and not least <= value <= most:
            raise Problem(422, f"{name} must be from {least} to {most}")


def endpoints(connection: Connection) -> list[str]:
    """The endpoints that configurations name, of all projects."""
    documents = connection.scalars(select(table.c.document).where(_THERE)).all()
    return list(dict.fromkeys(url for one in documents if (url := one.get("llm_base_url"))))


def get(connection: Connection, project_id: int, config_id: int) -> LLMConfig:
    """One configuration, without its key; 404 where there is none, or none any more."""
    row = row_by_id(connection, table, project_id, "LLM config", config_id)
    if (name := row.document.get(DELETED_NAME)) is not None:
        raise Problem(404, f"the LLM config {config_id}, {name!r}, was deleted: name another one")
    return _document(row)


def find_ids(connection: Connection, project_id: int, name: str | None) -> list[int]:
    """Ids in order of creation."""
    query = select(table.c.id).where(table.c.project_id == project_id, _THERE)
    query = query.order_by(table.c.id)
    if name is not None:
        query = query.where(table.c.name == name)
    return list(connection.scalars(query))


def documents(connection: Connection, project_id: int, ids: Iterable[int]) -> dict[int, LLMConfig]:
    """The configurations of these ids, without their keys; stand-ins too."""
    rows = rows_by_id(connection, table, project_id, ids)
    return {config_id: _document(row) for config_id, row in rows.items()}


def stored(
    config_id: int, name: str, document: str, api_key: str | None, is_default: int
) -> StoredConfig:
    """A configuration with its key, from its columns as the driver has them."""
    read = read_json(document)
    config = readable({**read, "id": config_id, "name": name})
    return StoredConfig(config, api_key, bool(is_default), read.get(DELETED_NAME))


def default_id(connection: Connection, project_id: int) -> int:
    """Id of the configuration that stands for the server's own model."""
    ((config_id,),) = fetch(connection, _DEFAULT, project_id)
    return config_id


def remove(connection: Connection, project_id: int, config_id: int, deletion: Deletion) -> None:
    """Delete one; where it cascades also one that is referred to, which leaves a stand-in."""
    row = connection.execute(
        select(table).where(table.c.project_id == project_id, table.c.id == config_id, _THERE)
    ).one_or_none()
    if row is None:
        raise not_found("LLM config", config_id)
    if row.is_default:
        raise Problem(400, "the default LLM config stands for the server's model and stays")
    deletion.require(connection, "LLM config", config_id, f"LLM config {row.name!r}")
    this = table.c.id == config_id
    if not deletion.is_about_any(connection, "LLM config", config_id):
        connection.execute(delete(table).where(this))
        return
    values = {
        # Its own name is free again.
        "name": f"{row.name} (deleted, id {config_id})",
        "document": {**row.document, DELETED_NAME: row.name},
        "api_key": None,
    }
    connection.execute(update(table).where(this).values(**values))


def _find(connection: Connection, project_id: int, name: str) -> AnyRow | None:
    query = select(table).where(table.c.project_id == project_id, table.c.name == name)
    return connection.execute(query).one_or_none()


def _insert(
    connection: Connection, project_id: int, config: LLMConfig, api_key: str | None
) -> AnyRow:
    (config_id,) = reserve_ids(connection, table)
    connection.execute(
        insert(table),
        {
            "id": config_id,
            "project_id": project_id,
            "name": config.name,
            "document": config.model_dump(mode="json", exclude={"id", "name", "api_key"}),
            "api_key": api_key,
            "is_default": api_key is None and config.name == DEFAULT_NAME,
            "created_at": now(),
        },
    )
    return connection.execute(select(table).where(table.c.id == config_id)).one()


def _document(row: AnyRow) -> LLMConfig:
    return readable({**row.document, "id": row.id, "name": row.name})
