"""A server whose database is locked by somebody else, or whose disk is full, for a while."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import aiohttp

from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from elluminate_async.server.llms.base import text_of
from tests.server.api import Answer, Api, batch

Trouble: TypeAlias = Literal["locked", "full"]

JOBS, ITEMS = 6, 10
INTERVAL = 0.5
_TEXT = 3_000  # characters of an answer, so that each needs a page of its own


class PaidModel:
    """Takes its time, by a seed, and counts what it was asked."""

    name = "paid"

    def __init__(self, seed: int) -> None:
        self.asked = Counter[str]()
        self._random = random.Random(seed)

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        prompt = text_of(request.messages[-1])
        self.asked[prompt] += 1
        await asyncio.sleep(self._random.uniform(0.1, 4))
        return ModelAnswer(f"{prompt} " + "x" * _TEXT)

    async def aclose(self) -> None:
        pass


@dataclass
class Outcome:
    """What became of the jobs that were accepted before the trouble, and during it.

    Attributes:
        statuses: Last documents of the jobs.
        asked: Prompts to how often they were asked.
        kept: Prompts to how often their answer is stored.
        refusals: What requests got that had to write, in the midst of the trouble.
        events: Of the stream of the first job, and the seconds it took.
    """

    statuses: list[Any] = field(default_factory=list[Any])
    asked: Counter[str] = field(default_factory=Counter[str])
    kept: Counter[str] = field(default_factory=Counter[str])
    refusals: list[Answer] = field(default_factory=list[Answer])
    events: int = 0
    seconds: float = 0.0

    def check(self) -> None:
        """Every job ended well by itself, and each paid answer is there."""
        assert [one["status"] for one in self.statuses] == ["SUCCESS"] * JOBS
        assert [one["progress"]["failed"] for one in self.statuses] == [0] * JOBS
        assert set(self.asked.values()) == {1}, self.asked.most_common(3)
        assert self.kept == self.asked
        assert self.events <= self.seconds / INTERVAL + 3, (self.events, self.seconds)


@contextmanager
def troubled(server: LocalServer, kind: Trouble) -> Generator[None]:
    """The trouble, for as long as the context lasts."""
    if kind == "locked":
        with closing(sqlite3.connect(server.db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
        return
    _bound(server, 1)  # no less than it has is possible: from now on not a page more
    yield
    _bound(server, 1 << 30)


def _bound(server: LocalServer, pages: int) -> None:
    service = server._service
    assert service is not None
    service.database._writer.submit(
        lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}"), None
    )


async def run(db: Path, kind: Trouble, *, seconds: float, seed: int) -> Outcome:
    """Jobs under way, trouble for so long, and room or the lock again."""
    model, outcome = PaidModel(seed), Outcome()
    dice = random.Random(seed)
    async with (
        aiohttp.ClientSession() as session,
        LocalServer(db=db, model=model, max_model_calls=16) as server,
    ):
        api = Api(session, server)
        words = [f"{job}-{item}" for job in range(JOBS) for item in range(ITEMS)]
        experiment, entries = await api.setup(words)
        tasks = [
            await api.post(
                "/responses/batches", batch(experiment, entries[job * ITEMS : (job + 1) * ITEMS])
            )
            for job in range(JOBS)
        ]
        watching = asyncio.create_task(_watch(api, f"/responses/batches/{tasks[0]}", outcome))
        await asyncio.sleep(dice.uniform(0, 4))
        with troubled(server, kind):
            await asyncio.sleep(seconds / 2)
            for number in range(5):
                body = {"name": f"C{number}", "description": "x" * 10_000}
                outcome.refusals.append(await api("POST", "/collections", body))
            await asyncio.sleep(seconds / 2)
        for task in tasks:
            outcome.statuses.append(await api.ended(f"/responses/batches/{task}"))
        await watching
        outcome.asked = model.asked
        for status in outcome.statuses:
            for row in status["result"]:
                outcome.kept[row["messages"][0]["content"].rstrip("x ")] += 1
    return outcome


async def _watch(api: Api, path: str, outcome: Outcome) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    stream = await api.stream(f"{path}/stream?polling_interval={INTERVAL}")
    outcome.events = stream.count(b"\n\n")
    outcome.seconds = loop.time() - started
