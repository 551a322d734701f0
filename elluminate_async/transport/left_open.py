"""The `ResourceWarning` of a client that nobody closed: where it was made, and an end for it."""

from __future__ import annotations

import atexit
import sys
import threading
import warnings
import weakref
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from elluminate_async.limits.breaker import Probe

_PACKAGE = __name__.partition(".")[0]

_at_exit = threading.Event()


class Place(NamedTuple):
    """A line of somebody's program."""

    file: str
    line: int


def place_of_caller() -> Place:
    """The line that led into this package."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__")):
        frame = frame.f_back
    # No frame is kept: it would keep the caller's variables.
    return Place(frame.f_code.co_filename, frame.f_lineno)


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == _PACKAGE


def warn_when_collected(
    owner: object, leave: Callable[[bool], bool], base_url: str, made: Place
) -> None:
    """Have what ``owner`` left open closed once it is collected, with a warning.

    That is a weak reference's callback and no `__del__`: it runs before those of what is left
    open, which would warn in the words of a library that the caller has not heard of.

    Args:
        owner: Of what may be left open.
        leave: Closes it, and tells whether anything was open; is told whether the program ends.
            Must not hold ``owner``.
        base_url: Where it leads.
        made: Where the client was made.
    """
    weakref.finalize(owner, _end, leave, base_url, made)
    _notice_exit()


@cache
def _notice_exit() -> None:
    # After the first finalizer was made: what is registered last is called first.
    atexit.register(_at_exit.set)


def _end(leave: Callable[[bool], bool], base_url: str, made: Place) -> None:
    if leave(_at_exit.is_set()):
        warnings.warn_explicit(
            f"unclosed AsyncClient of {base_url}, made in {made.file}:{made.line}: use "
            "`async with`, or await its close()",
            ResourceWarning,
            made.file,
            made.line,
        )


def held_weakly(probe: Probe) -> Probe:
    """``probe``, without a hold on its object, which holds the limits: a circle otherwise.

    Without it a client that nobody closed is collected, and tells so, as soon as it is dropped.
    """
    method = weakref.WeakMethod(probe)

    async def ask() -> str | None:
        bound = method()
        return "the client is gone" if bound is None else await bound()

    return ask
