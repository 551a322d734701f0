"""The waits that a service asks for with ``Retry-After``: a pause, or a time without new work."""

from __future__ import annotations

import random
import time

import anyio

_JITTER = 0.1
_ASKED_AGAIN_AFTER = 10.0  # seconds, at least


class Hold:
    """A time in which nothing is sent, as the service asked for it."""

    def __init__(self) -> None:
        self._asked_until = 0.0
        self._until = 0.0

    def begin(self, seconds: float) -> None:
        """Admit nothing for so long; a longer hold in force stays."""
        now = time.monotonic()
        self._asked_until = max(self._asked_until, now + seconds)
        # Late by up to a tenth, never early, so that clients do not return in step.
        until = now + seconds * (1 + random.uniform(0, _JITTER))
        self._until = max(self._until, until)

    def left(self) -> float:
        """Seconds until its end; 0 when there is none."""
        return max(0.0, self._until - time.monotonic()) if self._until else 0.0

    def asked_left(self) -> float:
        """Seconds that are left of the time which the service asked for."""
        return max(0.0, self._asked_until - time.monotonic())

    async def wait(self) -> None:
        """Return when no hold is in force."""
        while (wait := self.left()) > 0:  # noqa: ASYNC110
            await anyio.sleep(wait)


class Refusal:
    """A time in which no work is begun, as the service asked for a wait that nobody waits out.

    Work that it has accepted is followed all the same: it is paid for. And a service may ask for
    years by mistake, so it is asked again after a while.
    """

    def __init__(self) -> None:
        self._asked_until = 0.0
        self._until = 0.0

    def begin(self, seconds: float, longest: float) -> None:
        """Begin no work for ``seconds``, and ask again after ``longest`` where that is less."""
        now = time.monotonic()
        self._asked_until = now + seconds
        self._until = now + min(seconds, max(longest, _ASKED_AGAIN_AFTER))

    def left(self) -> float:
        """Seconds that are left of what the service asked for; 0 once it is to be asked again."""
        now = time.monotonic()
        return self._asked_until - now if now < self._until else 0.0
