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


def partial_of(error: BaseException) -> Any:
    """The ``partial`` of ``error``, or of what led to it: what had arrived of a call cut short.

    For a clock of another library, whose error is not this package's: `asyncio.timeout` and
    `asyncio.wait_for` raise a `TimeoutError` of their own, from the cancellation that has it.
    Groups are looked into. `anyio.fail_after` keeps nothing of what it cancelled, and neither do
    `asyncio.gather` and `asyncio.TaskGroup` that are cancelled as a whole, as by a clock around
    them: there each task asks for its own, of its `asyncio.CancelledError`.

    Returns:
        A `Batch` or an `Evaluation`, without `retry_failed`; None where there is none.
    """
    todo, seen = [error], set[int]()
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if (partial := getattr(one, "partial", None)) is not None:
            return partial
        if isinstance(one, BaseExceptionGroup):
            members: tuple[BaseException, ...] = one.exceptions  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            todo += reversed(members)
        todo += [led for led in (one.__context__, one.__cause__) if led is not None]
    return None


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
