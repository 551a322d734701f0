"""The server is killed with SIGKILL while it does again what failed of an experiment.

``python -m tests.soak.retries --points 20`` kills it once in each of so many retries, at one model
call after the other, and prints a table. It fails when something was left out, when a response
that was good is not as it was, or when a model was asked again for what was done before the kill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import socket
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi.responses import Response

from elluminate_async import AsyncClient, PromptResponse
from tests.flow.bench import until
from tests.server.endpoint import Endpoint, completion, refusal, running_endpoint
from tests.server.program import Program, serving

WORDS = [f"w{number:02}" for number in range(16)]
FAILED = WORDS[1::2]
UNRATED = WORDS[0]
CALLS = 2 * len(FAILED) + 1
"""Of models, by an undisturbed retry: what failed is generated and rated, what is unrated rated."""

AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Retried:
    """A retry that was killed and went on.

    Attributes:
        repeated: Calls of models that were made again; those in flight at a kill may be.
        missing: Responses that are not good and rated in the end, or not in their place.
        changed: Responses that were good, and are not as they were.
    """

    kills: int
    calls: int
    repeated: int
    missing: int
    changed: int

    @property
    def clean(self) -> bool:
        """Whether what is promised was kept."""
        return not self.missing and not self.changed and self.repeated <= AT_ONCE * self.kills


class Range:
    """A server in a process of its own, whose models are an endpoint of this one."""

    def __init__(self, db: Path, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._db = db
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self._program: Program | None = None
        self._running = AsyncExitStack()
        self._failing = False
        self._number = 0
        self.key = ""
        endpoint.reply = self._reply

    def start(self) -> None:
        """Return when it listens, where it did before."""
        self._program = self._running.enter_context(
            serving(
                *("--db", str(self._db), "--port", str(self._port)),
                *("--max-model-calls", str(AT_ONCE)),
                *("--model", "m", "--llm-base-url", self.endpoint.url),
            )
        )
        self.key = self.key or self._program.key

    async def kill(self) -> None:
        """End it as a lost machine would."""
        assert self._program is not None
        self._program.kill()
        await self._running.aclose()
        self._running = AsyncExitStack()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def _reply(self, body: dict[str, Any]) -> Response:
        prompt = body["messages"][-1]["content"]
        schema = body.get("response_format", {}).get("json_schema")
        if schema is None:
            if self._failing and any(f"Say {word}." in prompt for word in FAILED):
                return refusal(403, "not this one")
            return completion(prompt.upper())
        if self._failing and f"SAY {UNRATED.upper()}." in prompt:
            return refusal(403, "no verdict on this one")
        keys = schema["schema"]["properties"]
        return completion(json.dumps({key: {"verdict": "YES", "reasoning": "so"} for key in keys}))

    def committed(self) -> int:
        """Answers of the last job that are kept."""
        with closing(sqlite3.connect(self._db)) as raw:
            query = "SELECT generated + rated FROM jobs ORDER BY id DESC LIMIT 1"
            # That of the unrated one is there from the start.
            return raw.execute(query).fetchone()[0] - 1

    async def retried(self, client: AsyncClient, kills: Sequence[int]) -> Retried:
        """A retry by one call, in which the server is killed after so many answers each time."""
        self._number += 1
        name = f"retry {self._number}"
        template, _ = await client.prompt_templates.get_or_create("Say {{word}}.", name="Say")
        collection, is_new = await client.collections.get_or_create("words")
        if is_new:
            await client.criteria.add_many(["is it a word?"], prompt_template=template)
            rows = [{"word": word} for word in WORDS]
            await client.template_variables.add_many(rows, collection=collection)
        endpoint = self.endpoint
        self._failing, endpoint.holds_after = True, math.inf
        experiment = await client.experiments.create(
            name, prompt_template=template, collection=collection, generate=True
        )
        self._failing = False
        before = await client.responses.list(experiment=experiment)
        endpoint.requests.clear()
        endpoint.released = asyncio.Event()
        endpoint.holds_after = kills[0]
        retrying = asyncio.create_task(client.experiments.retry_failed(experiment))
        for number, kill in enumerate(kills):
            await until(lambda: len(endpoint.requests) > endpoint.holds_after)
            await until(lambda kill=kill: self.committed() == kill)
            await self.kill()
            endpoint.released.set()
            # Else what the dead one had sent might be counted as its successor's.
            await endpoint.deserted()
            endpoint.released = asyncio.Event()
            later = [*kills, CALLS + 1][number + 1]
            endpoint.holds_after = len(endpoint.requests) + later - kill
            self.start()
        await retrying
        after = await client.responses.list(experiment=experiment)
        calls = Counter(map(_asked, endpoint.requests))
        return Retried(
            kills=len(kills),
            calls=calls.total(),
            repeated=calls.total() - len(calls),
            missing=sum(not _is_well(row) for row in after)
            + (CALLS - len(calls))
            + sum(old.id != new.id for old, new in zip(before, after, strict=True)),
            changed=sum(
                old.model_dump(exclude={"ratings"} if old.ratings == [] else set())
                != new.model_dump(exclude={"ratings"} if old.ratings == [] else set())
                for old, new in zip(before, after, strict=True)
                if not old.error
            ),
        )


def _asked(body: dict[str, Any]) -> tuple[bool, str]:
    """Whether the judge is asked, and of which word; how it is fenced differs each time."""
    (word,) = set(re.findall(r"\bsay (w\d\d)\b", body["messages"][-1]["content"].lower()))
    return "response_format" in body, word


def _is_well(row: PromptResponse) -> bool:
    return not row.error and len(row.ratings) == 1


@asynccontextmanager
async def ranges(folder: Path) -> AsyncGenerator[tuple[Range, AsyncClient]]:
    """A range, and a client that stays while the server comes and goes."""
    async with running_endpoint() as endpoint:
        kills = Range(folder / "s.db", endpoint)
        kills.start()
        try:
            async with AsyncClient(base_url=kills.url, api_key=kills.key) as client:
                yield kills, client
        finally:
            endpoint.released.set()
            await kills.kill()


async def _points(count: int) -> list[Retried]:
    with tempfile.TemporaryDirectory() as folder:
        async with ranges(Path(folder)) as (kills, client):
            return [await kills.retried(client, [point % CALLS]) for point in range(count)]


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=20, help="retries, each killed once")
    found = asyncio.run(_points(parser.parse_args().points))
    names = ("kills", "calls", "repeated", "missing", "changed")
    print("  ".join(f"{name:>9}" for name in names))  # noqa: T201
    sums = [sum(getattr(one, name) for one in found) for name in names]
    print("  ".join(f"{number:9}" for number in sums))  # noqa: T201
    return 0 if all(one.clean for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
