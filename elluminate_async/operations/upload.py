"""`Upload`: chunks of rows, added to a collection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from anyio.lowlevel import checkpoint

from elluminate_async.engine.chunks import Item
from elluminate_async.engine.item_errors import unknown_outcome
from elluminate_async.engine.memory import whole_request
from elluminate_async.engine.operation import ChunkRefusedError
from elluminate_async.engine.records import UnfinishedChunk
from elluminate_async.engine.recovery import fingerprint_of
from elluminate_async.errors import ElluminateError, PayloadTooLargeError, RejectedError
from elluminate_async.errors.arguments import flag
from elluminate_async.operations.base import ChunkOperation
from elluminate_async.operations.chunk_log import ResentChunk, in_doubt, not_own, not_there
from elluminate_async.operations.connection import decode_list
from elluminate_async.operations.context import CallContext
from elluminate_async.operations.earlier_rows import EarlierRows
from elluminate_async.operations.existing_rows import ExistingRows, content_key
from elluminate_async.operations.replaying import Post, replayed
from elluminate_async.operations.starting import check_halves
from elluminate_async.schemas.template_variables import JSONL_CONTENT_TYPE, TemplateVariables
from elluminate_async.schemas.version import Capability
from elluminate_async.transport.exchange import multipart_file

if TYPE_CHECKING:
    from pathlib import Path

    from elluminate_async.batch import BatchOptions
    from elluminate_async.engine.operation import Outcomes
    from elluminate_async.operations.json_input import QueryValue

ROWS_PER_UPLOAD = 1_000
"""Rows in one upload at most; ``chunk_bytes`` bounds it too."""


class Upload(ChunkOperation[bytes, TemplateVariables]):
    """Adds rows, each written as one line of JSON, to a collection.

    Args:
        context: Of the call.
        collection_id: Where they go.
        skip_existing: Give an equal value the row that exists.
        total: Number of positions, where it is known beforehand.
        journal: Path of the call's journal.
        rows_at_once: In one upload at most.
    """

    of: ClassVar[type | None] = TemplateVariables

    # One after another, so that the rows keep their order.
    max_in_flight: ClassVar[int | None] = 1

    def __init__(
        self,
        context: CallContext,
        collection_id: int,
        *,
        skip_existing: bool,
        total: int | None,
        journal: Path | None,
        rows_at_once: int = ROWS_PER_UPLOAD,
    ) -> None:
        super().__init__(context, "add", total=total, journal=journal)
        self._collection_id = collection_id
        self._rows_at_once = rows_at_once
        self._entries = ("collections", collection_id, "entries")
        self._skip_existing = flag(skip_existing, "skip_existing")
        self._existing = ExistingRows(context, self._entries)
        self._earlier = EarlierRows(context, self._entries, shared=self._skip_existing)

    def _with(self, context: CallContext) -> Self:
        return type(self)(
            context,
            self._collection_id,
            skip_existing=self._skip_existing,
            total=self._total,
            journal=self._journal,
            rows_at_once=self._rows_at_once,
        )

    @property
    def options(self) -> BatchOptions:
        """The options of the call, with chunks of the size of an upload."""
        return self.context.options.replace(chunk_size=self._rows_at_once)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments by which a journal knows the call."""
        return {"collection": self._collection_id, "skip_existing": self._skip_existing}

    def fingerprint(self, value: bytes) -> str:
        """Equal for equal rows."""
        return fingerprint_of(value)

    def reference(self, value: bytes, result: TemplateVariables) -> int:
        """The id of the row."""
        return result.id

    async def _send(
        self, items: Sequence[Item[bytes]], unfinished: UnfinishedChunk | None
    ) -> Outcomes[TemplateVariables]:
        rows = await self._rows_of(items, unfinished)
        left = {item.position for item in items}
        # Of equal rows each goes to one position, those that have theirs included.
        for item in items if unfinished is None else whole_request(unfinished, items):
            if (row := rows.take(item.value)) is not None and item.position in left:
                yield item.position, row

    async def _rows_of(
        self, items: Sequence[Item[bytes]], unfinished: UnfinishedChunk | None
    ) -> _RowsByContent:
        """Upload one chunk; the rows that its values have now."""
        whole = items if unfinished is None else whole_request(unfinished, items)
        request = items if self._skip_existing else whole
        lines = dict.fromkeys(item.value for item in items) if self._skip_existing else None
        content = b"\n".join(lines or [item.value for item in request])
        created = _RowsByContent((item.value for item in whole), shared=self._skip_existing)
        # Before anything is sent: the answer is worked through without a pause.
        await checkpoint()
        if unfinished is None or self._skip_existing:
            # Rows that exist are skipped, so an upload that an earlier run began does no harm.
            intent = self.log.intend([item.position for item in items], content, {})
            rows = await self._post(content, intent)
        else:
            await self.log.require_same(unfinished, content)
            with in_doubt():
                rows = await self._post(content, ResentChunk(unfinished.key))
        created.add(rows)
        if self._skip_existing:
            self._existing.added(rows)
            if before := [item.value for item in items if not created.has(item.value)]:
                created.add(await self._existing.find(before))
        return created

    async def _post(self, content: bytes, sending: ResentChunk) -> list[TemplateVariables]:
        connection, policy = self.context.connection, self.context.policy

        async def post(content: bytes, sending: ResentChunk) -> list[TemplateVariables]:
            body, kind = multipart_file("file", "variables.jsonl", content, JSONL_CONTENT_TYPE)
            query: dict[str, QueryValue] = {"skip_existing": self._skip_existing}
            if self._skip_existing and await connection.has(Capability.ITEM_KEYS, policy):
                # Then those that exist need not be looked for.
                query["return_existing"] = True
            what = Post(
                (*self._entries, "batches"),
                body,
                query=query,
                content_type=kind,
                harmless=self._skip_existing,
            )
            read = partial(decode_list, TemplateVariables)
            return await replayed(connection, what, read, policy, sending)

        try:
            return await post(content, sending)
        except ElluminateError as error:
            if await connection.has(Capability.IDEMPOTENCY_KEYS, policy):
                await check_halves(error, sending, partial(post, b""))
            if error.ambiguous and not self._skip_existing:
                raise unknown_outcome(error, self.name) from None
            if isinstance(error, RejectedError | PayloadTooLargeError):
                raise ChunkRefusedError(error) from None
            raise

    async def fetch(
        self, items: Sequence[Item[bytes]], references: Mapping[int, int]
    ) -> Outcomes[TemplateVariables]:
        """The rows of these ids, by position, as they are at the service now."""
        with self.log.reading():
            ids = {item.position: int(references[item.position]) for item in items}
        rows = await self._earlier.find({*ids.values()})
        for item in items:
            position, row = item.position, rows.get(ids[item.position])
            if row is None:
                yield position, not_there(position, self.name, "row")
            elif content_key(row.input_values) != content_key(json.loads(item.value)):
                yield position, not_own(position, self.name, f"row {row.id}")
            else:
                yield position, row


class _RowsByContent:
    """Rows of the service by content; of equal rows each is taken once, unless shared.

    Args:
        values: Those that are looked for, as JSON.
        shared: Give one row to all equal values.
    """

    def __init__(self, values: Iterable[bytes], *, shared: bool) -> None:
        self._shared = shared
        self._keys = {value: content_key(json.loads(value)) for value in values}
        self._rows: dict[str, list[TemplateVariables]] = {}
        self._key_of: dict[int, str] = {}

    def add(self, rows: Iterable[TemplateVariables]) -> None:
        for row in rows:
            key = content_key(row.input_values)
            # An id stands for one row: what comes a second time under it is none.
            if row.id not in self._key_of or (self._shared and self._key_of[row.id] == key):
                self._key_of[row.id] = key
                self._rows.setdefault(key, []).append(row)

    def has(self, encoded: bytes) -> bool:
        return self._keys[encoded] in self._rows

    def take(self, encoded: bytes) -> TemplateVariables | None:
        rows = self._rows.get(self._keys[encoded])
        if not rows:
            return None
        return rows[0] if self._shared else rows.pop(0)
