"""`Secret`: a credential that does not show itself."""

from __future__ import annotations

import re

from elluminate_async.errors import ConfigurationError

VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


class Secret:
    """A string that shows itself only when asked by name: not in `repr`, `str` or a pickle."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled; pass the settings to the other process instead")


def checked_secret(value: str, what: str) -> Secret:
    """``value``, which is to be sent in a header.

    Raises:
        ConfigurationError: It cannot be.
    """
    if not isinstance(value, str) or not VISIBLE_ASCII.fullmatch(value):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"the {what} holds a space, a line end or a character that is not ASCII: "
            "copy it again, without quotes or a trailing newline"
        )
    return Secret(value)
