"""`Retrier`: what a batch's `retry_failed` sends of the call that made it, and how."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from elluminate_async.engine.chunks import Chunk, Item
from elluminate_async.engine.memory import KeptChunk, is_over
from elluminate_async.errors import InputChangedError, ItemError, OutcomeUnknownError

if TYPE_CHECKING:
    from elluminate_async.batch import BatchOptions, Outcome
    from elluminate_async.engine.call import Call

V = TypeVar("V")
R = TypeVar("R")

logger = logging.getLogger("elluminate_async")

RunAgain: TypeAlias = Callable[
    ["Call[V, R]", Sequence[Chunk[V]], Sequence[Item[V]], dict[int, "Outcome[R]"]],
    Awaitable[None],
]
"""Runs a call over chunks that were sent before and over items; fills in their outcomes."""


class Retrier(Generic[V, R]):
    """Kept by a batch, with what it takes to send its failed items once more.

    Attributes:
        memory: The chunks with unknown outcomes, as they were sent.
    """

    def __init__(
        self, call: Call[V, R], failed_items: dict[int, Item[V]], run_again: RunAgain[V, R]
    ) -> None:
        self.memory = call.memory
        self._call = call
        self._items = failed_items
        self._never_sent: set[int] = set()
        self._run_again = run_again

    async def __call__(
        self,
        failed: Mapping[int, ItemError],
        outcomes: dict[int, Outcome[R]],
        include_unknown: bool | None,
        options: BatchOptions | None,
    ) -> None:
        """Fill in new outcomes of ``failed``, as `Batch.retry_failed` says."""
        self._take_from_upstream(failed, outcomes)
        chunks, items = self._sorted(failed, include_unknown)
        self._tell_skipped(failed, chunks, items, include_unknown)
        if not chunks and not items:
            return
        call = self._call.operation.renewed(options)
        if call.recovery is not None:
            # What the journal holds of a failed item is its failure. But one that could not be
            # read yet is gone on with, as the first call would have done.
            call.recovery.of_retry = True
            call.recovery.passes_over_outcomes = not self.memory.unread
        try:
            await self._run_again(call, chunks, items, outcomes)
        finally:
            self._never_sent -= outcomes.keys()
            for position, outcome in outcomes.items():
                if not isinstance(outcome, ItemError):
                    self._items.pop(position, None)

    def _sorted(
        self, failed: Mapping[int, ItemError], include_unknown: bool | None
    ) -> tuple[list[Chunk[V]], list[Item[V]]]:
        """The chunks to go on with, and the items to send once more."""
        kept: dict[str, tuple[KeptChunk, list[Item[V]]]] = {}
        to_send: list[Item[V]] = []
        for position, item in sorted(self._items.items()):
            error = failed.get(position)
            if error is None:
                # Settled by a last look at the service.
                continue
            if position in self._never_sent or not isinstance(
                error, OutcomeUnknownError | InputChangedError
            ):
                value = self._call.operation.again(item.value, error)
                item = self._items[position] = replace(item, value=value)
                to_send.append(item)
            elif include_unknown is False or isinstance(error, InputChangedError):
                # Of a changed input nothing is held here that could be sent instead.
                continue
            elif self.memory.unread:
                to_send.append(item)
            elif chunk := self._to_go_on_with(position, error, include_unknown):
                kept.setdefault(chunk.key, (chunk, []))[1].append(item)
            elif include_unknown:
                to_send.append(item)
        return [
            Chunk(tuple(items), (), unfinished=chunk) for chunk, items in kept.values()
        ], to_send

    def _tell_skipped(
        self,
        failed: Mapping[int, ItemError],
        chunks: Sequence[Chunk[V]],
        to_send: Sequence[Item[V]],
        include_unknown: bool | None,
    ) -> None:
        """Log what is not sent, and why: silence would look as if it had failed once more."""
        sent = [*to_send, *(item for chunk in chunks for item in chunk.items)]
        asked = {position for item in sent for position in (item.position, *item.aliases)}
        skipped = {p: error for p, error in failed.items() if p not in asked}
        if not skipped:
            return
        own = {p for item in self._items.values() for p in (item.position, *item.aliases)}
        unknown = sum(isinstance(skipped[p], OutcomeUnknownError) for p in own & skipped.keys())
        changed = sum(isinstance(skipped[p], InputChangedError) for p in own & skipped.keys())
        reasons: list[str] = []
        if unknown and include_unknown is False:
            reasons.append(f"{unknown} with an unknown outcome, as include_unknown is False")
        elif unknown:
            reasons.append(
                f"{unknown} with an unknown outcome that nothing tells without the risk to pay "
                "twice; include_unknown=True sends them anew"
            )
        if changed:
            reasons.append(f"{changed} whose input is another one at the service now")
        if rest := len(skipped) - unknown - changed:
            reasons.append(f"{rest} that failed upstream and have nothing to send")
        level = logging.INFO if include_unknown is False and sent else logging.WARNING
        logger.log(
            level,
            "%s: the retry leaves %d of %d failed items as they are: %s",
            self._call.name,
            len(skipped),
            len(failed),
            "; ".join(reasons),
        )

    def _to_go_on_with(
        self, position: int, error: OutcomeUnknownError, include_unknown: bool | None
    ) -> KeptChunk | None:
        """The chunk that may tell what became of an item, where going on with it pays nothing."""
        chunk = self.memory.find(position)
        if chunk is None or not chunk.is_safe:
            return None
        # What was not told once will hardly be told now, and the caller wants it sent.
        return None if include_unknown and is_over(error) else chunk

    def _take_from_upstream(
        self, failed: Mapping[int, ItemError], outcomes: dict[int, Outcome[R]]
    ) -> None:
        """Take over new errors of what failed upstream, and the items that were repaired there."""
        upstream = self._call.upstream
        if upstream is None:
            return
        own = {p for item in self._items.values() for p in (item.position, *item.aliases)}
        errors, items = upstream.news(failed.keys() - own)
        outcomes |= {p: e for p, e in errors.items() if e is not failed.get(p)}
        self._items |= {item.position: item for item in items}
        self._never_sent.update(item.position for item in items)
