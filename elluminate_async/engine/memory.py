"""The chunks of one call whose outcomes are not known, kept as they were sent.

`Batch.retry_failed` goes on with them: it follows the job that a chunk became, or repeats the
chunk under its very key, which does its work once however often it arrives. Example: of a call
in chunks of 5 the answer to the second POST was lost::

    memory.intend(key, (5, 6, 7, 8, 9), facts)      before it was sent
    memory.conclude(items, failed)                  after its last attempt
    memory.find(7)                                   the chunk, with all its items
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from elluminate_async.engine.chunks import Item
from elluminate_async.engine.records import UnfinishedChunk
from elluminate_async.errors import ItemError, OutcomeUnknownError

KEYS_LAST = 6 * 86_400.0
"""Seconds for which a key is relied on; a service that honours keys keeps them for a week."""

_ELSEWHERE = 1 << 62  # above every position that a call has


@dataclass(slots=True)
class KeptChunk(UnfinishedChunk):
    """A chunk with what it takes to write its request once more.

    Attributes:
        items: All of the request, in its order; empty where some are not in memory.
        sent_at: `time.monotonic` of its first sending.
    """

    items: Sequence[Item[Any]] = ()
    sent_at: float = 0.0

    @property
    def is_safe(self) -> bool:
        """Whether going on with it cannot do its work a second time."""
        fresh = time.monotonic() - self.sent_at < KEYS_LAST
        return self.job_id is not None or (fresh and bool(self.facts.get("keyed")))


class Memory:
    """The chunks that one call remembers: the chunks in flight, then those with unknown outcomes.

    Attributes:
        is_kept: Whether anything is remembered at all: of a stream nothing is, as it cannot
            be retried.
        unread: A journal may know more of the items, and could not be opened yet: a retry
            looks into it first.
    """

    def __init__(self) -> None:
        self.is_kept = False
        self.unread = False
        self._chunk_of: dict[int, KeptChunk] = {}
        self._by_key: dict[str, KeptChunk] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, position: int) -> KeptChunk | None:
        """The chunk in which a position was sent last, while its outcome is not known."""
        return self._chunk_of.get(position)

    def intend(self, key: str, positions: Sequence[int], facts: Mapping[str, Any]) -> None:
        """A chunk is about to be sent."""
        self.forget(positions)
        kept = KeptChunk(key, tuple(positions), facts, sent_at=time.monotonic())
        self._keep(kept, positions)

    def adopt(self, chunk: UnfinishedChunk, items: Sequence[Item[Any]]) -> KeptChunk:
        """A chunk of an earlier run is gone on with by this call."""
        whole = tuple(item.position for item in items) == chunk.positions
        kept = KeptChunk(
            chunk.key,
            chunk.positions,
            chunk.facts,
            chunk.job_id,
            items=tuple(items) if whole else (),
            sent_at=time.monotonic(),
        )
        self._keep(kept, [item.position for item in items])
        return kept

    def take_over(
        self, chunk: KeptChunk, items: Mapping[int, Item[Any]], own: Mapping[int, int]
    ) -> None:
        """A chunk that another call sent has items of this one.

        Args:
            chunk: As that call remembers it.
            items: All items of that call, by their positions there.
            own: Those of this call: their positions there to their positions here.
        """
        if chunk.key in self._by_key:
            return
        # Nobody asks for the others, but the request cannot be repeated without them.
        places = {p: own.get(p, _ELSEWHERE + p) for p in chunk.positions}
        kept = KeptChunk(
            chunk.key,
            tuple(places.values()),
            chunk.facts,
            chunk.job_id,
            items=tuple(replace(items[p], position=place) for p, place in places.items()),
            sent_at=chunk.sent_at,
        )
        self._keep(kept, [own[p] for p in chunk.positions if p in own])

    def accepted(self, key: str, job_id: str) -> None:
        """The service made a job of a chunk."""
        if kept := self._by_key.get(key):
            kept.job_id = job_id

    def forget(self, positions: Iterable[int]) -> None:
        """The outcomes of these are known, or they were not processed."""
        for position in positions:
            kept = self._chunk_of.pop(position, None)
            if kept is not None:
                kept.left.discard(position)
                if not kept.left:
                    self._by_key.pop(kept.key, None)

    def conclude(self, items: Sequence[Item[Any]], failed: Mapping[int, ItemError]) -> None:
        """The sending of ``items`` has ended: keep those whose outcomes are unknown.

        Their errors are told whether there is a way to go on with them.
        """
        unknown = {p: e for p, e in failed.items() if isinstance(e, OutcomeUnknownError)}
        self.forget([item.position for item in items if item.position not in unknown])
        by_position: dict[int, Item[Any]] = {}
        for position, error in unknown.items():
            kept = self._chunk_of.get(position)
            goes_on = kept is not None and kept.is_safe and not is_over(error)
            error.retryable = goes_on or (kept is None and self.unread)
            if kept is not None and not kept.items:
                by_position = by_position or {item.position: item for item in items}
                if by_position.keys() >= {*kept.positions}:
                    kept.items = tuple(by_position[p] for p in kept.positions)

    def keep_only(self, positions: Collection[int]) -> None:
        """Forget all other positions."""
        self.forget([position for position in self._chunk_of if position not in positions])

    def _keep(self, kept: KeptChunk, positions: Iterable[int]) -> None:
        kept.left = set(positions)
        self._by_key[kept.key] = kept
        self._chunk_of.update(dict.fromkeys(kept.left, kept))


def is_over(error: OutcomeUnknownError) -> bool:
    """Whether its job has ended, or is gone, without a word about this item."""
    return error.code == "no_result" or error.status == 404


def whole_request(chunk: UnfinishedChunk, items: Sequence[Item[Any]]) -> Sequence[Item[Any]]:
    """All items of the request of ``chunk``, where they are in memory, else ``items``."""
    return (chunk.items if isinstance(chunk, KeptChunk) else ()) or items
