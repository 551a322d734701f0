"""The one server: it notes when each request arrived, and from which process."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import sys
import time
from typing import Any

from elluminate_async.testing import ScriptedService
from elluminate_async.testing.exchange import Exchange

KEY = b"X-API-Key: worker-"
WORKERS_IDS = 1_000_000
"""Ids of items from one process to the next, by which its items are told."""

_PROJECT = {"id": 1, "name": "Shared", "created_at": "2026-01-01T00:00:00Z"}
_PROJECTS = json.dumps({"items": [_PROJECT | {"updated_at": "2026-01-01T00:00:00Z"}], "count": 1})


class Arrivals:
    """Times, processes and weights of what arrived.

    Attributes:
        refuse: How many requests are refused next, each with a ``Retry-After``.
        hold: Its seconds.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[float, int, int]] = []
        self.refused: list[float] = []
        self.refuse = 0
        self.hold = 0

    def take(self, exchange: Exchange) -> None:
        """Note a request of the scripted service's, and leave it to that."""
        now = time.monotonic()
        if exchange.route == "POST responses/batches":
            items = json.loads(exchange.body)["prompt_response_ins"]
            worker = (items[0]["template_variables_id"] - 1) // WORKERS_IDS
            self.seen.append((now, worker, len(items)))

    def forget(self) -> None:
        """Begin anew."""
        self.seen, self.refused = [], []


class Connection(asyncio.Protocol):
    """One connection of a client's: plain requests without a body, one after another."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Note the moment, and answer."""
        now = time.monotonic()
        self._head += data
        if not self._head.endswith(b"\r\n\r\n"):
            return
        head, self._head = self._head, b""
        path = head.split(b" ", 2)[1]
        _, found, rest = head.partition(KEY)
        self._arrivals.seen.append((now, int(rest[:1]) if found else -1, 1))
        if self._arrivals.refuse and b"llm_configs" in path:
            self._arrivals.refuse -= 1
            self._arrivals.refused.append(now)
            self._answer(429, "{}", f"Retry-After: {self._arrivals.hold}\r\n")
        elif b"llm_configs" in path:
            self._answer(200, f'{{"id": {int(path.rpartition(b"/")[2])}}}')
        elif path.endswith(b"/projects") or b"/projects?" in path:
            self._answer(200, _PROJECTS)
        else:
            self._answer(404, '{"detail": "not here"}')

    def _answer(self, status: int, body: str, headers: str = "") -> None:
        head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\n{headers}"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())


async def serve() -> None:
    """Serve until the input ends; each line is answered with what arrived since the last."""
    # An instrument that waits for its turn would see in one moment what came in several.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    gc.freeze()
    arrivals = Arrivals()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(arrivals), "127.0.0.1", 0, backlog=512
    )
    service = ScriptedService(retain=False, variables=lambda id: {"n": id}, faults=[arrivals])
    async with service, server:
        port = server.sockets[0].getsockname()[1]
        print(
            json.dumps({"url": f"http://127.0.0.1:{port}", "items_url": service.url,
                        "items_key": service.api_key}),
            flush=True,
        )  # fmt: skip
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked: dict[str, Any] = json.loads(line)
            if asked.get("refuse"):
                arrivals.refuse, arrivals.hold = asked["refuse"], asked["hold"]
            found: dict[str, Any] = {"refused": arrivals.refused}
            if asked.get("all"):
                found["seen"] = arrivals.seen
                arrivals.forget()
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(serve())
