"""About how large a row is in an answer, told at once from what it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from elluminate_async.engine.chunks import USUAL_ANSWER


def answer_bytes(template_bytes: int, values: Mapping[str, Any]) -> int:
    """About what a row takes in an answer, for a template of that size and these values."""
    size = template_bytes
    if values:
        try:
            # Most are texts; then this takes the least time.
            size += len("".join(values.values()))
        except TypeError:
            size += size_of(values)
    return USUAL_ANSWER + 2 * size


def size_of(value: object) -> int:
    """About the bytes of JSON, told at once."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        values = cast("Mapping[object, object]", value).values()
    elif isinstance(value, list):
        values = cast("list[object]", value)
    else:
        return 8
    size = 16
    for part in values:
        size += len(part) if type(part) is str else size_of(part)
    return size
