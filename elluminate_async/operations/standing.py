"""`standing`: one policy for all requests of a block, for calls that are made of single ones."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

    from elluminate_async.transport.retry import Policy

_policies: ContextVar[tuple[object, Policy | None] | None] = ContextVar(
    "elluminate_async_policies", default=None
)


@contextmanager
def standing(owner: object, policy: Policy | None) -> Generator[None]:
    """Have requests of ``owner`` that name no options go by ``policy`` within.

    None ends that for what begins within: a task that has work of the caller's own.
    """
    token = _policies.set((owner, policy))
    try:
        yield
    finally:
        _policies.reset(token)


def standing_policy(owner: object) -> Policy | None:
    """The policy by which a request of ``owner``'s goes here; None where it has its own."""
    found = _policies.get()
    return found[1] if found is not None and found[0] is owner else None
