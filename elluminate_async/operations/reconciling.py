"""Looking for what a service may show late."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from elluminate_async.errors import DeadlineError, RateLimitError, ServerError, TransportError

if TYPE_CHECKING:
    from elluminate_async.transport.retry import Policy

UNREADABLE = (DeadlineError, TransportError, RateLimitError, ServerError)
"""Errors that keep a listing from being read, for now."""

ENDED_SETTLE = 5.0
"""Seconds to settle what a job that has ended does not show."""

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 15.0


class ReconcileSchedule:
    """When to look, ever more rarely, until nothing new has come for a while.

    Args:
        policy: Its deadline ends it too.
        settle: Seconds without news after which it ends.
    """

    def __init__(self, policy: Policy, settle: float) -> None:
        self._policy = policy
        self._settle = settle
        self._wait = min(_FIRST_WAIT, settle / 4)
        self._quiet_since = time.monotonic()

    async def next_look(self) -> bool:
        """Return when it is time to look again; False when there is no need to."""
        if time.monotonic() - self._quiet_since >= self._settle:
            return False
        try:
            await anyio.sleep(self._policy.clock(self._wait))
        except DeadlineError:
            return False
        self._wait = min(self._wait * 2, _LONGEST_WAIT, self._settle / 4)
        return True

    def news(self) -> None:
        """Note a new row, or a look that failed: the quiet begins anew."""
        self._quiet_since = time.monotonic()
