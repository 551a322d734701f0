"""Hostile bytes: whatever a service answers, a call ends in a result or an `ElluminateError`."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from elluminate_async import AsyncClient, BatchOptions, ElluminateError, Project
from elluminate_async.testing import RawServer
from elluminate_async.testing.raw import Connection, Received
from tests.soak.mutations import DOCUMENTS, EXPERIMENT, PAGE, RESPONSE, STATUS, answer_bytes

WORKERS = 32
LONGEST = 12.0
"""Seconds that one seed may take: its deadline and some for a loaded machine."""

_OPTIONS = BatchOptions(
    max_attempts=1,
    deadline=3.0,
    attempt_timeout=1.0,
    stream_silence=1.0,
    settle=0.1,
    max_retry_after=0.01,
)

Operation: TypeAlias = Callable[[AsyncClient], Awaitable[object]]


# An operation, the document that would be right, and how many of a hundred seeds take it.
OPERATIONS: Sequence[tuple[Operation, object, int]] = [
    (lambda client: client.responses.get(1), RESPONSE, 30),
    (lambda client: _listed(client), PAGE, 25),
    (lambda client: client.experiments.get(id=1), EXPERIMENT, 10),
    (lambda client: client.responses.generate(template_variables=1, experiment=1), RESPONSE, 8),
    (lambda client: client.ratings.rate(1), RESPONSE["ratings"], 8),
    (lambda client: client.projects.list(), PAGE, 5),
    (lambda client: client.criteria.add_many(["?"], prompt_template=1), [], 4),
    (lambda client: client.template_variables.add_many([{"x": "1"}], collection=1), [], 4),
    (lambda client: _generated(client), STATUS, 4),
    (lambda client: client.ratings.rate_many([1]), STATUS, 2),
]


async def _listed(client: AsyncClient) -> object:
    return await client.responses.list(experiment=1)


async def _generated(client: AsyncClient) -> object:
    return await client.responses.generate_many(template_variables=[1], experiment=1)


@dataclass(slots=True)
class FuzzResult:
    """What the seeds ended in."""

    seeds: int = 0
    seconds: float = 0.0
    endings: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        top = ", ".join(f"{count} {name}" for name, count in self.endings.most_common())
        return (
            f"response bytes: {self.seeds} seeds in {self.seconds:.0f} s, "
            f"{len(self.problems)} escaped; {top}"
        )


class _Worker:
    """A server of its own, so that a seed's requests and nobody else's get its bytes."""

    def __init__(
        self, result: FuzzResult, operations: Sequence[tuple[Operation, object, int]]
    ) -> None:
        self._result = result
        self._operations = operations
        self._random = random.Random()
        self._document: object = None
        self._server = RawServer(self._answer)

    async def run(self, seeds: Iterator[int]) -> None:
        async with self._server:
            for seed in seeds:
                await self._one(seed)
                self._server.requests.clear()

    async def _answer(self, received: Received, connection: Connection) -> bytes | None:
        stream = received.path.endswith("/stream")
        document = self._document if self._random.random() < 0.9 else self._random.choice(DOCUMENTS)
        if received.method == "POST" and received.path.endswith("/batches"):
            # So that a job is followed more often than not.
            document = "job"
        data = answer_bytes(self._random, document, stream=stream)
        for piece in self._pieces(data):
            await connection.send(piece)
        return None

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        if self._random.random() < 0.8:
            yield data
            return
        middle = self._random.randint(0, len(data))
        yield data[:middle]
        yield data[middle:]

    async def _one(self, seed: int) -> None:
        self._random = random.Random(seed)
        weights = [weight for _, _, weight in self._operations]
        operation, self._document, _ = self._random.choices(self._operations, weights)[0]
        begun = time.monotonic()
        async with _client(self._server.url) as client:
            try:
                async with asyncio.timeout(LONGEST):
                    await operation(client)
                ending = "result"
            except ElluminateError as error:
                ending = type(error).__name__
            except Exception as error:
                ending = f"ESCAPED {type(error).__name__}"
                text = f"seed {seed}: {type(error).__name__}: {error!s:.200}"
                self._result.problems.append(text)
        if (seconds := time.monotonic() - begun) > LONGEST:
            self._result.problems.append(f"seed {seed}: took {seconds:.1f} s")
        self._result.endings[ending] += 1
        self._result.seeds += 1


def _client(url: str) -> AsyncClient:
    client = AsyncClient(base_url=url, api_key="fuzz", options=_OPTIONS, skip_version_check=True)
    # Selected already: its answer would be fuzzed too, and end most seeds there.
    client._connection._project = Project(id=1, name="fuzz")
    return client


async def fuzz(
    seeds: Sequence[int], operations: Sequence[tuple[Operation, object, int]] = OPERATIONS
) -> FuzzResult:
    """Run each seed once; what escapes is named with its seed."""
    result, begun = FuzzResult(), time.monotonic()

    def leaked(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        result.problems.append(
            f"left behind: {context.get('message')} {context.get('exception')!r}"
        )

    asyncio.get_running_loop().set_exception_handler(leaked)
    todo = iter(seeds)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(WORKERS, len(seeds))):
            tasks.create_task(_Worker(result, operations).run(todo))
    result.seconds = time.monotonic() - begun
    return result
