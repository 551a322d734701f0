"""``client.template_variables``."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from elluminate_async.batch import Batch, Outcome
from elluminate_async.engine.call import Call, ChunkRefusedError
from elluminate_async.engine.chunks import Entry, Item, Passed, Source, closing
from elluminate_async.engine.endings import unknown_outcome
from elluminate_async.engine.memory import whole_request
from elluminate_async.engine.recovery import fingerprint_of
from elluminate_async.engine.run import run_batch, stream_batch
from elluminate_async.errors import (
    ElluminateError,
    InputError,
    ItemError,
    PayloadTooLargeError,
    RejectedError,
)
from elluminate_async.resources.batches import BatchSetting, first_problems, known_length
from elluminate_async.resources.connection import Resource, decode, decode_list, id_of
from elluminate_async.resources.existing import ExistingRows, content_key
from elluminate_async.resources.journaling import (
    ChunkLog,
    Journal,
    Sending,
    earlier_sending,
    journal_path,
    not_own,
    not_there,
)
from elluminate_async.resources.json_input import FLAT, problem_in
from elluminate_async.resources.pages import Listing
from elluminate_async.resources.starting import check_halves
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.template_variables import (
    JSONL_CONTENT_TYPE,
    EntryRequest,
    TemplateVariables,
)
from elluminate_async.schemas.version import Capability
from elluminate_async.transport.exchange import Answer, multipart_file

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.records import OpenChunk
    from elluminate_async.engine.stream import HostedStream

Row: TypeAlias = Mapping[str, Any]
"""Column name to value, any JSON."""

Rows: TypeAlias = Iterable[Row] | AsyncIterable[Row]

_written = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

ROWS_PER_UPLOAD = 1_000
"""Rows in one upload at most; ``chunk_bytes`` bounds it too."""


class TemplateVariablesResource(Resource):
    """The rows of collections."""

    def list(
        self, collection: Collection | int, *, strict: bool = False
    ) -> Listing[TemplateVariables]:
        """All rows of a collection, in the order of their creation.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        return Listing(self._connection, TemplateVariables, *_entries(collection), strict=strict)

    async def get(self, id: int, *, collection: Collection | int) -> TemplateVariables:
        """The row of that id."""
        answer = await self._connection.call("GET", *_entries(collection), id_of(id, "id"))
        return decode(TemplateVariables, answer)

    async def add_to_collection(
        self, template_variables: Row, collection: Collection | int
    ) -> TemplateVariables:
        """Add one row; an equal row that exists already is returned instead.

        For more than a few rows `add_many` takes one request where this takes many.
        """
        encode_row(template_variables, 0)
        body = EntryRequest(input_values=dict(template_variables))
        answer = await self._connection.call(
            "POST", *_entries(collection), body=body, harmless=True
        )
        return decode(TemplateVariables, answer)

    async def add_many(
        self,
        values: Rows,
        *,
        collection: Collection | int,
        skip_existing: bool = True,
        journal: Journal | None = None,
        options: BatchOptions | None = None,
    ) -> Batch[TemplateVariables]:
        """Add rows to a collection, in order.

        Args:
            values: n rows; a generator, plain or async, is read as the upload goes.
            collection: Where they go.
            skip_existing: Give a value that the collection has already, or that comes twice
                in ``values``, that one row. Otherwise every value becomes a new row.
            journal: Path of a file that remembers the call: the same call again, also after a
                crash, takes what is done and sends the rest. What failed for good stays so
                until `Batch.retry_failed`; without idempotency keys, what is unknown too. It
                is of this server; a row that was edited since is ``no_result``.
            options: Instead of the client's.

        Returns:
            n outcomes, outcome i the row of ``values[i]``. With n = 0 nothing is sent.

        Raises:
            InputError: A value is no mapping of names to JSON. Of a sequence all are
                looked at before anything is sent.
            JournalError: The journal cannot be used, or is of another call or other inputs.

        Cost: one upload per 1,000 rows or ``chunk_bytes``, one after another so that the
        rows keep their order. Rows that existed already are looked up: one request for each of
        a few where the service answers an equal entry with the row that exists, as the embedded
        server does; else a listing of the collection, read until all have been seen.
        Memory: O(n) results, one upload.
        """
        setting = BatchSetting.begin(self._connection, options)
        if isinstance(values, Mapping):
            raise InputError("values must be a list of rows: pass [x] for one")
        if isinstance(values, Sequence):
            _check_rows(cast("Sequence[object]", values))
        call = self._call(
            setting, collection, skip_existing, known_length(values), journal_path(journal)
        )
        return await run_batch(call, _items(values))

    def stream_add_many(
        self,
        values: Rows,
        *,
        collection: Collection | int,
        skip_existing: bool = True,
        journal: Journal | None = None,
        options: BatchOptions | None = None,
    ) -> HostedStream[tuple[int, Outcome[TemplateVariables]]]:
        """`add_many` as a stream of (position, outcome), in memory of one upload."""
        setting = BatchSetting.begin(self._connection, options)
        call = self._call(
            setting, collection, skip_existing, known_length(values), journal_path(journal)
        )
        return stream_batch(call, _items(values), self._connection.tasks)

    def _call(
        self,
        setting: BatchSetting,
        collection: Collection | int,
        skip_existing: bool,
        total: int | None,
        journal: Path | None,
    ) -> Call[bytes, TemplateVariables]:
        upload = _Upload(setting, _entries(collection), skip_existing=skip_existing)
        arguments = {"collection": id_of(collection, "collection"), "skip_existing": skip_existing}
        recovery = upload.log.open_with(
            journal,
            arguments=arguments,
            total=total,
            fingerprint=fingerprint_of,
            reference=lambda _value, row: row.id,
            fetch=upload.fetch,
            resume=partial(self._send_chunk, upload),
        )
        return setting.call(
            "add",
            partial(self._send_chunk, upload),
            partial(self._send_chunk, upload),
            total=total,
            options=setting.options.replace(chunk_size=ROWS_PER_UPLOAD),
            max_in_flight=1,
            recovery=recovery,
            again=lambda anew: self._call(anew, collection, skip_existing, total, journal),
        )

    async def _send_chunk(
        self, upload: _Upload, items: Sequence[Item[bytes]], earlier: OpenChunk | None = None
    ) -> AsyncIterator[tuple[int, TemplateVariables | ItemError]]:
        rows = await upload.send(items, earlier)
        left = {item.position for item in items}
        # Of equal rows each goes to one position, those that have theirs included.
        for item in items if earlier is None else whole_request(earlier, items):
            if (row := rows.take(item.value)) is not None and item.position in left:
                yield item.position, row

    async def generate(
        self, *, collection: Collection | int, prompt_template: PromptTemplate | int
    ) -> TemplateVariables:
        """Let the service's model make up one row for a template's placeholders."""
        body = EntryRequest(prompt_template_id=id_of(prompt_template, "prompt_template"))
        answer = await self._connection.call("POST", *_entries(collection), body=body, keyed=True)
        return decode(TemplateVariables, answer)

    async def delete(
        self, template_variables: TemplateVariables | int, *, collection: Collection | int
    ) -> None:
        """Delete one row."""
        id = id_of(template_variables, "template_variables")
        await self._connection.call("DELETE", *_entries(collection), id_of(id, "id"))

    async def delete_all(self, collection: Collection | int) -> None:
        """Delete all rows of a collection."""
        await self._connection.call("DELETE", *_entries(collection))


class _Found:
    """Rows of the service by content; of equal rows each is taken once, unless shared."""

    def __init__(self, *, shared: bool) -> None:
        self._shared = shared
        self._rows: dict[str, list[TemplateVariables]] = {}

    def add(self, rows: Iterable[TemplateVariables]) -> None:
        for row in rows:
            self._rows.setdefault(content_key(row.input_values), []).append(row)

    def has(self, encoded: bytes) -> bool:
        return content_key(json.loads(encoded)) in self._rows

    def take(self, encoded: bytes) -> TemplateVariables | None:
        rows = self._rows.get(content_key(json.loads(encoded)))
        if not rows:
            return None
        return rows[0] if self._shared else rows.pop(0)


class _Upload:
    """One `add_many` call."""

    def __init__(
        self, setting: BatchSetting, entries: tuple[str | int, ...], *, skip_existing: bool
    ) -> None:
        self.log = ChunkLog(setting, "add")
        self._setting = setting
        self._entries = entries
        self._skip_existing = skip_existing
        self._existing = ExistingRows(setting, entries)
        self._all: dict[int, TemplateVariables] | None = None

    async def send(self, items: Sequence[Item[bytes]], earlier: OpenChunk | None) -> _Found:
        """Upload one chunk; the rows that its values have now."""
        request = items
        if earlier is not None and not self._skip_existing:
            request = whole_request(earlier, items)
        lines = dict.fromkeys(item.value for item in items) if self._skip_existing else None
        content = b"\n".join(lines or [item.value for item in request])
        if earlier is None or self._skip_existing:
            # Rows that exist are skipped, so an upload that an earlier run began does no harm.
            intent = self.log.intend([item.position for item in items], content, {})
            answer = await self._post(content, intent)
        else:
            await self.log.require_same(earlier, content)
            with earlier_sending():
                answer = await self._post(content, Sending(earlier.key))
        created = _Found(shared=self._skip_existing)
        rows = decode_list(TemplateVariables, answer)
        created.add(rows)
        if self._skip_existing:
            self._existing.added(rows)
            if before := [item.value for item in items if not created.has(item.value)]:
                created.add(await self._existing.find(before))
        return created

    async def _post(self, content: bytes, sending: Sending) -> Answer:
        connection, policy = self._setting.connection, self._setting.policy

        async def post(content: bytes, sending: Sending) -> Answer:
            body, kind = multipart_file("file", "variables.jsonl", content, JSONL_CONTENT_TYPE)
            return await connection.call(
                "POST",
                *self._entries,
                "batches",
                query={"skip_existing": self._skip_existing},
                body=body,
                content_type=kind,
                policy=policy,
                keyed=True,
                sending=sending,
                harmless=self._skip_existing,
            )

        try:
            return await post(content, sending)
        except ElluminateError as error:
            if await connection.has(Capability.IDEMPOTENCY_KEYS, policy):
                await check_halves(error, sending, partial(post, b""))
            if error.ambiguous and not self._skip_existing:
                raise unknown_outcome(error, "add") from None
            if isinstance(error, RejectedError | PayloadTooLargeError):
                raise ChunkRefusedError(error) from None
            raise

    async def fetch(
        self, items: Sequence[Item[bytes]], rows: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, TemplateVariables | ItemError]]:
        """The rows of these ids, by position, as they are at the service now."""
        if self._all is None:
            self._all = {row.id: row for row in await self._list()}
        for item in items:
            position, row = item.position, self._all.get(rows[item.position])
            if row is None:
                yield position, not_there(position, "add", "row")
            elif content_key(row.input_values) != content_key(json.loads(item.value)):
                yield position, not_own(position, "add", f"row {row.id}")
            else:
                yield position, row

    async def _list(self) -> list[TemplateVariables]:
        setting = self._setting
        return await Listing(
            setting.connection, TemplateVariables, *self._entries, policy=setting.policy
        )


def _entries(collection: Collection | int) -> tuple[str | int, ...]:
    return ("collections", id_of(collection, "collection"), "entries")


def _items(values: Rows) -> Source[bytes]:
    if isinstance(values, AsyncIterable):
        return _items_async(values)
    # A copy of a list, which the caller may change while the batch runs.
    rows = tuple(values) if isinstance(values, Sequence) else values
    return (_item(position, value) for position, value in enumerate(rows))


async def _items_async(values: AsyncIterable[Row]) -> AsyncIterator[Entry[bytes]]:
    position = 0
    async with closing(values):
        async for value in values:
            yield _item(position, value)
            position += 1


def _item(position: int, value: object) -> Entry[bytes]:
    try:
        encoded = encode_row(value, position)
    except NoTextError as error:
        text = str(error)
    else:
        return Item(position, encoded, size=len(encoded) + 1)
    failed = ItemError(text, position=position, code="bad_input", operation="add", attempts=0)
    return Passed(position, failed)


class NoTextError(InputError):
    """A text of a row has half a character: that row alone cannot be sent."""


def encode_row(value: object, position: int) -> bytes:
    """One line of the upload.

    Raises:
        NoTextError: A text in ``value`` has half a character.
        InputError: ``value`` is no mapping of names to JSON.
    """
    if not isinstance(value, Mapping):
        raise InputError(
            f"values[{position}] must be a mapping of column names to values, such as "
            f"{{'language': 'Python'}}, not {value!r:.80}"
        )
    row = cast("Mapping[object, object]", value)
    if bad := [name for name in row if not isinstance(name, str) or not name]:
        raise InputError(f"values[{position}]: a column name must be a string, not {bad[0]!r:.60}")
    content, kind = dict(row), InputError
    # Most rows are flat, and then writing them tells as much as looking at each value.
    is_flat = FLAT.issuperset(map(type, content.values()))
    problem = None if is_flat else problem_in(content, f"values[{position}]", texts=False)
    if problem is None:
        try:
            return _written(content).encode()
        except UnicodeEncodeError:
            problem = problem_in(content, f"values[{position}]")
            kind = NoTextError
        except (TypeError, ValueError, RecursionError) as error:
            problem = problem_in(content, f"values[{position}]") or str(error)
    raise kind(f"values[{position}] cannot be written as JSON: {problem}")


def _check_rows(values: Sequence[object]) -> None:
    problems: list[str] = []
    for position, value in enumerate(values):
        try:
            encode_row(value, position)
        except NoTextError:
            continue
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(first_problems(problems))
