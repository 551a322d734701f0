"""`did_you_mean`: the name that a misspelt one was meant for."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], form: str = "{!r:.60}") -> str:
    """``, did you mean 'question'?`` where a known name is close; else nothing.

    Args:
        name: As it was given.
        known: The names that there are.
        form: How one is written.
    """
    # Only where something is wrong already.
    from difflib import get_close_matches

    by_letters = {one.casefold(): one for one in known}
    if not (close := get_close_matches(name.casefold(), by_letters, n=1)):
        return ""
    return f", did you mean {form.format(by_letters[close[0]])}?"
