"""Fixtures for pytest; a suite opts in by naming this module in its ``pytest_plugins``.

The service runs in a thread with an event loop of its own, so that the fixtures are the same
for sync tests, for pytest-asyncio and for anyio's plugin::

    def test_it(elluminate_service):
        elluminate_service.faults.append(Fault("429", times=1))
        ...                                  # run the program on elluminate_service.url
        assert elluminate_service.ledger.generations == 3
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeAlias

import pytest

from elluminate_async.testing.exchange import Traffic
from elluminate_async.testing.ledger import Ledger
from elluminate_async.testing.service import ScriptedService, TakesExchanges
from elluminate_async.testing.store import ServiceScript

_START = 10.0  # seconds


class ThreadedService:
    """A `ScriptedService` in a thread; entered without ``async``."""

    def __init__(self, service: ScriptedService) -> None:
        self.service = service
        self._thread = threading.Thread(target=self._run, name="elluminate-service", daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """For ``base_url``."""
        return self.service.url

    @property
    def api_key(self) -> str:
        """For ``api_key``."""
        return self.service.api_key

    @property
    def ledger(self) -> Ledger:
        """The record of what was really done."""
        return self.service.ledger

    @property
    def traffic(self) -> Traffic:
        """The requests that arrived."""
        return self.service.traffic

    @property
    def script(self) -> ServiceScript:
        """How it behaves; may be changed."""
        return self.service.script

    @property
    def faults(self) -> list[TakesExchanges]:
        """The faults; may be changed."""
        return self.service.faults

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START):
            raise RuntimeError("the scripted service did not start")
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self.service:
                self._ready.set()
                await self._stop.wait()
        except OSError as error:
            self._failure = error
            self._ready.set()


ServiceFactory: TypeAlias = Callable[..., ThreadedService]
"""Takes the arguments of `ScriptedService`."""


@pytest.fixture
def elluminate_service_factory() -> Generator[ServiceFactory]:
    """Makes services with arguments of their own; all end with the test."""
    with ExitStack() as stack:

        def make(**arguments: Any) -> ThreadedService:
            return stack.enter_context(ThreadedService(ScriptedService(**arguments)))

        yield make


@pytest.fixture
def elluminate_service(elluminate_service_factory: ServiceFactory) -> ThreadedService:
    """A service with idempotency keys and results, and no faults."""
    return elluminate_service_factory()
