"""`LimitShare`: how several processes keep one limit together. No I/O.

A share is a small state that all of them can change: in a file, in Redis, in an actor of Ray. Of
each limit it knows until when its slots are given away, so that a process asks for the next ones
and is told when they begin::

    wanted = [Slots("requests", interval=0.1025, number=1, guard=1.0)]
    taken = await share.reserve(wanted, earliest=-0.02, latest=1.0)
    await anyio.sleep(taken.delay)      # and send one request

`ShareTable` is the arithmetic of that state, for what keeps it in Python.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol, TypeGuard, runtime_checkable

from elluminate_async.errors import ConfigurationError

LONGEST_GUARD: Final = 1.0
"""Seconds without a slot, where it may have been forgotten what was given away.

Leases are over by then; of slots that are further apart one may be given away twice.
"""

LONGEST_NAME: Final = 200
"""Characters in the name of a share."""


class Slots(NamedTuple):
    """Consecutive slots of one limit that are wanted.

    Attributes:
        limit: Which one, such as ``"requests"``.
        interval: Seconds from one slot to the next.
        number: How many, at least 1.
        guard: Where the share knows nothing of the limit, as it is new or was lost, its first slot
            does not begin before so many seconds from then on, also where none is taken.
        idle: Seconds of this limit that may be left unused, so that its slots begin together
            with those of another.
    """

    limit: str
    interval: float
    number: int
    guard: float
    idle: float = math.inf


class Reservation(NamedTuple):
    """The answer of a share that was asked for slots.

    All are seconds from the moment at which `LimitShare.reserve` returned.

    Attributes:
        is_taken: Whether the slots are this process's.
        delay: Until the first slot has begun for certain; below 0 where it has already. Where
            none was taken, until it would begin; in a hold 0.
        hold: Left of the wait that the service asked for; 0 for none. Above 0 nothing is taken.
        error: By so much the slot may have begun earlier than that: what the way to the share
            leaves uncertain, its round trip at most. `ShareClock` makes it less.
    """

    is_taken: bool
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
        self, wanted: Sequence[Slots], *, earliest: float, latest: float
    ) -> Reservation:
        """Take slots of one limit, or of several that begin at the same moment, all or none.

        At once for all who ask: no two get the same. They begin when those given away before
        have ended, of each limit that is wanted. While a hold is in force none is taken.

        Args:
            wanted: Of each limit at most once.
            earliest: Seconds from the moment at which the share decides before which the first
                slots do not begin; below 0 they may have begun so long ago.
            latest: None are taken where they would begin later than so many seconds from then.
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


def is_name(name: object) -> TypeGuard[str]:
    """Whether a share may have that name: a string that is neither empty nor too long, in UTF-8."""
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME:
        return False
    # Half of a character of two, as of a name that was cut, is none.
    return not any("\ud800" <= character <= "\udfff" for character in name)


def checked_name(name: object) -> str:
    """``name``, which is one of a share.

    Raises:
        ConfigurationError: `is_name` says no.
    """
    if not is_name(name):
        raise ConfigurationError(
            f"name must be a string of 1 to {LONGEST_NAME} characters: who gives the same "
            "name shares the limits"
        )
    return name
