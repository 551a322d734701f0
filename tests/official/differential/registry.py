"""The registry of named operations by this SDK.

`programs/operations_1_5_2.py` does the same by the official client. Each returns what a user is
given, in a form that both have: ids, names, texts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from elluminate_async import AsyncClient
from tests.official.differential.given import Given

Operation: TypeAlias = Callable[[AsyncClient, Given], Awaitable[Any]]

OPERATIONS: dict[str, Operation] = {}


def operation(name: str) -> Callable[[Operation], Operation]:
    """Have a function do the operation of that name."""

    def take(function: Operation) -> Operation:
        assert name not in OPERATIONS, name
        OPERATIONS[name] = function
        return function

    return take


def ids(found: Iterable[Any]) -> list[int]:
    """The ids of objects, in their order."""
    return [one.id for one in found]
