"""The example's service as a process, and an embedded server behind it, on a way that fails."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio

from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from elluminate_async.testing import FaultProxy
from tests.flow.bench import EchoModel

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


class BusyModel(EchoModel):
    """An echoing model that counts its calls in flight."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = 0
        self.peak = 0

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        """Count, and answer."""
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            return await super().complete(request)
        finally:
            self.in_flight -= 1


@dataclass(slots=True)
class Service:
    """The example's service, which can be killed and started again.

    Attributes:
        model: That of the embedded server.
        proxy: Between the service and that server.
        url: Of the service.
        session: Asks it.
    """

    folder: Path
    key: str
    model: BusyModel
    proxy: FaultProxy
    url: str
    session: aiohttp.ClientSession
    process: asyncio.subprocess.Process | None = None
    seconds: list[float] = field(default_factory=list[float])

    async def start(self, app: str) -> None:
        """Return when it answers."""
        environment = {
            **os.environ,
            "ELLUMINATE_BASE_URL": self.proxy.url,
            "ELLUMINATE_API_KEY": self.key,
            "STATE_DIRECTORY": str(self.folder / "state"),
        }
        port = self.url.rpartition(":")[2]
        with (self.folder / "service.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "uvicorn", app, "--port", port, "--no-access-log"),
                cwd=ROOT, env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        with anyio.fail_after(START_SECONDS):
            while True:
                with suppress(aiohttp.ClientConnectionError):
                    await self.session.get("/healthz")
                    return
                assert self.process.returncode is None, self.log()
                await anyio.sleep(0.05)

    def log(self) -> str:
        """What it has said."""
        return (self.folder / "service.log").read_text()

    async def kill(self, how: signal.Signals = signal.SIGKILL) -> int:
        """End it by a signal, and wait for that; its exit code."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        code = await self.process.wait()
        self.process = None
        return code

    async def get(self, path: str) -> tuple[int, Any]:
        """Status and document of a GET."""
        async with self.session.get(path) as response:
            return response.status, await response.json(content_type=None)

    async def ask(self, question: str) -> Asked:
        """One answer."""
        began = time.monotonic()
        async with self.session.post("/answers", params={"question": question}) as response:
            body = await response.read()
        wait = response.headers.get("Retry-After")
        return Asked(response.status, body.decode(), wait, time.monotonic() - began)

    async def hang_up(self, question: str, leave: asyncio.Event) -> None:
        """Ask, and end the connection then."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        target = f"POST /answers?question={question} HTTP/1.1"
        writer.write(f"{target}\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        await leave.wait()
        writer.transport.abort()

    async def held(self) -> Held:
        """What the process holds now."""
        assert self.process is not None
        _, told = await self.get("/_held")
        folder = f"/proc/{self.process.pid}"
        pages = int((await anyio.Path(f"{folder}/statm").read_text()).split()[1])
        return Held(
            told["tasks"],
            len(os.listdir(f"{folder}/fd")),
            round(pages * os.sysconf("SC_PAGESIZE") / (1 << 20), 1),
            told["requests"],
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer of the service."""

    status: int
    body: str
    retry_after: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds; ``requests`` are its client's, in flight."""

    tasks: int
    descriptors: int
    mebibytes: float
    requests: int


@asynccontextmanager
async def serving(
    folder: Path, *, app: str = "examples.service.app:app"
) -> AsyncGenerator[Service]:
    """The service, started, on a server in this process whose database is in the folder."""
    model = BusyModel()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    async with (
        LocalServer(model=model, db=folder / "server.db") as server,
        FaultProxy(server.url) as proxy,
        # None is used again that the application may be closing, after five idle seconds.
        aiohttp.ClientSession(
            url, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=1.0)
        ) as session,
    ):
        service = Service(folder, server.api_key, model, proxy, url, session)
        try:
            await service.start(app)
            yield service
        finally:
            if service.process is not None:
                await service.kill()
