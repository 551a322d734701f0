"""``client.template_variables``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from elluminate_async.batch import Batch, Outcome
from elluminate_async.engine.chunks import Entry, Item, Source, closing
from elluminate_async.engine.run import run_batch, stream_batch
from elluminate_async.errors import InputError, NoTextError
from elluminate_async.operations.chunk_log import JournalPath, journal_path
from elluminate_async.operations.connection import decode
from elluminate_async.operations.context import (
    CallContext,
    first_problems,
    single_policy,
)
from elluminate_async.operations.json_input import (
    checked_input,
    checked_row,
    conversations_of,
    json_object,
    stored_cells,
)
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.references import id_of
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.operations.stored_items import bad_input
from elluminate_async.operations.upload import Upload
from elluminate_async.resources.base import Resource, cascading, shown
from elluminate_async.schemas.base import UNSET, Unset
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.template_variables import (
    EntryRequest,
    TemplateVariables,
    UpdateEntryRequest,
)
from elluminate_async.tables.json_checks import FLAT, problem_in
from elluminate_async.tables.reading import Row, Table, TableRows, length_of, rows_of
from elluminate_async.tables.values import json_cell

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions, ProgressCallback
    from elluminate_async.engine.stream import OutcomeStream

Rows: TypeAlias = Iterable[Row] | AsyncIterable[Row] | Table
"""Rows of column names to values, or a table of pandas, polars, Arrow or another library."""

_written = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


class TemplateVariablesResource(Resource):
    """The rows of collections.

    A ``Row`` is a mapping of column names to values, any JSON; ``Rows`` are an iterable of
    them, plain or async. A ``JournalPath`` is a `str` or an `os.PathLike`. ``Unset`` is the type
    of what was not given.
    """

    def list(
        self, collection: Collection | int, *, strict: bool = False
    ) -> Listing[TemplateVariables]:
        """All rows of a collection, in the order of their creation.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        return Listing(self._connection, TemplateVariables, *_entries(collection), strict=strict)

    async def get(self, id: int, *, collection: Collection | int) -> TemplateVariables:
        """The row of that id."""
        answer = await self._connection.call(
            "GET", *_entries(collection), id_of(id, TemplateVariables, "id")
        )
        return decode(TemplateVariables, answer)

    async def add_to_collection(
        self,
        template_variables: Row,
        collection: Collection | int,
        *,
        environment_config: Mapping[str, Any] | None = None,
        options: BatchOptions | None = None,
    ) -> TemplateVariables:
        """Add one row; an equal row that exists already is returned instead.

        For more than a few rows `add_many` takes one request where this takes many. The
        deadline is that of ``options``, and 300 s at most. ``environment_config`` tells where
        agents work on this row, and makes it another one than a row of the same values.

        Raises:
            NoTextError: A text of the row has half a character.
            InputError: It is no mapping of names to JSON.
        """
        named = _conversations(collection)
        row = encode_row(template_variables, 0, convert=True, conversations=named)
        with checked_input("the environment_config"):
            body = EntryRequest(
                input_values=json.loads(row),
                environment_config=json_object(environment_config, "environment_config"),
            )
        policy = single_policy(self._connection, options)
        post = Post(_entries(collection), body, harmless=True)
        read = partial(decode, TemplateVariables)
        return await make(self._connection, "add a row", post, read, policy)

    async def add_many(
        self,
        values: Rows,
        *,
        collection: Collection | int,
        skip_existing: bool = True,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Batch[TemplateVariables]:
        """Add rows to a collection, in order.

        Args:
            values: n rows, each a mapping of column names to JSON; a generator, plain or
                async, is read as the upload goes. Or a table of pandas, polars, Arrow or another
                library, read with the extra ``tables``; a missing cell of pandas is None. Dates,
                Decimal, numbers of numpy and the like become the JSON that loses nothing, as
                `elluminate_async.tables.values` lists; a `Conversation` becomes its cell.
            collection: Where they go.
            skip_existing: Give a value that the collection has already, or that comes twice
                in ``values``, that one row. Otherwise every value becomes a new row.
            journal: Path of a file that remembers the call: the same call again, also after a
                crash, takes what is done and sends the rest. What failed for good stays so
                until `Batch.retry_failed`; without idempotency keys, what is unknown too. It
                is of this server; a row that was edited since is ``no_result``.
            options: Instead of the client's.
            progress: True shows it, a function is told of it: see `AsyncClient.evaluate`.

        Returns:
            n outcomes, outcome i the row of ``values[i]``. With n = 0 nothing is sent.

        Raises:
            InputError: A value is no mapping of names to what can be JSON without a loss, or
                its conversation is none. Of a sequence and of a table all are looked at before
                anything is sent.
            MissingExtraError: A table, without the extra that reads it.
            JournalError: The journal cannot be used, or is of another call or other inputs.

        Cost: one upload per 1,000 rows or ``chunk_bytes``, one after another so that the
        rows keep their order. Rows that existed already are looked up: one request for each of
        a few where the service answers an equal entry with the row that exists, as the embedded
        server does; else a listing of the collection, read until all have been seen.
        Memory: O(n) results, one upload.
        """
        context = CallContext.begin(self._connection, options)
        named = _conversations(collection)
        rows = rows_of(values, "values")
        if isinstance(rows, Sequence | TableRows):
            check_rows(rows, partial(_encode, named))
        operation = Upload(
            context,
            id_of(collection, Collection, "collection"),
            skip_existing=skip_existing,
            total=length_of(rows),
            journal=journal_path(journal),
        )
        with shown(operation.call(), progress) as call:
            return await run_batch(call, _items(rows, named))

    def stream_add_many(
        self,
        values: Rows,
        *,
        collection: Collection | int,
        skip_existing: bool = True,
        journal: JournalPath | None = None,
        options: BatchOptions | None = None,
    ) -> OutcomeStream[tuple[int, Outcome[TemplateVariables]]]:
        """`add_many` as a stream of (position, outcome), in memory of one upload."""
        context = CallContext.begin(self._connection, options)
        named = _conversations(collection)
        rows = rows_of(values, "values")
        operation = Upload(
            context,
            id_of(collection, Collection, "collection"),
            skip_existing=skip_existing,
            total=length_of(rows),
            journal=journal_path(journal),
        )
        return stream_batch(operation.call(), _items(rows, named), self._connection.tasks)

    async def generate(
        self,
        *,
        collection: Collection | int,
        prompt_template: PromptTemplate | int,
        options: BatchOptions | None = None,
    ) -> TemplateVariables:
        """Let the service's model make up one row for a template's placeholders.

        The deadline is that of ``options``, and 300 s at most.

        Raises:
            ServerError: 424 of the embedded server: the model failed, or its answer is no row.
            OutcomeUnknownError: It was sent, and whether there is a row is not known. With the
                code ``deadline`` the service may still be at it, and add the row later.
        """
        body = EntryRequest(
            prompt_template_id=id_of(prompt_template, PromptTemplate, "prompt_template")
        )
        policy = single_policy(self._connection, options)
        post = Post(_entries(collection), body)
        read = partial(decode, TemplateVariables)
        return await make(self._connection, "generate variables", post, read, policy)

    async def update(
        self,
        template_variables: TemplateVariables | int,
        values: Row,
        *,
        collection: Collection | int,
        environment_config: Mapping[str, Any] | Unset | None = UNSET,
    ) -> TemplateVariables:
        """Replace a row's values; responses keep the prompts that they were made from.

        ``environment_config`` stays unless given; None clears it.

        Raises:
            NoTextError: A text of the row has half a character.
            InputError: It is no mapping of names to JSON.
        """
        row = encode_row(values, 0, convert=True, conversations=_conversations(collection))
        changes: dict[str, Any] = {"input_values": json.loads(row)}
        if environment_config is not UNSET:
            changes["environment_config"] = json_object(environment_config, "environment_config")
        with checked_input("the row"):
            body = UpdateEntryRequest(**changes)
        id = id_of(template_variables, TemplateVariables, "template_variables")
        answer = await self._connection.call(
            "PUT", *_entries(collection), id, body=body, omit_nulls=True
        )
        return decode(TemplateVariables, answer)

    async def delete(
        self,
        template_variables: TemplateVariables | int,
        *,
        collection: Collection | int,
        cascade: bool = False,
    ) -> None:
        """Delete one row; with ``cascade`` the responses made from it too, and their ratings.

        Raises:
            ConflictError: There are such responses, or work in flight refers to it; the embedded
                server tells how much, and in which experiments.
        """
        id = id_of(template_variables, TemplateVariables, "template_variables")
        await self._delete(*_entries(collection), id, query=cascading(cascade))

    async def delete_all(self, collection: Collection | int, *, cascade: bool = False) -> None:
        """Delete all rows of a collection, with ``cascade`` and errors as of `delete`."""
        await self._delete(*_entries(collection), query=cascading(cascade))


def _entries(collection: Collection | int) -> tuple[str | int, ...]:
    return ("collections", id_of(collection, Collection, "collection"), "entries")


def _conversations(collection: Collection | int) -> frozenset[str]:
    return conversations_of(collection.columns if isinstance(collection, Collection) else None)


def _items(
    values: Iterable[Row] | AsyncIterable[Row], conversations: frozenset[str]
) -> Source[bytes]:
    if isinstance(values, AsyncIterable):
        return _items_async(values, conversations)
    # A copy of a list, which the caller may change while the batch runs.
    rows = tuple(values) if isinstance(values, Sequence) else values
    return (_item(position, value, conversations) for position, value in enumerate(rows))


async def _items_async(
    values: AsyncIterable[Row], conversations: frozenset[str]
) -> AsyncIterator[Entry[bytes]]:
    position = 0
    async with closing(values):
        async for value in values:
            yield _item(position, value, conversations)
            position += 1


def _item(position: int, value: object, conversations: frozenset[str]) -> Entry[bytes]:
    try:
        encoded = encode_row(value, position, convert=True, conversations=conversations)
    except NoTextError as error:
        return bad_input(position, str(error))
    return Item(position, encoded, size=len(encoded) + 1)


def encode_row(
    value: object,
    position: int,
    *,
    convert: bool = False,
    name: str = "values",
    conversations: frozenset[str] = frozenset(),
) -> bytes:
    """One line of the upload.

    Args:
        value: Column name to value.
        position: The row's index.
        convert: Convert what tables hold and JSON does not have, where that loses nothing.
        name: What errors call the rows.
        conversations: Columns that hold conversations, where that is known.

    Raises:
        NoTextError: A text in ``value`` has half a character.
        InputError: ``value`` is no mapping of names to JSON, or a conversation in it is none.
    """
    where = f"{name}[{position}]"
    content, kind = dict(checked_row(value, where)), InputError
    # Most rows are flat, and then writing them tells as much as looking at each value.
    is_flat = FLAT.issuperset(map(type, content.values()))
    if conversations or not is_flat:
        content = stored_cells(content, where, conversations)
    problem = None if is_flat else problem_in(content, where, texts=False)
    if problem is not None and convert:
        problem, kind = _convert(content, where)
    if problem is None:
        try:
            return _written(content).encode()
        except UnicodeEncodeError:
            problem = problem_in(content, where)
            kind = NoTextError
        except (TypeError, ValueError, RecursionError) as error:
            problem = problem_in(content, where) or str(error)
    raise kind(f"{where} cannot be written as JSON: {problem}")


def _convert(content: dict[str, object], where: str) -> tuple[str | None, type[InputError]]:
    """Convert a row in place; the problem and its kind where that cannot be done."""
    try:
        for column, cell in content.items():
            # Most cells are texts, which are looked at when they are written.
            if type(cell) is not str:
                content[column] = json_cell(cell, f"{where}[{column!r:.60}]")
    except InputError as error:
        return str(error), type(error)
    return None, InputError


def _encode(conversations: frozenset[str], position: int, row: object) -> bytes:
    return encode_row(row, position, convert=True, conversations=conversations)


def check_rows(rows: Iterable[object], encode: Callable[[int, object], object]) -> None:
    """Raise `InputError` for what ``encode`` refuses, with the first of the positions.

    One with half a character fails alone, when it is sent.
    """
    problems: list[str] = []
    for position, row in enumerate(rows):
        try:
            encode(position, row)
        except NoTextError:
            continue
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(first_problems(problems))
