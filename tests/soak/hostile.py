"""``python -m tests.soak.hostile``: what hostile answers cost the client, beside `json.loads`.

Each kind is answered once, by a server of its own process, to a client in a process of its own,
so that its peak is its own. Prints one line a kind: bytes, the client's peak as a multiple of
them, its CPU time as a multiple of what `json.loads` takes for the same bytes, the longest that
the event loop was blocked, and how the call ended. Linux only: the peak is reset by
``/proc/self/clear_refs``.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from elluminate_async import AsyncClient, BatchOptions, ElluminateError
from elluminate_async.testing.raw import Connection, RawServer, Received, reply
from tests.soak.hostile_kinds import Kind, kinds

DEADLINE = 20.0
_STATUS = Path("/proc/self/status")
_ENDED = b'{"status":"FAILURE","error_msg":"it ended"}'
_PLAIN: dict[str, bytes] = {
    "/projects": b'{"items":[{"id":1,"name":"p"}],"count":1}',
    "/compatible": b'{"is_compatible":true,"capabilities":["results-with-status"]}',
}
_JOB = reply(202, b'"job"')


@dataclass
class Cost:
    """What one answer cost.

    Attributes:
        peak: Bytes of memory at most, beyond what the process had.
        cpu: Seconds of the event loop's thread.
        loads: Seconds that `json.loads` takes for the body, or for refusing it.
        blocked: Seconds for which the event loop stood still at most.
        seconds: Until the call ended.
        ended: The error's class, or ``answered``.
    """

    kind: str
    bytes: int
    peak: int
    cpu: float
    loads: float
    blocked: float
    seconds: float
    ended: str

    @property
    def line(self) -> str:
        """For the table."""
        times = self.cpu / max(self.loads, 1e-6)
        return (
            f"{self.kind:32} {self.bytes / 1e6:6.1f} MB  peak {self.peak / self.bytes:6.1f} x  "
            f"{self.cpu * 1e3:7.0f} ms = {times:6.1f} x loads  blocked "
            f"{self.blocked * 1e3:6.0f} ms  "
            f"{self.ended}"
        )


class HostileServer:
    """Answers one kind once, and afterwards with what ends the call."""

    def __init__(self, kind: Kind, body: bytes) -> None:
        self._place = kind.place.split()[0]
        if kind.place.startswith(("rating poll", "job id")):
            self._place = kind.place
        if self._place == "event":
            self._hostile = _stream(b"data: " + body + b"\n\ndata: " + _ENDED + b"\n\n")
        else:
            self._hostile = reply(422 if self._place == "error" else 200, body)
        self._served = False

    async def script(self, received: Received, connection: Connection) -> bytes:
        path, method = received.path, received.method
        if not self._served and self._is_for(path, method):
            self._served = True
            return self._hostile
        for end, body in _PLAIN.items():
            if path.endswith(end):
                return reply(200, body)
        if method == "POST":
            return _JOB
        if path.endswith("/stream"):
            return reply(404)
        return reply(200, _ENDED)

    def _is_for(self, path: str, method: str) -> bool:
        return {
            "page": path.endswith("/responses"),
            "poll": path.endswith("/batches/job"),
            "rating poll": path.endswith("/batches/job"),
            "event": path.endswith("/stream"),
            "error": path.endswith("/collections/1"),
            "projects": path.endswith("/projects"),
            "version": path.endswith("/compatible"),
            "single": path.endswith("/responses/1"),
            "collection": path.endswith("/collections/1"),
            "rate": path.endswith("/ratings"),
            "upload": path.endswith("/entries/batches"),
            "job id": path.endswith("/responses/batches") and method == "POST",
        }[self._place]


def _stream(events: bytes) -> bytes:
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        f"Content-Length: {len(events)}\r\n\r\n"
    )
    return head.encode() + events


async def _call(client: AsyncClient, place: str) -> Any:
    match place.split()[0]:
        case "page":
            return await client.responses.list(experiment=1)
        case "poll" | "event" | "job":
            return await client.responses.generate_many(experiment=1, template_variables=[1])
        case "rating":
            return await client.ratings.rate_many([1])
        case "error" | "collection":
            return await client.collections.get(id=1)
        case "projects":
            return await client.projects.list()
        case "version":
            return await client.responses.generate_many(experiment=1, template_variables=[1])
        case "single":
            return await client.responses.get(1)
        case "rate":
            return await client.ratings.rate(1)
        case _:
            return await client.template_variables.add_many([{"x": "a"}], collection=1)


async def _blocking(longest: list[float]) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(0.001)
        now = time.monotonic()
        longest[0] = max(longest[0], now - last)
        last = now


async def _ended(url: str, place: str, longest: list[float]) -> str:
    options = BatchOptions(
        deadline=DEADLINE, max_attempts=1, retry_for=0, settle=0.1, chunk_size=10
    )
    blocking = asyncio.create_task(_blocking(longest))
    try:
        async with AsyncClient(base_url=url, api_key="k", options=options) as client:
            found = await _call(client, place)
    except ElluminateError as error:
        return type(error).__name__
    finally:
        blocking.cancel()
    failed = getattr(found, "failed", None)
    return type(failed[0]).__name__ if failed else "answered"


def _memory(field: str) -> int:
    return int(_STATUS.read_text().split(f"{field}:")[1].split()[0]) * 1024


def _forked(work: Any) -> Any:
    """What ``work`` returns in a fork of this process."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        try:
            os.write(writing, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        found = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(found)


def _seconds_of_loads(body: bytes) -> float:
    best = 1e9
    for _ in range(2):
        started = time.thread_time()
        with suppress(ValueError, RecursionError):
            json.loads(body)
        best = min(best, time.thread_time() - started)
    return best


def _measured(url: str, place: str) -> tuple[int, float, float, float, str]:
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, longest = _memory("VmRSS"), [0.0]
    started, cpu = time.monotonic(), time.thread_time()
    ended = asyncio.run(_ended(url, place, longest))
    cpu, seconds = time.thread_time() - cpu, time.monotonic() - started
    return _memory("VmHWM") - before, cpu, longest[0], seconds, ended


def _serve(kind: Kind, body: bytes, ports: Any) -> None:
    async def serve() -> None:
        async with RawServer(HostileServer(kind, body).script) as server:
            ports.send(server.port)
            await asyncio.Event().wait()

    asyncio.run(serve())


@contextmanager
def _served(kind: Kind, body: bytes) -> Generator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(kind, body, theirs))
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def cost_of(kind: Kind, size: int) -> Cost:
    """What an answer of that kind and about so many bytes costs."""
    body = kind.body(size)
    with _served(kind, body) as url:
        peak, cpu, blocked, seconds, ended = _forked(lambda: _measured(url, kind.place))
    loads = _forked(lambda: _seconds_of_loads(body))
    return Cost(kind.name, len(body), peak, cpu, loads, blocked, seconds, ended)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all kinds, or those whose names hold a word."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=30.0)
    parser.add_argument("--only", default="", help="kinds whose names hold this")
    parser.add_argument("--json", action="store_true", help="one line of JSON a kind")
    options = parser.parse_args(arguments)
    for kind in kinds():
        if options.only in kind.name:
            # An event has a cap of its own.
            size = int(options.megabytes * 1e6)
            size = min(size, 8_000_000) if kind.place.startswith("event") else size
            cost = cost_of(kind, size)
            sys.stdout.write((json.dumps(asdict(cost)) if options.json else cost.line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
