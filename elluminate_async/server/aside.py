"""Long work beside the event loop, so that others are served meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_DONE_HERE: Final = 1 << 20  # bytes: less takes no longer than another thread does


async def of_body(body: bytes, work: Callable[[bytes], T]) -> T:
    """Run ``work`` on a body, in a thread where it is large."""
    if len(body) < _DONE_HERE:
        return work(body)
    return await asyncio.to_thread(work, body)
