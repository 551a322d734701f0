"""How items end that got no outcome of their own."""

from __future__ import annotations

from elluminate_async.errors import (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    ElluminateError,
    InputError,
    ItemError,
    JournalError,
    NotFoundError,
    OutcomeUnknownError,
    PermissionDeniedError,
    WrongEventLoopError,
    item_error,
)

FATAL = (
    AuthenticationError,
    ClientClosedError,
    ConfigurationError,
    InputError,
    JournalError,
    NotFoundError,
    PermissionDeniedError,
    WrongEventLoopError,
)
"""True of all items alike, so that the batch stops and raises it."""


def failed(error: ElluminateError | None, position: int, operation: str) -> ItemError:
    """An item whose sending ended with ``error``, or without a word about the item."""
    if error is not None:
        return item_error(error, position=position, operation=operation)
    return ItemError(
        "the service ended the job and has no result for this item",
        position=position,
        code="no_result",
        operation=operation,
    )


def unsent(position: int, operation: str) -> ItemError:
    """An item whose turn did not come before the deadline."""
    return ItemError(
        "the deadline passed before this item was sent",
        position=position,
        code="deadline",
        operation=operation,
        attempts=0,
    )


def not_resumed(position: int, operation: str) -> OutcomeUnknownError:
    """An item that an earlier run may have sent, and that this one did not come to."""
    return OutcomeUnknownError(
        "an earlier run may have sent this item, and the deadline passed before its outcome "
        "was looked for",
        position=position,
        code="deadline",
        operation=operation,
        attempts=0,
    )


def cut_off(position: int, operation: str) -> OutcomeUnknownError:
    """An item that was in flight when its batch was ended."""
    return OutcomeUnknownError(
        "the batch was ended while this item was being sent or worked on",
        position=position,
        operation=operation,
    )
