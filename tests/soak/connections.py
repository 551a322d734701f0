"""Hostile connections to ``elluminate-async serve``: is a rightful client still served?

``python -m tests.soak.connections --hostile 2000`` prints a line of JSON and fails when a rightful
request took longer than a second at the 99th percentile, when one was not answered, or when the
server took more than 300 MiB. The hostile ones, which have no key, are a process of their own and
come again when they are closed: silent ones, headers that dribble, headers of 0.9 MB without an
end, bodies that are announced and do not come. Half of the rightful requests open a connection.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from tests.server.program import Program, serving

KINDS = ("silent", "dribble", "large", "body")
_LARGE = 900_000
_AGAIN = 0.2  # seconds until one that was closed comes again
_PAUSE = 0.01  # seconds between two rightful requests
MOST_SECONDS, MOST_MIB = 1.0, 300


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hostile", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=20)
    given = parser.parse_args(arguments)
    found = figures(given.hostile, given.seconds)
    sys.stdout.write(json.dumps(found) + "\n")
    assert found["failed"] == 0, "rightful requests failed"
    assert found["p99_seconds"] < MOST_SECONDS
    assert found["peak_mib"] < MOST_MIB


def figures(hostile: int, seconds: float) -> dict[str, Any]:
    """What a rightful client saw in that time, and what the server took."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving("--db", str(Path(folder) / "s.db")) as program,
    ):
        context = multiprocessing.get_context("spawn")
        ready, opened = context.Event(), context.Value("l", 0)
        parts = urlsplit(program.url)
        attacker = context.Process(
            target=_attack, args=(parts.hostname, parts.port, hostile, ready, opened), daemon=True
        )
        attacker.start()
        try:
            ready.wait()
            times, failed = asyncio.run(_ask(program, seconds))
        finally:
            attacker.kill()
            attacker.join()
        times.sort()
        return {
            "hostile": hostile,
            "hostile_connections_made": opened.value,
            "requests": len(times),
            "failed": failed.total(),
            "p50_seconds": round(times[len(times) // 2], 4),
            "p99_seconds": round(times[len(times) * 99 // 100], 4),
            "longest_seconds": round(times[-1], 4),
            "peak_mib": _peak_mib(program.process.pid),
        }


async def _ask(program: Program, seconds: float) -> tuple[list[float], Counter[str]]:
    times, failed = list[float](), Counter[str]()
    until = time.perf_counter() + seconds
    async with aiohttp.ClientSession(headers={"X-API-Key": program.key}) as session:
        for number in itertools.count():
            started = time.perf_counter()
            if started > until:
                return times, failed
            headers = {"Connection": "close"} if number % 2 else {}
            try:
                async with session.get(f"{program.url}/api/v0/projects", headers=headers) as got:
                    await got.read()
                    failed.update([str(got.status)] if got.status != 200 else [])
            except aiohttp.ClientError as error:
                failed[type(error).__name__] += 1
            times.append(time.perf_counter() - started)
            await asyncio.sleep(_PAUSE)
    raise AssertionError


def _attack(host: str, port: int, count: int, ready: Any, opened: Any) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_attack_all(host, port, count, ready, opened))


async def _attack_all(host: str, port: int, count: int, ready: Any, opened: Any) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(_attack_one(host, port, KINDS[number % len(KINDS)], opened))
        await asyncio.sleep(2)
        ready.set()


async def _attack_one(host: str, port: int, kind: str, opened: Any) -> None:
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            opened.value += 1
            dribble: asyncio.Task[None] | None = None
            try:
                dribble = asyncio.create_task(_send(writer, kind))
                await reader.read()
            finally:
                if dribble is not None:
                    dribble.cancel()
                writer.transport.abort()
        await asyncio.sleep(_AGAIN)


async def _send(writer: asyncio.StreamWriter, kind: str) -> None:
    start = b"GET /api/v0/projects HTTP/1.1\r\nHost: localhost\r\n"
    with suppress(OSError):
        match kind:
            case "dribble":
                for number in itertools.count():
                    writer.write(start if not number else b"x: y\r\n")
                    await writer.drain()
                    await asyncio.sleep(0.5)
            case "large":
                writer.write(start + b"x: " + b"x" * _LARGE)
                await writer.drain()
            case "body":
                writer.write(start.replace(b"GET", b"POST") + b"Content-Length: 1000000\r\n\r\n")
                await writer.drain()
            case _:
                pass


def _peak_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main()
