"""Collections: tables of template variables."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from elluminate_async.schemas.base import ListOf, WireModel


class Column(WireModel):
    """One column of a collection."""

    id: int | None = None
    name: str | None = None
    column_type: str | None = "text"
    default_value: str | None = ""
    column_position: int | None = 0
    categorical_values: ListOf[str] | None = None


class Collection(WireModel):
    """A collection without its rows, as listed and nested.

    Attributes:
        variables_count: Rows it had when this was read.
    """

    id: int
    name: str
    description: str = ""
    columns: ListOf[Column] = Field(default_factory=list[Column])
    variables_count: int = 0
    read_only: bool = False
    version: str | None = None
    collection_type: str | None = "STANDARD"
    environment_config: dict[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class CreateCollectionRequest(WireModel):
    """Body of ``POST collections``; nulls are not sent. Without a name the service makes one."""

    name: str | None = None
    description: str = ""
    variables: ListOf[dict[str, Any]] | None = None
    columns: ListOf[Column] | None = None
    read_only: bool = False
    collection_type: str | None = None


class UpdateCollectionRequest(WireModel):
    """Body of ``PUT collections/{id}``; nulls are not sent and change nothing."""

    name: str | None = None
    description: str | None = None
    read_only: bool | None = None
    columns: ListOf[Column] | None = None
