"""`LimitShare`: how several processes keep one limit together. No I/O.

A share is a small state that all of them can change: in a file, in Redis, in an actor of Ray. Of
each limit it knows until when its slots are given away, so that a process asks for the next ones
and is told when they begin::

    taken = await share.reserve("requests", interval=0.1025, slots=1, guard=1.0, earliest=-0.02)
    await anyio.sleep(taken.delay)      # and send one request

`ShareTable` is the arithmetic of that state, for what keeps it in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable


class Reservation(NamedTuple):
    """Slots that were taken from a share.

    All are seconds from the moment at which `LimitShare.reserve` returned.

    Attributes:
        delay: Until the first slot has begun for certain. Below 0 where it has already.
        hold: Left of the wait that the service asked for; 0 for none. Above 0 no slot was
            taken, and ``delay`` means nothing.
        error: By so much the slot may have begun earlier than that: what the way to the share
            leaves uncertain, its round trip at most.
    """

    delay: float
    hold: float
    error: float


class SharedPace(NamedTuple):
    """The pace of all who share it, which follows the service's refusals.

    Attributes:
        measured: Requests a second that the service took lately, from all together.
        refused_rate: Requests a second at which it last refused one; 0 for never.
        since: Seconds since then; 0 for never.
        hold: Seconds left of the wait that the service asked for; 0 for none.
    """

    measured: float
    refused_rate: float
    since: float
    hold: float


class ShareState(NamedTuple):
    """The state of a share, for who looks whether it works.

    Attributes:
        round_trip: Seconds that it took to read it.
        slots: For how many seconds ahead the slots of each limit are given away; below 0 for how
            long they have not been.
        hold: Seconds left of the wait that the service asked for; 0 for none.
        pace: Of all who share it.
    """

    round_trip: float
    slots: Mapping[str, float]
    hold: float
    pace: SharedPace


@runtime_checkable
class LimitShare(Protocol):
    """One limit for many processes: `FileShare`, ``RedisShare`` and ``RayShare`` are such.

    All times are durations in seconds, as clocks differ: the share's own clock decides.

    An object of it does nothing until it is first used, holds nothing that belongs to one event
    loop or one process only, and is pickled by what it was made with; two made alike are equal
    and have one hash. Each method may be cancelled while it waits, and may be called by several
    tasks at once. It raises `OSError` (`ConnectionError`, `TimeoutError`) where the share cannot
    be reached at the moment, within some seconds, so that it is asked again; and
    `ConfigurationError` where it never can be used as it is, which ends the call.

    Attributes:
        name: Of the limits in it: who gives the same name shares them.
    """

    @property
    def name(self) -> str:
        """Of the limits in it: who gives the same name shares them."""
        ...

    async def reserve(
        self, slot: str, *, interval: float, slots: int, guard: float, earliest: float
    ) -> Reservation:
        """Take ``slots`` consecutive slots of a limit, for this process alone.

        At once for all who ask: no two get the same. The first begins when those given away
        before have ended, and not before ``earliest`` from the moment on at which the share
        decides; below 0 it may have begun so long ago. While a hold is in force no slot is taken.

        Args:
            slot: Of which limit, such as ``"requests"``.
            interval: Seconds from one slot to the next.
            slots: How many, at least 1.
            guard: Where the share knows nothing of the limit, as it is new or was lost, the first
                slot does not begin before so many seconds from now.
            earliest: Seconds from now before which the first slot does not begin.
        """
        ...

    async def hold(self, seconds: float) -> None:
        """Give no slots away for so long; a longer hold in force stays."""
        ...

    async def held(self) -> float:
        """Seconds left of a hold; 0 for none."""
        ...

    async def pace(self, *, accepted: int = 0, refused: float | None = None) -> SharedPace:
        """Tell what the service did, and learn the pace of all.

        Args:
            accepted: Requests that it took since the last call.
            refused: The rate at which it refused one, in requests a second; None where it did
                not. It is kept where no other was in the last second: refusals of one second
                count as one.
        """
        ...

    async def state(self) -> ShareState:
        """The state now; nothing is changed by it."""
        ...

    async def aclose(self) -> None:
        """Close what is open in the running loop and not in use; a later call opens it anew."""
        ...
