"""`Sendings`: whether a chunk is sent once more, after what became of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from elluminate_async.engine.operation import ChunkRefusedError
from elluminate_async.errors import ElluminateError, OutcomeUnknownError
from elluminate_async.operations.run_keys import may_ask_anew, may_be_sealed

if TYPE_CHECKING:
    from elluminate_async.operations.run_keys import Run


@dataclass(slots=True)
class Sendings:
    """The sendings of one chunk.

    Attributes:
        run: Of the call.
        deadline_at: `time.monotonic` at which the call ends.
        most: How often it is sent while nothing is known of it.
        is_keyed: Whether the service knows its items by their keys.
        is_matched: Whether its rows are found in a listing, which may show them late.
        goes_on: Whether there is another sending, where there is something left to send.
        anew: Whether that is one under another key, as what was begun under the run's is of no
            use any more.
        problem: What is wrong with the items that have no outcome.
    """

    run: Run | None
    deadline_at: float
    most: int = 1
    is_keyed: bool = False
    is_matched: bool = False
    goes_on: bool = True
    anew: bool = False
    problem: ElluminateError | None = None
    _count: int = 0

    def came(self, latest: ElluminateError | None) -> None:
        """A sending has ended, with ``latest`` for what has no outcome by it."""
        self._count += 1
        self.problem = latest if self.anew else self.problem or latest
        if time.monotonic() >= self.deadline_at:
            self.goes_on = False
        elif self._is_undone(latest):
            self.anew = True
        else:
            is_unknown = isinstance(latest, OutcomeUnknownError)
            self.goes_on = is_unknown and self._count < self.most

    def _is_undone(self, latest: ElluminateError | None) -> bool:
        """Whether its job, which may be another process's, has left it undone, or cannot tell."""
        if self.run is None or self.anew or self.is_matched:
            return False
        return may_ask_anew(latest, is_keyed=self.is_keyed)

    def failed(self, error: ElluminateError | ChunkRefusedError) -> bool:
        """A sending came to nothing; whether ``error`` tells of the items what there is to tell."""
        refused = error.error if isinstance(error, ChunkRefusedError) else None
        is_shared = self.run is not None and not self.is_keyed
        if refused and is_shared and not self.anew and may_be_sealed(refused):
            self.anew = True
            return False
        # What is not known of the first sending stays so.
        self.goes_on = False
        return self._count == 0 or (refused is not None and self.anew)
