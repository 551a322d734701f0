"""Collections: tables of template variables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import (
    AfterValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from elluminate_async.schemas.base import ListOf, WireModel, check_one_of

ColumnType: TypeAlias = Literal[
    "text", "json", "category", "conversation", "raw_input", "persona_goal"
]
"""The kind of a column's cells."""

CollectionType: TypeAlias = Literal["STANDARD", "AGENTIC", "PERSONA"]
"""The use of a collection's rows."""

COLUMN_TYPES: Final[tuple[ColumnType, ...]] = get_args(ColumnType)
COLLECTION_TYPES: Final[tuple[CollectionType, ...]] = get_args(CollectionType)


class Column(WireModel):
    """One column of a collection.

    Attributes:
        column_type: One of `ColumnType`; another word of the service is kept as it is. Without one
            the service decides.
        default_value: What a prompt has for it where a row has no cell, or a null; none if empty.
        categorical_values: The values of a ``category``; a row may have another.
    """

    id: int | None = None
    name: str | None = None
    column_type: str | None = None
    default_value: str | None = ""
    column_position: int | None = 0
    categorical_values: ListOf[str] | None = None


def with_defaults(columns: Iterable[Column], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The ``values`` of a row as a prompt has them: without a cell, that of its column."""
    missing = {
        column.name: column.default_value
        for column in columns
        if column.default_value and column.name and values.get(column.name) is None
    }
    return {**values, **missing} if missing else values


def _of_known_type(column: Column) -> Column:
    check_one_of(column.column_type, COLUMN_TYPES, "column_type")
    return column


NewColumn = Annotated[Column, AfterValidator(_of_known_type)]
"""A column that is sent: its type is one of `ColumnType`, or left to the service."""


class Collection(WireModel):
    """A collection without its rows, as listed and nested.

    Attributes:
        variables_count: Rows it had when this was read.
        collection_type: One of `CollectionType`; another word of the service is kept.
        environment_config: Where agents work on its rows: image, limits and the like.
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
    columns: ListOf[NewColumn] | None = None
    read_only: bool = False
    collection_type: CollectionType | None = None
    environment_config: dict[str, Any] | None = None


class EnvironmentChange(WireModel):
    """Body of a ``PUT`` that may set an environment, or clear it by the null that is given."""

    environment_config: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _keep_clearing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        document: dict[str, Any] = serialize(self)
        if "environment_config" in self.model_fields_set:
            document["environment_config"] = self.environment_config
        return document


class UpdateCollectionRequest(EnvironmentChange):
    """Body of ``PUT collections/{id}``; nulls are not sent and change nothing."""

    name: str | None = None
    description: str | None = None
    read_only: bool | None = None
    columns: ListOf[NewColumn] | None = None
    collection_type: CollectionType | None = None
