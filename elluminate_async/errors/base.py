"""`ElluminateError`, the errors of input, and how the text of an error is kept to one line."""

from __future__ import annotations

from typing import Any


def one_line(text: str) -> str:
    """``text`` with line ends, control and bidirectional characters escaped.

    What a service says must not forge a line of a log, nor drive a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _rebuild(cls: type[BaseException], args: tuple[object, ...], state: dict[str, Any]) -> object:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ElluminateError(Exception):
    """Base of everything this package raises on purpose.

    Attributes:
        partial: For an error that ended a whole batch: the `Batch` of what had arrived
            by then, the unsent positions failed with code ``not_sent``. Otherwise None.
        ambiguous: True when the service may have applied the request that failed.
    """

    partial: Any = None  # a Batch; typed there, as errors sit below batches
    ambiguous: bool = False

    def __str__(self) -> str:
        return one_line(super().__str__())

    def __reduce__(self) -> tuple[object, ...]:
        # BaseException.__reduce__ replays __init__ with positional arguments only.
        return (_rebuild, (type(self), self.args, dict(self.__dict__)))


class InputError(ElluminateError, ValueError):
    """An argument cannot work; the text says which and why. Nothing was sent for it."""


class NoTextError(InputError):
    """A text of a row has half a character: that row alone cannot be sent."""
