"""``python -m tests.soak.model_answers``: a model that answers anything, 10,000 times.

Wrong types, huge, cut off, in other languages, with half characters: generated from, rated by
and listed through the embedded server. Every other item is answered as it should be, and is
none the worse for its neighbours. Prints one line, and ends with 1 when a listing could not be
read or such a neighbour failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp

from elluminate_async.schemas import JobStatus, Page, PromptResponse
from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from elluminate_async.server.llms.base import text_of

FIGURES: Sequence[Any] = (
    0, 7, 2**63 - 1, 2**63, 2**70, -1, 1.5, 3.0, float("inf"), float("nan"), float("-inf"),
    "n/a", "12", "", True, None, {}, {"total": 3}, [], [1], b"3", 10**5000, complex(1, 2),
)  # fmt: skip
TEXTS = (
    "", "ordinary", "日本語の答え", "مرحبا بالعالم", "👩‍👩‍👧‍👦", "e\u0301", "\u202e turned",
    "\ud83d", "\udc00 first", "cut \ud83d", "\ud83d\ude00 in halves", "\x00\x01\x1b[31m",
    "\ufeff\u2028", '{"a": 1e999}', '{"a": "\\ud83d"}', '\\"', "{{word}}", "</s>", "null",
    "data: x\n\n",
)  # fmt: skip


@dataclass
class Counts:
    """What came of a run."""

    answers: int = 0
    failed: int = 0
    neighbours: int = 0
    failed_neighbours: int = 0
    unreadable_listings: int = 0


def random_answer(source: random.Random) -> object:
    """Something that a model may say: rarely an answer as it should be."""
    kind = source.randrange(12)
    if kind == 0:
        return source.choice([None, "a text", 5, {}, [], object(), {"text": "x"}])
    text: Any = random_text(source)
    if kind == 1:
        text = source.choice([None, 5, b"bytes", ["a"], {"a": "b"}, float("nan")])
    calls: Any = None
    if kind in (2, 3, 4):
        calls = random_calls(source)
    figures = [source.choice(FIGURES) for _ in range(4)]
    return ModelAnswer(text, calls, *figures)


def random_text(source: random.Random) -> str:
    """A text, seldom a very long one."""
    text = "".join(source.choice(TEXTS) for _ in range(source.randrange(1, 6)))
    roll = source.random()
    if roll < 0.01:
        return text + "x" * (5 << 20)
    if roll < 0.5:
        return text
    return text[: source.randrange(len(text) + 1)]


def random_calls(source: random.Random) -> Any:
    """Tool calls, or what stands in their place."""
    value: Any = source.choice(
        [random_text(source), source.choice(FIGURES), {"n": source.choice(FIGURES)}, {5: 6}]
    )
    for _ in range(source.choice([0, 1, 5, 60, 300, 3000])):
        value = [value] if source.random() < 0.5 else {random_text(source)[:40]: value}
    held: list[Any] = [{"id": random_text(source)[:80], "function": value}]
    if source.random() < 0.1:
        held[0]["itself"] = held
    return source.choice([held, held, value, "calls", {"id": 1}])


def random_verdict(source: random.Random, keys: Sequence[str]) -> object:
    """What a judge may say: often nearly what it was asked for."""
    if source.random() < 0.2:
        return random_answer(source)
    escaped = source.choice(
        ["so", "\\ud83d", "\\udc00", "\\\\ud83d", "\\ud83d\\ude00", "\\u0000", "日本語", "\ud83d"]
    )
    verdict = source.choice(['"YES"', '"NO"', '"NO"', "1e999", "null", '"\\ud83d"', "[]", "{}"])
    parts = [f'"{key}": {{"reasoning": "{escaped}", "verdict": {verdict}}}' for key in keys]
    text = f"{{{', '.join(parts)}}}"
    if source.random() < 0.2:
        text = text[: source.randrange(len(text))]
    return ModelAnswer(text, None, *(source.choice(FIGURES) for _ in range(4)))


class Anything:
    """Answers prompts with "odd" in them with anything, and others as it should.

    Attributes:
        answers: How often it said anything.
    """

    name = "anything"

    def __init__(self, source: random.Random) -> None:
        self.answers = 0
        self._source = source

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """Answer, or rate."""
        await asyncio.sleep(0)
        is_odd = "odd" in "".join(map(text_of, request.messages))
        answer: object
        if request.json_schema is None:
            # A judge that has left forms unread is asked in prose, for one word.
            text = "YES" if request.purpose == "judge" else "fine"
            answer = random_answer(self._source) if is_odd else ModelAnswer(text, None, 1, 2)
        else:
            keys = list(request.json_schema.schema["properties"])
            good = {key: {"reasoning": "so", "verdict": "YES"} for key in keys}
            answer = random_verdict(self._source, keys) if is_odd else ModelAnswer(json.dumps(good))
        self.answers += is_odd
        if is_odd and self._source.random() < 0.05:
            raise ValueError(random_text(self._source))
        return cast("ModelAnswer", answer)

    async def aclose(self) -> None:
        """Hold nothing, give nothing back."""


class _Caller:
    def __init__(self, session: aiohttp.ClientSession, server: LocalServer) -> None:
        self._session = session
        self._url = f"{server.url}/api/v0/projects/1"
        self._headers = {"X-API-Key": server.api_key}

    async def post(self, path: str, body: object) -> Any:
        async with self._session.post(
            f"{self._url}{path}", json=body, headers=self._headers
        ) as response:
            assert response.status < 300, await response.text()
            return await response.json()

    async def raw(self, path: str) -> tuple[int, bytes]:
        async with self._session.get(f"{self._url}{path}", headers=self._headers) as response:
            return response.status, await response.read()

    async def ended(self, path: str) -> bytes:
        _, stream = await self.raw(f"{path}/stream")
        return stream.strip().split(b"\n\n")[-1].removeprefix(b"data: ")


async def run(seed: int, items: int, per_job: int = 100) -> Counts:
    """Generate ``items`` odd ones, each with a neighbour, rate all, list all."""
    counts = Counts()
    model = Anything(random.Random(seed))
    async with (
        LocalServer(model=model) as server,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600)) as session,
    ):
        call = _Caller(session, server)
        message = {"role": "user", "content": "Say {{word}}."}
        await call.post("/prompt_templates", {"name": "T", "messages": [message]})
        criteria = [{"criterion_str": "Is it right?"}, {"criterion_str": "Is it short?"}]
        await call.post("/criteria", {"prompt_template_id": 1, "criteria": criteria})
        words = [f"{'odd' if n % 2 else 'even'} {n}" for n in range(2 * per_job)]
        await call.post("/collections", {"name": "C", "variables": [{"word": w} for w in words]})
        experiment = {"name": "E", "prompt_template_id": 1, "collection_id": 1}
        await call.post("/experiments", experiment)
        for first in range(0, 2 * items, len(words)):
            await _job(call, counts, range(first + 1, first + len(words) + 1))
        listed = 0
        for number in range(1, 2 * items // 100 + 1):
            status, body = await call.raw(f"/responses?experiment_id=1&page={number}")
            page = _read(counts, Page[PromptResponse].model_validate_json, status, body)
            listed += len(page.items) if page is not None else 0
        assert listed == 2 * items or counts.unreadable_listings
        for path in ("/experiments", "/experiments/1"):
            status, body = await call.raw(path)
            _read(counts, json.loads, status, body)
    counts.answers = model.answers
    return counts


async def _job(call: _Caller, counts: Counts, ids: range) -> None:
    entries = range(1, len(ids) + 1)
    items = [{"template_variables_id": one, "experiment_id": 1} for one in entries]
    task = await call.post("/responses/batches", {"prompt_response_ins": items})
    body = await call.ended(f"/responses/batches/{task}")
    status = _read(counts, JobStatus.model_validate_json, 200, body)
    _count(counts, status, len(ids))
    failed = {one.index for one in status.item_failures} if status is not None else set[int]()
    answered = [one for index, one in enumerate(ids) if index not in failed]
    rate = {"prompt_response_ids": answered, "rating_mode": "detailed"}
    task = await call.post("/ratings/batches", rate)
    body = await call.ended(f"/ratings/batches/{task}")
    rated: JobStatus | None = _read(counts, JobStatus.model_validate_json, 200, body)
    if rated is not None:
        bad = {answered[one.index] for one in rated.item_failures}
        counts.failed += len(bad)
        counts.failed_neighbours += sum(one % 2 for one in bad)  # even places have odd ids


def _count(counts: Counts, status: JobStatus | None, size: int) -> None:
    failures = [one.index for one in status.item_failures] if status is not None else []
    counts.neighbours += size // 2
    counts.failed += len(failures)
    counts.failed_neighbours += sum(1 for index in failures if index % 2 == 0)


def _read(counts: Counts, read: Callable[[bytes], Any], status: int, body: bytes) -> Any:
    try:
        assert status == 200, body[:200]
        json.loads(body.decode(), parse_constant=_refuse)
        return read(body)
    except (ValueError, AssertionError) as error:
        counts.unreadable_listings += 1
        sys.stdout.write(f"unreadable: {str(error)[:300]}\n")
        return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def main() -> int:
    """Run it, say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.model_answers", description=__doc__)
    parser.add_argument("--answers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    started = time.monotonic()
    counts = asyncio.run(run(arguments.seed, arguments.answers))
    sys.stdout.write(f"{counts}, {time.monotonic() - started:.0f} s\n")
    return int(bool(counts.unreadable_listings or counts.failed_neighbours))


if __name__ == "__main__":
    sys.exit(main())
