"""`Stage`: a client for one worker of a framework that calls functions, in a loop of its own.

A framework that has workers, such as Ray Data, calls them in threads and loops of its own, and
blocks those when it is held back. A client's clocks must go on all the same: deadlines, limits, and
how long a stream has been silent. So its loop is in a thread that nobody else has, and the worker
waits for what is done there.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from elluminate_async import AsyncClient, BatchOptions

T = TypeVar("T")

_CLOSING_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Connect:
    """How a worker makes its client: what is no secret.

    The key is not among it: each worker has it from its own environment, where
    ``ELLUMINATE_API_KEY`` is.

    Attributes:
        base_url: Where the service is; None takes it from the worker's environment.
        project: As of `AsyncClient`.
        options: As of `AsyncClient`.
    """

    base_url: str | None = None
    project: int | str | None = None
    options: BatchOptions | None = None

    def client(self) -> AsyncClient:
        """A client, which has sent nothing yet.

        Raises:
            ConfigurationError: There is no key here, or a setting cannot work.
        """
        return AsyncClient(base_url=self.base_url, project=self.project, options=self.options)


@dataclass(frozen=True, slots=True)
class _Running:
    """A thread with a loop, and the client that lives there."""

    thread: threading.Thread
    portal: BlockingPortal
    client: AsyncClient


class Stage:
    """A client of its own, and the loop that it lives in.

    Both begin with the first call. They end with `close`, or with the stage itself.

    Args:
        connect: How the client is made.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._finalizer: weakref.finalize[[_Running], Stage] | None = None

    def call(self, work: Callable[[AsyncClient], Awaitable[T]]) -> T:
        """The result of ``await work(client)``, from any thread but the stage's own.

        Who stops to wait, as by Ctrl-C, ends the work.
        """
        running = self._started()
        future = running.portal.start_task_soon(work, running.client)
        try:
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End what still runs, close the client, end the thread; again does nothing."""
        with self._lock:
            finalizer, self._running = self._finalizer, None
        if finalizer is not None:
            finalizer()

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stage belongs to its process: pickle how it connects, a Connect")

    def _started(self) -> _Running:
        with self._lock:
            if self._running is None:
                self._running = _start(self._connect)
                # At the end of the process too, where nobody closes what a framework holds.
                self._finalizer = weakref.finalize(self, _end, self._running)
            return self._running


def _start(connect: Connect) -> _Running:
    opened = Future[tuple[BlockingPortal, AsyncClient]]()
    thread = threading.Thread(
        target=_serve, args=(connect, opened), name="elluminate-async stage", daemon=True
    )
    thread.start()
    return _Running(thread, *opened.result())


def _serve(connect: Connect, opened: Future[tuple[BlockingPortal, AsyncClient]]) -> None:
    async def serve() -> None:
        # Not entered: where the service is away for a moment, that fails rows and not the worker.
        client = connect.client()
        try:
            async with BlockingPortal() as portal:
                opened.set_result((portal, client))
                await portal.sleep_until_stopped()
        finally:
            await client.close()

    try:
        anyio.run(serve)
    except BaseException as error:
        if opened.done():
            raise
        opened.set_exception(error)


def _end(running: _Running) -> None:
    if running.thread is threading.current_thread():
        return  # the garbage of the stage was collected there
    with suppress(RuntimeError):  # it has ended
        running.portal.call(running.portal.stop, True)
    running.thread.join(_CLOSING_SECONDS)
