"""Checks of arguments that any layer makes, and how their errors quote a value."""

from __future__ import annotations

from typing import Final

from elluminate_async.errors.base import ElluminateError, InputError

LONGEST_RUN: Final = 200
"""Characters in the name of a run."""

_NUMPYS_OWN = frozenset({"bool", "bool_"})


def shown(value: object) -> str:
    """``value`` as an error's text quotes it: cut, and whatever it is."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        # Python writes no int of more than some thousand digits.
        return f"a number of type {type(value).__name__}"


def flag(value: object, name: str, kind: type[ElluminateError] = InputError) -> bool:
    """``value``, which is True or False, perhaps numpy's.

    Nothing else is taken for one of them: a text of an environment variable or of a file is true
    where it says "false", and ``None`` may be an answer that was forgotten.

    Args:
        value: Of the argument.
        name: Of the argument.
        kind: The error of another value.

    Raises:
        ElluminateError: Of that kind; it is neither.
    """
    if isinstance(value, bool):
        return value
    # Told by its name, as numpy may not be installed.
    if type(value).__module__ == "numpy" and type(value).__name__ in _NUMPYS_OWN:
        return bool(value)
    raise kind(f"{name} must be True or False, not {shown(value)}")


def optional_flag(value: object, name: str) -> bool | None:
    """`flag` of what was given; None for nothing."""
    return None if value is None else flag(value, name)


def run_name(value: object) -> str:
    """``value``, which names a run.

    Raises:
        InputError: It is no text, or too long.
    """
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_RUN:
        raise InputError(
            f"run must be a text of 1 to {LONGEST_RUN} characters that names the run, such as "
            f"'nightly-42', not {shown(value)}"
        )
    return value
