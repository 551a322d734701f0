"""A POST that is done once: sent again under its idempotency key until its answer can be read.

The transport repeats what broke on the way. A 2xx that is not what the protocol says, such as the
page of a proxy, comes through it, and says as little of what was done as no answer at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
from pydantic import BaseModel

from elluminate_async.errors import AnswerTooLargeError, ElluminateError, ProtocolError
from elluminate_async.limits.backoff import back_off
from elluminate_async.schemas.version import Capability
from elluminate_async.transport.exchange import SendLog

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.operations.json_input import QueryValue
    from elluminate_async.transport.exchange import Answer
    from elluminate_async.transport.retry import Policy

T = TypeVar("T")


class Sending(SendLog, Protocol):
    """Told of the post's sendings."""

    def taken(self) -> None:
        """An answer said that it was applied: that stands, whatever a later one says."""
        ...


@dataclass(frozen=True, slots=True)
class Post:
    """A POST as its caller wants it.

    Attributes:
        segments: Path below the project.
        body: Of the request.
        query: After the path.
        content_type: Of the body.
        omit_nulls: Whether the body leaves out what is None.
        harmless: Whether a second sending does no harm, key or not.
        items: What it counts towards a limit on items.
    """

    segments: tuple[str | int, ...]
    body: BaseModel | bytes
    query: Mapping[str, QueryValue] = field(default_factory=dict[str, "QueryValue"])
    content_type: str = "application/json"
    omit_nulls: bool = False
    harmless: bool = False
    items: int = 0


async def replayed(
    connection: Connection,
    post: Post,
    read: Callable[[Answer], T],
    policy: Policy,
    sending: Sending,
) -> T:
    """The answer as ``read`` has it; sent again while that cannot be read and it is safe.

    Raises:
        ElluminateError: It was refused, or there was no such answer; ``ambiguous`` where it may
            have been done all the same.
    """
    repeatable = post.harmless or await connection.has(Capability.IDEMPOTENCY_KEYS, policy)
    unread = 0
    while True:
        try:
            answer = await connection.call(
                "POST",
                *post.segments,
                query=post.query,
                body=post.body,
                content_type=post.content_type,
                omit_nulls=post.omit_nulls,
                policy=policy,
                keyed=True,
                sending=sending,
                harmless=post.harmless,
                items=post.items,
            )
        except ElluminateError as error:
            # After an unreadable 2xx no later refusal proves that nothing was done.
            error.ambiguous = error.ambiguous or unread > 0
            raise
        try:
            return read(answer)
        except ProtocolError as error:
            unread += 1
            error.ambiguous = True
            sending.taken()
            error.attempts += unread - 1
            wait = back_off(unread)
            again = repeatable and not isinstance(error, AnswerTooLargeError)
            if not again or unread >= policy.max_attempts or not policy.allows(wait):
                raise
        await anyio.sleep(wait)
