"""A scripted service below the engine: it answers chunks, counts them, and fails as told."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

import anyio

from elluminate_async.batch import BatchOptions
from elluminate_async.engine.call import Call
from elluminate_async.engine.chunks import Item
from elluminate_async.engine.operation import Operation, Outcomes
from elluminate_async.engine.records import Header, UnfinishedChunk
from elluminate_async.errors import ItemError, ItemErrorCode
from elluminate_async.limits.limits import Limits


def entries(count: int) -> list[Item[str]]:
    return [Item(position, f"v{position}") for position in range(count)]


class Service(Operation[str, str]):
    """Answers item ``v`` with ``answer v``, after ``delay`` seconds of virtual time.

    Attributes:
        fault: Called with the items before they are answered; it may raise.
        sent: How often each position was sent.
        chunks: The sizes of the chunks, in order.
        peak: Most chunks at once.
        closed: Chunks whose sending has ended, whichever way.
    """

    def __init__(self, delay: float = 0.0, seed: int = 0) -> None:
        self.name = "generate"
        self.delay = delay
        self.fault: Callable[[Sequence[Item[str]]], None] = lambda items: None
        self.outcome: Callable[[Item[str]], str | ItemError | None] = lambda item: (
            f"answer {item.value}"
        )
        self.sent = Counter[int]()
        self.chunks: list[int] = []
        self.running = self.peak = self.closed = 0
        self._random = random.Random(seed)

    async def send(self, items: Sequence[Item[str]]) -> AsyncIterator[tuple[int, str | ItemError]]:
        self.sent.update(item.position for item in items)
        self.chunks.append(len(items))
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await anyio.sleep(self.delay * self._random.random() * 2)
            self.fault(items)
            for item in self._random.sample(items, len(items)):
                outcome = self.outcome(item)
                if outcome is not None:
                    yield item.position, outcome
        finally:
            self.running -= 1
            self.closed += 1

    def resume(self, items: Sequence[Item[str]], unfinished: UnfinishedChunk) -> Outcomes[str]:
        return self.send(items)

    def fetch(self, items: Sequence[Item[str]], references: Mapping[int, Any]) -> Outcomes[str]:
        raise NotImplementedError

    def fingerprint(self, value: str) -> str:
        return value

    def reference(self, value: str, result: str) -> str:
        return result

    async def header(self) -> Header:
        raise NotImplementedError

    def renewed(self, options: BatchOptions | None) -> Call[str, str]:
        raise NotImplementedError


def failure(item: Item[Any], code: ItemErrorCode = "generation_failed") -> ItemError:
    return ItemError("no answer", position=item.position, code=code, operation="generate")


def call_to(
    service: Service,
    *,
    total: int | None = None,
    limits: Limits | None = None,
    deadline: float = 1000.0,
    max_in_flight: int | None = None,
    **options: Any,
) -> Call[str, str]:
    chosen = BatchOptions(**options)
    return Call(
        service,
        options=chosen,
        limits=limits or Limits(chosen.max_concurrency, None),
        deadline_at=time.monotonic() + deadline,
        total=total,
        max_in_flight=max_in_flight,
    )


def others() -> set[asyncio.Task[Any]]:
    """The tasks beside this one and the test runner's."""
    mine = asyncio.current_task()
    return {t for t in asyncio.all_tasks() if t is not mine and "TestRunner" not in repr(t)}


async def turns(count: int = 10) -> None:
    """So many turns of the loop, in no time."""
    for _ in range(count):
        await asyncio.sleep(0)


def answers(positions: Iterable[int]) -> dict[int, str]:
    return {position: f"answer v{position}" for position in positions}
