"""Toxics: what spoils the connections of a `FaultProxy`, each in one direction.

They are Toxiproxy's (https://github.com/Shopify/toxiproxy), with seconds for its milliseconds
and bytes for its kilobytes. One that acts "after a while" counts from the first byte that the
connection has in its direction.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Direction: TypeAlias = Literal["upstream", "downstream"]
"""``upstream`` is from the client to the service."""


class Close(Exception):
    """Raised by a toxic: the connection is closed here."""


class Reset(Exception):
    """Raised by a toxic: the connection is reset here."""


@dataclass(slots=True)
class Flow:
    """One direction of one connection, as a toxic sees it.

    Attributes:
        arrived: When the piece that is being passed on came in.
        passed: Bytes that came in before it.
    """

    random: random.Random
    arrived: float = 0.0
    passed: int = 0
    _fired: set[Toxic] = field(default_factory=set["Toxic"])

    def fired(self, toxic: Toxic) -> None:
        """Count ``toxic`` as having done something to this connection."""
        if toxic not in self._fired:
            self._fired.add(toxic)
            toxic.fired += 1


class Toxic:
    """A fault of one direction of a proxy's connections; this base changes nothing.

    Args:
        direction: Which of the two.
        toxicity: Share of the connections that it happens to, 0 to 1.

    Attributes:
        fired: On how many connections it did something.
        fires_at_once: Whether that is so from the first byte on; else it calls `Flow.fired`.
    """

    fires_at_once = True

    def __init__(self, direction: Direction = "downstream", *, toxicity: float = 1.0) -> None:
        self.direction = direction
        self.toxicity = toxicity
        self.fired = 0

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """The pieces to pass on, when their time has come."""
        yield data

    async def finish(self, flow: Flow) -> None:
        """The sender has closed; return when that may be passed on."""


class Latency(Toxic):
    """Delay every piece by ``seconds``, more or less by up to ``jitter``."""

    def __init__(
        self,
        seconds: float,
        *,
        jitter: float = 0.0,
        direction: Direction = "downstream",
        toxicity: float = 1.0,
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.seconds = seconds
        self.jitter = jitter

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """After the delay, counted from the arrival."""
        wait = self.seconds + flow.random.uniform(-self.jitter, self.jitter)
        await asyncio.sleep(max(0.0, flow.arrived + wait - time.monotonic()))
        yield data


class Bandwidth(Toxic):
    """Pass on at most so many bytes a second."""

    def __init__(
        self,
        bytes_per_second: float,
        *,
        direction: Direction = "downstream",
        toxicity: float = 1.0,
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.bytes_per_second = bytes_per_second

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """In pieces of a tenth of a second each."""
        size = max(1, int(self.bytes_per_second / 10))
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            await asyncio.sleep(len(piece) / self.bytes_per_second)
            yield piece


class SlowClose(Toxic):
    """Pass on the end of the connection only after ``seconds``."""

    fires_at_once = False

    def __init__(
        self, seconds: float, *, direction: Direction = "downstream", toxicity: float = 1.0
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.seconds = seconds

    async def finish(self, flow: Flow) -> None:
        """Wait."""
        flow.fired(self)
        await asyncio.sleep(self.seconds)


class Timeout(Toxic):
    """Pass on nothing, and close after ``seconds``; with 0 the connection stays open."""

    def __init__(
        self, seconds: float, *, direction: Direction = "downstream", toxicity: float = 1.0
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.seconds = seconds

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """Never."""
        if self.seconds == 0:
            await asyncio.Event().wait()
        await asyncio.sleep(self.seconds)
        raise Close
        yield data


class ResetPeer(Toxic):
    """Pass on nothing, and reset the connection after ``seconds``."""

    def __init__(
        self, seconds: float = 0.0, *, direction: Direction = "downstream", toxicity: float = 1.0
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.seconds = seconds

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """Never."""
        await asyncio.sleep(self.seconds)
        raise Reset
        yield data


class Slicer(Toxic):
    """Cut what is sent into pieces of about ``size`` bytes, ``delay`` seconds apart."""

    def __init__(
        self,
        size: int,
        *,
        variation: int = 0,
        delay: float = 0.0,
        direction: Direction = "downstream",
        toxicity: float = 1.0,
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.size = size
        self.variation = variation
        self.delay = delay

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """Piece by piece."""
        while data:
            size = max(1, self.size + flow.random.randint(-self.variation, self.variation))
            yield data[:size]
            data = data[size:]
            await asyncio.sleep(self.delay)


class LimitData(Toxic):
    """Close the connection once it has passed on so many bytes."""

    fires_at_once = False

    def __init__(
        self, limit: int, *, direction: Direction = "downstream", toxicity: float = 1.0
    ) -> None:
        super().__init__(direction, toxicity=toxicity)
        self.limit = limit

    async def feed(self, data: bytes, flow: Flow) -> AsyncGenerator[bytes]:
        """The bytes that are left of the limit."""
        left = self.limit - flow.passed
        if len(data) < left:
            yield data
            return
        flow.fired(self)
        yield data[: max(0, left)]
        raise Close
