"""An event loop whose clock does not run but jumps: hours of waiting cost no time.

A test module asks for it with::

    @pytest.fixture(scope="module")
    def anyio_backend() -> object:
        return VIRTUAL_TIME

`time.monotonic` is the loop's clock while the loop runs, as the package reads both. While a
thread works for the loop, by `asyncio`'s executors, by `anyio.to_thread` or for a journal, the
clock stands still: an embedded server with its database runs in virtual time, other threads and
other processes do not.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import anyio.to_thread

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")

_GRACE = 0.005  # real seconds in which sockets must be silent before the clock jumps
_TURN = 1e-8  # virtual seconds of a turn: rounding may ask for a time that is not later
_OWN_THREADS = "elluminate-async"  # the name of the package's own, each of which ends with its work
_STUCK = 60.0  # real seconds without a timer and without a socket's event


class VirtualLoop(asyncio.SelectorEventLoop):
    """The clock stands still while anything can run, and then jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._threads_at_work = 0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    @property
    def waits_for_a_thread(self) -> bool:
        """Whether a thread works for this loop."""
        return self._threads_at_work > 0

    def run_forever(self) -> None:
        """Run with `time.monotonic` as this clock."""
        real, time.monotonic = time.monotonic, self.time
        try:
            with _threads_counted():
                super().run_forever()
        finally:
            time.monotonic = real

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As ever; the clock stands still until the result is here."""
        future = super().run_in_executor(executor, func, *args)
        self.thread_begins()
        future.add_done_callback(lambda _: self.thread_ended())
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """As ever, waiting for its threads without a bound, and with the clock stopped.

        From Python 3.12 on a runner gives it 300 s, which here would be over at once.
        """
        del timeout
        self.thread_begins()
        try:
            await super().shutdown_default_executor()
        finally:
            self.thread_ended()

    def thread_begins(self) -> None:
        """Stop the clock, until `thread_ended`."""
        self._threads_at_work += 1

    def thread_ended(self) -> None:
        """Let the clock jump again, unless other threads work."""
        self._threads_at_work -= 1


@contextmanager
def _threads_counted() -> Generator[None]:
    """Tell the virtual loop that a thread gets work from, and that the work is done."""
    submit, run_sync = ThreadPoolExecutor.submit, anyio.to_thread.run_sync
    start = threading.Thread.start

    def counted_submit(self: ThreadPoolExecutor, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = submit(self, *args, **kwargs)
        if isinstance(loop := _running_loop(), VirtualLoop):
            loop.thread_begins()
            future.add_done_callback(lambda _: ended(loop))
        return future

    def ended(loop: VirtualLoop) -> None:
        # A loop that is closed meanwhile has no clock any more.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(loop.thread_ended)

    async def counted_run_sync(*args: Any, **kwargs: Any) -> Any:
        loop = _running_loop()
        if not isinstance(loop, VirtualLoop):
            return await run_sync(*args, **kwargs)
        loop.thread_begins()
        try:
            return await run_sync(*args, **kwargs)
        finally:
            loop.thread_ended()

    def counted_start(self: threading.Thread) -> None:
        loop = _running_loop()
        if self.name != _OWN_THREADS or not isinstance(loop, VirtualLoop):
            return start(self)
        run = self.run

        def counted_run() -> None:
            try:
                run()
            finally:
                ended(loop)

        self.run = counted_run
        loop.thread_begins()
        try:
            start(self)
        except RuntimeError:
            loop.thread_ended()
            raise

    ThreadPoolExecutor.submit = counted_submit
    threading.Thread.start = counted_start
    anyio.to_thread.run_sync = counted_run_sync
    try:
        yield
    finally:
        ThreadPoolExecutor.submit, anyio.to_thread.run_sync = submit, run_sync
        threading.Thread.start = start


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _JumpingSelector(selectors.BaseSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (timeout > 0 and self._loop.waits_for_a_thread):
            # Only another thread or a socket can go on from here.
            ready = self._real.select(_STUCK)
            if not ready:
                raise RuntimeError("the loop waits for something that never happens")
            return ready
        # One file is the loop's own wake-up; with more, an answer may be on its way.
        grace = _GRACE if timeout > 0 and len(self._real.get_map()) > 1 else 0
        ready = self._real.select(grace)
        if not ready:
            self._loop.now += max(_TURN, timeout)
        return ready

    def register(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: FileDescriptorLike) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(
        self, fileobj: FileDescriptorLike, events: int, data: Any = None
    ) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[FileDescriptorLike, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


VIRTUAL_TIME = ("asyncio", {"loop_factory": VirtualLoop})
"""The value that the fixture ``anyio_backend`` returns for virtual time."""


def run_virtually(main: Callable[[], Awaitable[T]]) -> T:
    """The result of ``main()`` in a loop of its own: for a property's single example."""

    async def entry() -> T:
        return await main()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(entry())
