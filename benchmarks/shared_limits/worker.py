"""One of the processes: a client with a share, and tasks that ask as fast as it lets them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Collection
from contextlib import aclosing
from typing import Any

from benchmarks.shared_limits.server import WORKERS_IDS
from elluminate_async import AsyncClient, BatchOptions, FileShare, RateLimit
from elluminate_async.batch.share import LimitShare
from elluminate_async.limits.limits import Limits

TASKS = 32

# Ray tells on the standard output of an actor that died: what is said there is not an answer.
_answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def share_of(spec: dict[str, Any]) -> LimitShare | None:
    """The share that a line of JSON names; None for none."""
    match spec["kind"]:
        case "redis":
            from elluminate_async.integrations.redis import RedisShare

            return RedisShare(spec["url"], name=spec["name"])
        case "file":
            return FileShare(spec["path"], name=spec["name"])
        case "ray":
            from elluminate_async.integrations.ray import RayShare

            return RayShare(spec["name"])
        case _:
            return None


async def asking(task: dict[str, Any]) -> dict[str, float]:
    """Ask, in many tasks, until the time is over; how often, and the CPU that it took."""
    limit = RateLimit(task["requests"], task["period"])
    options = BatchOptions(rate_limit=limit, share=share_of(task["share"]), max_concurrency=TASKS)
    ids = itertools.count(1)  # of each another one, as what is asked for at once is asked once
    key = f"worker-{task['worker']}"
    async with AsyncClient(base_url=task["url"], api_key=key, options=options) as client:
        asked = 0

        async def ask() -> None:
            nonlocal asked
            while True:
                id = next(ids)
                config = await client.llm_configs.get(id=id)
                assert config.id == id
                asked += 1

        end = await told_to_begin()
        began = time.process_time()
        tasks = [asyncio.create_task(ask()) for _ in range(TASKS)]
        ended, _ = await asyncio.wait(
            tasks,
            timeout=end - time.monotonic(),
            return_when=asyncio.FIRST_EXCEPTION,
        )
        used = time.process_time() - began
        again = await cancelled(tasks)
        for one in ended:
            one.result()
        return {"count": asked, "cpu_seconds": used, "cancelled_again": again}


async def cancelled(tasks: Collection[asyncio.Task[None]]) -> int:
    """Cancel them all; how many went on, and had to be told again."""
    left, again = set(tasks), -len(tasks)
    while left:
        again += len(left)
        for one in left:
            one.cancel()
        _, left = await asyncio.wait(left, timeout=5)
    return again


async def admitting(task: dict[str, Any]) -> dict[str, float]:
    """The same without any request: what the limits cost by themselves."""
    limit = RateLimit(task["requests"], task["period"])
    limits = Limits(TASKS, limit, share=share_of(task["share"]))
    admitted = 0

    async def ask() -> None:
        nonlocal admitted
        while True:
            limits.ended(await limits.admit())
            admitted += 1

    limits.ended(await limits.admit())  # what is shared is there by then
    end = await told_to_begin()
    began = time.process_time()
    tasks = [asyncio.create_task(ask()) for _ in range(TASKS)]
    await asyncio.sleep(end - time.monotonic())
    used = time.process_time() - began
    await cancelled(tasks)
    await limits.aclose()
    return {"count": admitted, "cpu_seconds": used}


async def told_to_begin() -> float:
    """Wait until all are open, and for the moment to begin at; when to end."""
    answer("open")
    times = json.loads(await asyncio.to_thread(sys.stdin.readline))
    await asyncio.sleep(times["begin"] - time.monotonic())
    end: float = times["end"]
    return end


async def generating(task: dict[str, Any]) -> dict[str, float]:
    """Generate items until the time is over; how many came, and the CPU that it took."""
    limit = RateLimit(task["requests"], task["period"])
    options = BatchOptions(
        item_limit=limit, share=share_of(task["share"]), chunk_size=task["chunk"]
    )
    first = task["worker"] * WORKERS_IDS + 1
    async with AsyncClient(
        base_url=task["items_url"], api_key=task["items_key"], options=options
    ) as client:
        template, _ = await client.prompt_templates.get_or_create("say {{n}}", name="Echo")
        collection, _ = await client.collections.get_or_create("values")
        experiment, _ = await client.experiments.get_or_create(
            f"run {task['worker']}", prompt_template=template, collection=collection
        )
        end = await told_to_begin()
        began, done = time.process_time(), 0
        stream = client.responses.stream_generate_many(
            template_variables=itertools.count(first), experiment=experiment
        )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(end - time.monotonic()), aclosing(stream):
                async for _ in stream:
                    done += 1
        return {"count": done, "cpu_seconds": time.process_time() - began}


MODES = {"ask": asking, "generate": generating, "admit": admitting}


def answer(value: object) -> None:
    """One line of JSON."""
    _answers.write(json.dumps(value) + "\n")
    _answers.flush()


def main() -> None:
    """Do what each line says, and answer with what it took."""
    logging.basicConfig(level=logging.ERROR)
    answer("ready")
    for line in sys.stdin:
        task = json.loads(line)
        if task["share"].get("cluster"):
            join(task["share"]["cluster"])
        answer(asyncio.run(MODES[task["mode"]](task)))


def join(address: str) -> None:
    """Be a driver in that cluster of Ray."""
    from importlib import import_module

    ray: Any = import_module("ray")
    if not ray.is_initialized():
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
        )


if __name__ == "__main__":
    main()
