"""How much of an experiment's log each of those who wait for it has been told."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

MOST_WAITERS: Final = 10_000
"""More are not remembered: the one that has not asked for longest is told all again."""


class LogCursors:
    """Places in logs, by who waits."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[int, UUID], int] = OrderedDict()

    def delta(self, experiment_id: int, waiter: UUID, log: str) -> str | None:
        """The part of a log that ``waiter`` was not told yet; None for nothing."""
        key = (experiment_id, waiter)
        told = self._told.pop(key, 0)
        self._told[key] = len(log)
        if len(self._told) > MOST_WAITERS:
            self._told.popitem(last=False)
        return log[told:] or None
