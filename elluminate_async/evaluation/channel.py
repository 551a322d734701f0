"""`Channel`: the outcomes of one step on their way to the next."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence, Set
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from elluminate_async.engine.call import Upstream
from elluminate_async.engine.chunks import CUT, Cut
from elluminate_async.errors import ItemError

if TYPE_CHECKING:
    from elluminate_async.batch import Batch, Outcome
    from elluminate_async.engine.chunks import Item
    from elluminate_async.engine.outcomes import Pairs

T = TypeVar("T")
V = TypeVar("V")

_BUNCHES = 2  # that wait for the next step, which is to slow the one before it down


class Channel(Generic[T]):
    """Outcomes by position, from one step to the next, in bunches.

    Args:
        keep: Whether `finish` is given all outcomes, and passes on those that had not come.
        is_cut: Whether bunches stay apart, so that their chunks can be told beforehand.
    """

    def __init__(self, *, keep: bool, is_cut: bool) -> None:
        self._send, self._receive = anyio.create_memory_object_stream["Pairs[T]"](_BUNCHES)
        self._keep = keep
        self._is_cut = is_cut
        self._seen: set[int] = set()

    async def deliver(self, pairs: Pairs[T]) -> None:
        """Pass on what came; waits while the next step is busy."""
        if self._keep:
            self._seen.update([position for position, _ in pairs])
        # The next step may have ended: by the deadline, or by what ends all.
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._send.send(pairs)

    async def finish(self, batch: Batch[T] | None) -> None:
        """Pass on what a whole ``batch`` has beside what came, and end."""
        if batch is not None:
            outcomes = enumerate(batch.outcomes)
            if rest := [(p, outcome) for p, outcome in outcomes if p not in self._seen]:
                await self.deliver(rest)
        self._send.close()

    async def read(self) -> AsyncGenerator[tuple[int, Outcome[T]] | Cut]:
        """The outcomes as they come, until the step before has ended."""
        with self._receive:
            async for pairs in self._receive:
                for position, outcome in pairs:
                    yield position, outcome
                if self._is_cut:
                    yield CUT

    def close(self) -> None:
        """Close both ends, whatever is left in it."""
        self._send.close()
        self._receive.close()


class StepUpstream(Upstream[V]):
    """The step before, for a retry: what it has repaired since, and what never came from it.

    Args:
        items: What to send for a value, by the position that it has there.
        fan_out: Positions of this step for each of that one.
    """

    def __init__(self, items: Callable[[int, Any], Iterable[Item[V]]], fan_out: int = 1) -> None:
        self._items_of = items
        self._fan_out = fan_out
        self._before: Batch[Any] | None = None

    def follow(self, batch: Batch[Any]) -> None:
        """Take the outcomes of the step before from ``batch`` from now on."""
        self._before = batch

    def news(self, missing: Set[int]) -> tuple[dict[int, ItemError], list[Item[V]]]:
        """Of the ``missing`` positions: the errors they have there now, or their items."""
        errors: dict[int, ItemError] = {}
        items: list[Item[V]] = []
        outcomes: Sequence[Any] = () if self._before is None else self._before.outcomes
        for before in sorted({position // self._fan_out for position in missing}):
            if before >= len(outcomes):
                continue
            outcome = outcomes[before]
            if isinstance(outcome, ItemError):
                first = before * self._fan_out
                own = missing & {*range(first, first + self._fan_out)}
                errors |= {position: outcome.at(position) for position in own}
            else:
                items += [i for i in self._items_of(before, outcome) if i.position in missing]
        return errors, items
