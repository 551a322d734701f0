"""Template variables: the rows of a collection, called entries on the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from elluminate_async.schemas.base import ListOf, Once, WireModel
from elluminate_async.schemas.collections import Collection, EnvironmentChange, with_defaults

JSONL_CONTENT_TYPE = "application/jsonl"
"""Type of the one file part of ``POST entries/batches``."""


class TemplateVariables(WireModel):
    """One row: a value for each placeholder.

    Attributes:
        input_values: Column name to value, any JSON.
        collection: The collection it belongs to.
        environment_config: Where agents work on it, in place of the collection's.
    """

    id: int
    input_values: dict[str, Any]
    collection: Once[Collection | None] = None
    environment_config: dict[str, Any] | None = None
    created_at: datetime | None = None


def prompt_values(row: TemplateVariables) -> Mapping[str, Any]:
    """The values of a row as prompts have them: with the defaults of its collection's columns."""
    columns = [] if row.collection is None else row.collection.columns
    return with_defaults(columns, row.input_values)


class CollectionWithEntries(Collection):
    """A collection with all its rows, as created and fetched by id."""

    variables: ListOf[TemplateVariables] = []


class EntryRequest(WireModel):
    """Body of ``POST entries``; exactly one of the first two keys is not null.

    ``input_values`` of null means: let the model make one row for the template.
    """

    input_values: dict[str, Any] | None = None
    prompt_template_id: int | None = None
    environment_config: dict[str, Any] | None = None


class UpdateEntryRequest(EnvironmentChange):
    """Body of ``PUT entries/{id}``."""

    input_values: dict[str, Any]
