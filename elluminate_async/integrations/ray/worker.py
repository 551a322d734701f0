"""`Worker`: the callable class that an actor of Ray Data calls with each block."""

from __future__ import annotations

import gc
import sys
from collections import Counter as Tally
from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any, Final

from ray.exceptions import UserCodeException
from ray.util.metrics import Counter, Gauge

from elluminate_async.errors import ElluminateError
from elluminate_async.integrations.blocks import BlockWork
from elluminate_async.integrations.stage import Connect, Stage

_SWITCH_SECONDS: Final = 0.001


class Worker:
    """Has the rows of each block generated from, or rated, by a client of its own.

    Args:
        work: What is to be done.
        connect: How the client is made; the key is in the actor's environment.
    """

    def __init__(self, work: BlockWork, connect: Connect) -> None:
        self._work = work
        # Made with the first block: what an actor raises at its start is no error of a caller's.
        self.stage = Stage(connect)
        self._counts = RayCounts()
        self._blocks = 0

    def __call__(self, table: Any) -> Any:
        """The block with the columns that are added.

        Raises:
            ElluminateError: True of all blocks, as that the key is refused. It ends the job.
        """
        work = self._work
        if self._blocks < 2:
            # What is imported, and what is made with the first block, stays: a collection of
            # garbage that looks at all of it would stop the client's clock for 100 ms.
            gc.freeze()
            # This thread reads and writes blocks while the client's goes on, which would wait 5 ms
            # for the interpreter each time that it had nothing to do.
            sys.setswitchinterval(_SWITCH_SECONDS)
        self._blocks += 1
        try:
            given = work.read(table)
            made = self.stage.call(partial(work.run, given=given, counted=self._counts))
        except ElluminateError as error:
            raise of_the_job(error) from None
        return work.write(table, made)

    def __del__(self) -> None:
        # An actor that is not needed any more drops it, and is asked to end.
        self.stage.close()


class RayCounts:
    """Items of one worker, as metrics of Ray: done, failed by code, and in flight now."""

    def __init__(self) -> None:
        by = ("operation",)
        self._done = Counter("elluminate_items_done", "Items that ended, well or not.", by)
        self._failed = Counter(
            "elluminate_items_failed", "Items that ended with an error.", (*by, "code")
        )
        self._in_flight = Gauge("elluminate_items_in_flight", "Items of blocks in work.", by)
        self._now = Tally[str]()
        self._lock = Lock()

    def ended(self, operation: str, count: int, codes: Sequence[str]) -> None:
        """Count items that ended."""
        if count:
            self._done.inc(count, {"operation": operation})
        for code, failed in Tally(codes).items():
            self._failed.inc(failed, {"operation": operation, "code": code})

    def in_flight(self, operation: str, change: int) -> None:
        """Show how many are in flight."""
        with self._lock:
            self._now[operation] += change
            self._in_flight.set(self._now[operation], {"operation": operation})


def of_the_job(error: ElluminateError) -> ElluminateError:
    """The same error, which Ray takes for one of the user's code, and not for a fault of its own.

    At the driver it is caught by its class.
    """
    kind = type(error)
    # The last is a class of Ray's, which has no constructor of its own.
    both = type(kind.__name__, (kind, UserCodeException), {"__module__": kind.__module__})
    made = both.__new__(both, *error.args)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    return made
