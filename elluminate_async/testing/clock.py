"""An event loop whose clock does not run but jumps: hours of waiting cost no time.

A test module asks for it with::

    @pytest.fixture(scope="module")
    def anyio_backend() -> object:
        return VIRTUAL_TIME

`time.monotonic` is the loop's clock while the loop runs, as the package reads both.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

T = TypeVar("T")

_GRACE = 0.005  # real seconds in which sockets must be silent before the clock jumps
_TURN = 1e-8  # virtual seconds of a turn: rounding may ask for a time that is not later
_STUCK = 10.0  # real seconds without a timer and without a socket's event


class VirtualLoop(asyncio.SelectorEventLoop):
    """The clock stands still while anything can run, and then jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self.now

    def run_forever(self) -> None:
        """Run with `time.monotonic` as this clock."""
        real, time.monotonic = time.monotonic, self.time
        try:
            super().run_forever()
        finally:
            time.monotonic = real


class _JumpingSelector(selectors.BaseSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
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
"""What the fixture ``anyio_backend`` returns for virtual time."""


def run_virtually(main: Callable[[], Awaitable[T]]) -> T:
    """The result of ``main()`` in a loop of its own: for a property's single example."""

    async def entry() -> T:
        return await main()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(entry())
