"""`ChunkLog`: the chunks of a call as its batch and its journal know them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from elluminate_async.engine.records import UnfinishedChunk
from elluminate_async.engine.recovery import Recovery
from elluminate_async.errors import (
    ElluminateError,
    InputChangedError,
    InputError,
    ItemError,
    OutcomeUnknownError,
)
from elluminate_async.operations.connection import new_key
from elluminate_async.schemas.version import Capability

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from elluminate_async.operations.context import CallContext

V = TypeVar("V")
R = TypeVar("R")

JournalPath = str | os.PathLike[str]
"""Path of a journal."""


def journal_path(journal: object) -> Path | None:
    """The path of the journal, if there is to be one.

    Raises:
        InputError: It is no path.
    """
    if journal is None:
        return None
    try:
        path = os.fsdecode(os.fsencode(cast("JournalPath", journal)))
        usable = not isinstance(journal, bytes) and path and "\0" not in path
    except (TypeError, UnicodeError):
        path, usable = "", False
    if not usable:
        raise InputError(f"journal must be the path of a file, not {journal!r:.80}")
    return Path(path)


class ChunkLog:
    """Notes the chunks of one call: in the batch's memory, and in its journal.

    Attributes:
        recovery: The use of the journal; None without one.
    """

    def __init__(
        self, context: CallContext, operation: str, recovery: Recovery[Any, Any] | None
    ) -> None:
        self._context = context
        self._operation = operation
        self.recovery = recovery
        self._failures = 0

    def may_halve(self) -> bool:
        """Whether to halve a chunk whose attempts were all answered 500; counts it."""
        self._failures += 1
        return self._failures <= MOST_FAILED

    def reading(self) -> AbstractContextManager[None]:
        """Around the use of what a journal holds: see `Recovery.reading`."""
        return nullcontext() if self.recovery is None else self.recovery.reading()

    def intend(
        self,
        positions: Sequence[int],
        body: bytes,
        facts: Mapping[str, Any],
        key: str | None = None,
    ) -> ChunkIntent:
        """How to send a chunk that was never sent; under a new key, unless it has one."""
        return ChunkIntent(self, positions, body, facts, key or new_key())

    async def note_intent(
        self, key: str, positions: Sequence[int], body: bytes, facts: Mapping[str, Any]
    ) -> None:
        """Have the journal, and the batch, know that a chunk may have been sent.

        Raises:
            JournalError: It does not; the chunk must not be sent.
        """
        memory = self._context.memory
        if self.recovery is None and not memory.is_kept:
            return
        noted = {**facts, "body": _digest(body), "keyed": await self._keyed()}
        if self.recovery is not None:
            await self.recovery.journal.intent(key, positions, noted)
        if memory.is_kept:
            memory.intend(key, positions, noted)

    def note_release(self, positions: Sequence[int]) -> None:
        """Have them know that it was not processed."""
        self._context.memory.forget(positions)
        if self.recovery is not None:
            self.recovery.release(positions)

    async def _keyed(self) -> bool:
        context = self._context
        return await context.connection.has(Capability.IDEMPOTENCY_KEYS, context.policy)

    def accepted(self, key: str, job_id: str) -> None:
        """Note the job that a chunk became."""
        self._failures = 0
        self._context.memory.accepted(key, job_id)
        self._context.connection.telemetry.job(job_id)
        if self.recovery is not None:
            self.recovery.journal.task(key, job_id)

    async def require_same(self, chunk: UnfinishedChunk, body: bytes) -> None:
        """Return when sending a chunk that was sent before cannot do its work twice.

        Raises:
            OutcomeUnknownError: It may.
        """
        # Keys that were not honoured then are new to the service now.
        keyed = chunk.facts.get("keyed") and await self._keyed()
        if not keyed or chunk.facts.get("body") != _digest(body):
            raise OutcomeUnknownError(
                "this item was being sent when its run was ended, and nothing tells whether the "
                "service processed it",
                position=0,
                operation=self._operation,
            )


MOST_FAILED = 12
"""Chunks answered 500 for good before any was taken, until none is halved any more."""


class ResentChunk:
    """A chunk that an earlier run sent and that is sent again: the journal knows of it.

    Attributes:
        key: Its idempotency key.
        of_chunk: True, as `SendLog` has it.
        was_taken: Whether an answer said that it was applied.
    """

    of_chunk = True

    def __init__(self, key: str) -> None:
        self.key = key
        self.was_taken = False

    @property
    def is_out(self) -> bool:
        """Whether the service may have applied it, now or then."""
        return True

    async def before_sending(self) -> None:
        """The chunk is about to leave."""

    def not_applied(self) -> None:
        """The service did nothing with it now, which tells nothing of the earlier run."""

    def taken(self) -> None:
        """An answer said that it was applied: its intent stands, whatever a later one says."""
        self.was_taken = True

    def may_halve(self) -> bool:
        """Whether it may be sent in halves: not where an earlier run has sent it whole."""
        return False


class ChunkIntent(ResentChunk):
    """A chunk to be sent: its idempotency key, and what the journal is told of its sendings.

    The intent is noted once the limits let the chunk go, and taken back when the service
    refused it, so that what waits for its turn counts as never sent; where several processes share
    the limits before it waits, as its turn is then to be used at once. One that stands is not
    noted again, and what ends a wait before a repetition does not take it back.
    """

    def __init__(
        self,
        log: ChunkLog,
        positions: Sequence[int],
        body: bytes,
        facts: Mapping[str, Any],
        key: str,
    ) -> None:
        super().__init__(key)
        self._log = log
        self._positions = positions
        self._body = body
        self._facts = facts
        self._stands = False

    @property
    def is_out(self) -> bool:
        """Whether the service may have applied it."""
        return self._stands

    async def before_sending(self) -> None:
        """The chunk is about to leave.

        Raises:
            JournalError: The journal does not know of it, so it must not.
        """
        if self._stands:
            return
        try:
            await self._log.note_intent(self.key, self._positions, self._body, self._facts)
        except asyncio.CancelledError:
            self.not_applied()
            raise
        self._stands = True

    def may_halve(self) -> bool:
        """Whether it may be sent in halves."""
        return self._log.may_halve()

    def not_applied(self) -> None:
        """The service did nothing with it."""
        if self.was_taken:
            return
        self._stands = False
        self._log.note_release(self._positions)


@contextmanager
def in_doubt() -> Generator[None]:
    """Around what follows a sending: a failure in here does not mean that nothing was done.

    So it is from an accepted job on, and with a chunk that was sent before.
    """
    try:
        yield
    except ElluminateError as error:
        error.ambiguous = True
        raise


def not_there(position: int, operation: str, what: str) -> ItemError:
    """The journal has an item as done, and the service has no value for it any more."""
    return ItemError(
        f"the journal has this item as done, and the service does not have its {what} any more; "
        "`retry_failed` has it made again, at its cost",
        position=position,
        code="no_result",
        operation=operation,
    )


def not_own(position: int, operation: str, what: str) -> InputChangedError:
    """The error where the service has another input's value in the place that the journal names."""
    return InputChangedError(
        f"the journal has this item as done, and {what} of the service is not of this input any "
        "more: it was edited since, or its id is used again. Change it back, or read the inputs "
        "again and call with those and another journal",
        position=position,
        operation=operation,
    )


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
