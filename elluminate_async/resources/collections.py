"""``client.collections``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias

from elluminate_async.errors import InputError
from elluminate_async.errors.arguments import flag, optional_flag
from elluminate_async.operations.connection import decode
from elluminate_async.operations.json_input import (
    check_lookup,
    check_name,
    checked_input,
    conversations_of,
    json_object,
    json_row,
)
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.references import id_of, optional_id
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource, cascading, got_or_created
from elluminate_async.schemas.base import UNSET, Unset
from elluminate_async.schemas.collections import (
    Collection,
    CollectionType,
    Column,
    CreateCollectionRequest,
    UpdateCollectionRequest,
)
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.tables.reading import Row, Table, rows_of

Rows: TypeAlias = Iterable[Row] | Table
"""Mappings of column names to values, or a table."""


class CollectionsResource(Resource):
    """Tables of template variables. Their rows are ``client.template_variables``.

    ``Rows`` are an iterable of mappings of column names to values, or a table of a library. A
    ``CollectionType`` is one of STANDARD, AGENTIC and PERSONA; the ``column_type`` of a `Column`
    one of text, json, category, conversation, raw_input and persona_goal. ``Unset`` is the type of
    what was not given.
    """

    def list(
        self,
        *,
        compatible_prompt_template: PromptTemplate | int | None = None,
        strict: bool = False,
    ) -> Listing[Collection]:
        """All collections, or those whose columns fit a template's placeholders.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = {
            "compatible_prompt_template_id": optional_id(
                compatible_prompt_template, PromptTemplate, "compatible_prompt_template"
            )
        }
        return Listing(self._connection, Collection, "collections", query=query, strict=strict)

    async def get(self, name: str | None = None, *, id: int | None = None) -> Collection:
        """The collection of that id or name, without its rows.

        Raises:
            NotFoundError: There is none.
            InputError: Neither is given, or both, or the name is no text.
        """
        check_lookup(name, id, "a collection")
        if id is not None:
            return decode(
                Collection,
                await self._connection.call("GET", "collections", id_of(id, Collection, "id")),
            )
        query = {"name": name}
        listing = Listing(self._connection, Collection, "collections", query=query)
        return await listing.named("collection", name)

    async def create(
        self,
        name: str | None = None,
        *,
        description: str = "",
        variables: Rows | None = None,
        columns: Sequence[Column | str] | None = None,
        read_only: bool = False,
        collection_type: CollectionType | None = None,
        environment_config: Mapping[str, Any] | None = None,
    ) -> Collection:
        """Create a collection; without a name the service invents one.

        Args:
            name: Unique in the project.
            description: For people.
            variables: First rows, as `client.template_variables.add_many` takes them, a table
                too; sent in this one request, so for many use that.
            columns: Columns in order, or their names; without them the rows decide. Of one without
                a ``column_type`` the service decides what it is.
            read_only: Refuse later changes.
            collection_type: ``STANDARD`` unless given; the rows of ``AGENTIC`` are tasks of agents.
            environment_config: Where agents work: image, limits and the like.

        Raises:
            ConflictError: The name is taken.
            OutcomeUnknownError: It was sent, and whether it was created is not known.
            InputError: The name is empty, or one of a column is, or comes twice; a type is none
                that there is; or a row is none.
            MissingExtraError: A table, without the extra that reads it.
        """
        body = _creation(
            name,
            description,
            variables,
            columns,
            read_only=read_only,
            collection_type=collection_type,
            environment_config=environment_config,
        )
        return await self._created(body)

    async def _created(
        self, body: CreateCollectionRequest, *, harmless: bool = False
    ) -> Collection:
        post = Post(("collections",), body, omit_nulls=True, harmless=harmless)
        read = partial(decode, Collection)
        return await make(self._connection, "create a collection", post, read)

    async def get_or_create(
        self,
        name: str,
        *,
        description: str = "",
        variables: Rows | None = None,
        columns: Sequence[Column | str] | None = None,
        read_only: bool = False,
        collection_type: CollectionType | None = None,
        environment_config: Mapping[str, Any] | None = None,
    ) -> tuple[Collection, bool]:
        """The collection of that name as it is, or a new one; and whether it was created now.

        The other arguments are for a new one only.
        """
        check_name(name, "a collection")
        body = _creation(
            name,
            description,
            variables,
            columns,
            read_only=read_only,
            collection_type=collection_type,
            environment_config=environment_config,
        )
        creation = self._created(body, harmless=True)
        return await got_or_created(creation, lambda _: self.get(name))

    async def update(
        self,
        collection: Collection | int,
        *,
        name: str | None = None,
        description: str | None = None,
        read_only: bool | None = None,
        columns: Sequence[Column | str] | None = None,
        collection_type: CollectionType | None = None,
        environment_config: Mapping[str, Any] | Unset | None = UNSET,
    ) -> Collection:
        """Change a collection; what is None stays, but ``environment_config``, which it clears.

        ``columns`` is the whole new list; one that stays keeps the type that is not said.

        Raises:
            InputError: The name is empty, or one of a column is, or comes twice; or a type is none
                that there is.
        """
        if name is not None:
            check_name(name, "a collection")
        changes: dict[str, Any] = {"collection_type": collection_type}
        if environment_config is not UNSET:
            changes["environment_config"] = json_object(environment_config, "environment_config")
        with checked_input("the collection"):
            body = UpdateCollectionRequest(
                name=name,
                description=description,
                read_only=optional_flag(read_only, "read_only"),
                columns=_columns_of(columns),
                **changes,
            )
        _check_names(body.columns)
        id = id_of(collection, Collection, "collection")
        answer = await self._connection.call("PUT", "collections", id, body=body, omit_nulls=True)
        return decode(Collection, answer)

    async def delete(self, collection: Collection | int, *, cascade: bool = False) -> None:
        """Delete a collection and its rows, and its experiments without responses.

        Args:
            collection: Which one.
            cascade: Delete also the responses that were made from its rows, their ratings, and
                the experiments that have them.

        Raises:
            ConflictError: There are such responses, or work in flight refers to it; the embedded
                server tells how much, and in which experiments.
        """
        id = id_of(collection, Collection, "collection")
        await self._delete("collections", id, query=cascading(cascade))


def _creation(
    name: str | None,
    description: str,
    variables: Rows | None,
    columns: Sequence[Column | str] | None,
    *,
    read_only: bool,
    collection_type: CollectionType | None,
    environment_config: Mapping[str, Any] | None,
) -> CreateCollectionRequest:
    if name is not None:
        check_name(name, "a collection")
    with checked_input("the collection"):
        given = _columns_of(columns)
        body = CreateCollectionRequest(
            name=name,
            description=description,
            variables=None if variables is None else _rows_of(variables, conversations_of(given)),
            columns=given,
            read_only=flag(read_only, "read_only"),
            collection_type=collection_type,
            environment_config=json_object(environment_config, "environment_config"),
        )
    _check_names(body.columns)
    return body


def _rows_of(variables: Rows, conversations: frozenset[str]) -> list[dict[str, Any]]:
    rows = rows_of(variables, "variables")
    if not isinstance(rows, Iterable):
        raise InputError(
            "variables are sent in one request, for which an async iterable is none: pass them to "
            "template_variables.add_many"
        )
    return [json_row(row, f"variables[{index}]", conversations) for index, row in enumerate(rows)]


def _columns_of(columns: Sequence[Column | str] | None) -> list[Column] | None:
    if columns is None:
        return None
    if isinstance(columns, str | Mapping | Column):
        raise InputError("columns must be a list of names: pass [x] for one")
    return [
        Column(name=column, column_position=position) if isinstance(column, str) else column
        for position, column in enumerate(columns)
    ]


def _check_names(columns: list[Column] | None) -> None:
    """Raise `InputError` for columns that the service would rename, or make one of."""
    # One without a name is named by the service.
    names = [column.name for column in columns or () if column.name is not None]
    if not all(names):
        raise InputError("the name of a column must not be empty")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"the column {twice[0]!r} comes twice")
