"""The words in which every call tells that its deadline has passed."""

from __future__ import annotations

from elluminate_async.errors import DeadlineError

_WAY_ON = (
    "if it is too short, raise `deadline` in BatchOptions, or that of a client.deadline(...) "
    "around it"
)


def passed(when: str = "") -> str:
    """That it has passed, ``when``: such as ``before this item was sent``."""
    return f"the deadline of the call passed {when}".rstrip()


def deadline_passed(when: str = "") -> DeadlineError:
    """The error of a call whose deadline has passed, with what to do about it."""
    return DeadlineError(f"{passed(when)}; {_WAY_ON}")
