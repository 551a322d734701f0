"""Contender: this client, n rows as n calls, as n calls that may share a chunk, or as one batch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.common.answers import answer, verdict, word
from elluminate_async import AsyncClient, Experiment, PromptResponse, RatingMode

WAYS: dict[str, float | None] = {"batch": None, "calls, coalesced": 0.005, "calls": None}
"""Each way, and the window of its client in seconds."""

Timed = tuple[float, Any]


async def timed(call: Awaitable[Any]) -> Timed:
    """What ``call`` took, and gave."""
    begun = time.perf_counter()
    result = await call
    return time.perf_counter() - begun, result


class Calls:
    """The same rows, generated and rated by one client each way."""

    def __init__(
        self, clients: dict[str, AsyncClient], experiment: Experiment, rows: Sequence[Any]
    ) -> None:
        self._clients = clients
        self._experiment = experiment
        self._rows = rows
        self._responses: list[PromptResponse] = []

    async def measured(self, way: str, operation: str) -> dict[str, float]:
        """How long each call took, once all answers are found to be right."""
        do = self._generated if operation == "generate" else self._rated
        cpu, wall = time.process_time(), time.perf_counter()
        took = await do(self._clients[way], as_batch=way == "batch")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {
            "p50_ms": statistics.median(took) * 1000,
            "worst_ms": max(took) * 1000,
            "seconds": wall,
            "cpu_ms": cpu * 1000,
        }

    async def _generated(self, client: AsyncClient, *, as_batch: bool) -> list[float]:
        where: dict[str, Any] = {"experiment": self._experiment}
        took, responses = await _both(
            self._rows,
            (lambda rows: client.responses.generate_many(template_variables=rows, **where))
            if as_batch
            else None,
            lambda row: client.responses.generate(template_variables=row, **where),
        )
        expected = [answer(number) for number in range(len(self._rows))]
        assert [response.response_str for response in responses] == expected, "a wrong answer"
        self._responses = responses
        return took

    async def _rated(self, client: AsyncClient, *, as_batch: bool) -> list[float]:
        mode: dict[str, Any] = {"rating_mode": RatingMode.FAST}
        took, rated = await _both(
            self._responses,
            (lambda responses: client.ratings.rate_many(responses, **mode)) if as_batch else None,
            lambda response: client.ratings.rate(response, **mode),
        )
        verdicts = [[str(rating.rating) for rating in ratings] for ratings in rated]
        expected = [[verdict(number)] for number in range(len(self._rows))]
        assert verdicts == expected, "a wrong verdict"
        return took


async def _both(
    inputs: Sequence[Any],
    many: Callable[[Sequence[Any]], Awaitable[Any]] | None,
    one: Callable[[Any], Awaitable[Any]],
) -> tuple[list[float], list[Any]]:
    """By one call of many, or by many calls of one: their seconds, and what they gave."""
    if many is not None:
        seconds, batch = await timed(many(inputs))
        return [seconds], list(batch)
    ended = await asyncio.gather(*(timed(one(value)) for value in inputs))
    return [seconds for seconds, _ in ended], [result for _, result in ended]


async def main() -> None:
    """The first line says where the service is and how many rows; each other one what to do."""
    print(json.dumps("ready"), flush=True)
    setup = json.loads(await asyncio.to_thread(sys.stdin.readline))
    async with contextlib.AsyncExitStack() as stack:
        clients = {
            way: await stack.enter_async_context(
                AsyncClient(base_url=setup["url"], api_key=setup["api_key"], coalesce=window)
            )
            for way, window in WAYS.items()
        }
        client = clients["batch"]
        template, _ = await client.prompt_templates.get_or_create(
            "Explain {{word}} in one paragraph.", name="Calls"
        )
        await client.criteria.add_many(["Is it right?"], prompt_template=template)
        collection, _ = await client.collections.get_or_create("words")
        rows = await client.template_variables.add_many(
            [{"word": word(number)} for number in range(setup["rows"])], collection=collection
        )
        experiment, _ = await client.experiments.get_or_create(
            "calls", prompt_template=template, collection=collection
        )
        calls = Calls(clients, experiment, list(rows))
        print(json.dumps("set up"), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await calls.measured(**json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
