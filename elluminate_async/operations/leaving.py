"""Work that a call leaves before the service has done it: cancelled there, or counted as it runs.

A call that ends early asks the service to cancel what it had in flight. Where that cannot be, the
work goes on without the call, and its place among the client's chunks stays taken, so that no more
runs at the service than `BatchOptions.max_concurrency` says.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio

from elluminate_async.engine.tasks import begin_task
from elluminate_async.errors import (
    DeadlineError,
    ElluminateError,
    ItemError,
    NotFoundError,
    RateLimitError,
    ServerError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.operations.reading import decode
from elluminate_async.schemas.base import WireModel
from elluminate_async.schemas.jobs import TERMINAL
from elluminate_async.schemas.version import Capability
from elluminate_async.transport.exchange import Request
from elluminate_async.transport.retry import SHORTEST_WAIT

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection

logger = logging.getLogger("elluminate_async")

CANCEL_SECONDS: Final = 1.0
"""Within which the service must have said that what was left is cancelled."""

KEPT_SECONDS: Final = 60.0
"""For so long at most what cannot be cancelled is taken to run."""

_FIRST_LOOK, _GROWTH, _LONGEST = 1.0, 1.5, 5.0  # seconds between looks at a job that was left


class _Status(WireModel):
    """As much of a job's status document as tells whether it has ended."""

    status: str


@dataclass(slots=True, eq=False)
class InFlight:
    """Work of the service that a call waits for.

    Attributes:
        segments: Path of the job, or of the POST that begins the work.
        key: The idempotency key of that POST, where there is no job's id yet.
        is_chunk: Whether it has a place among the client's chunks.
        is_out: Whether the service may have begun it.
        is_cancelled: Whether the service has said that it is cancelled.
    """

    segments: tuple[str | int, ...]
    key: str | None
    is_chunk: bool
    is_out: Callable[[], bool]
    is_cancelled: bool = False


@dataclass(slots=True)
class Awaited:
    """All work that the calls of one client wait for.

    Attributes:
        is_closed: Whether the client ends, and so cancels it itself.
    """

    work: set[InFlight] = field(default_factory=set[InFlight])
    is_closed: bool = False


class WorkInFlight:
    """That work, and its end; made for each use, as nothing is to keep a client that is dropped.

    Args:
        connection: Where it is done.
        awaited: The connection's.
    """

    def __init__(self, connection: Connection, awaited: Awaited) -> None:
        self._connection = connection
        self._awaited = awaited

    @asynccontextmanager
    async def awaited(
        self,
        *segments: str | int,
        key: str | None = None,
        is_chunk: bool = True,
        is_out: Callable[[], bool] = lambda: True,
    ) -> AsyncGenerator[InFlight]:
        """Around the wait for it: one that the call's end cuts short leaves the work.

        Args:
            segments: Path of the job, or with ``key`` of the POST that begins it.
            key: Of that POST.
            is_chunk: Whether it has a place among the client's chunks.
            is_out: Whether the service may have begun it.
        """
        work = InFlight(segments, key, is_chunk, is_out)
        self._awaited.work.add(work)
        try:
            yield work
        except asyncio.CancelledError:
            await self._leave(work)
            raise
        except ElluminateError as error:
            if _is_late(error):
                await self._leave(work)
            raise
        finally:
            self._awaited.work.discard(work)

    def take_all(self) -> list[InFlight]:
        """All of it, for `cancel_last`: the client is about to be closed under its calls."""
        self._awaited.is_closed = True
        return [*self._awaited.work]

    async def cancel_last(self, left: Iterable[InFlight]) -> None:
        """Cancel what calls have left whose client was closed."""
        connection = self._connection

        async def cancel(work: InFlight) -> None:
            with suppress(ElluminateError):
                request = self._request(work)
                work.is_cancelled = await connection.transport.insist(request, CANCEL_SECONDS)

        if not connection.offers(Capability.CANCELLATION):
            return
        with anyio.move_on_after(CANCEL_SECONDS, shield=True):
            async with anyio.create_task_group() as tasks:
                for work in left:
                    if work.is_out() and not work.is_cancelled:
                        tasks.start_soon(cancel, work)

    async def _leave(self, work: InFlight) -> None:
        if not work.is_out() or self._awaited.is_closed:
            return
        if self._connection.offers(Capability.CANCELLATION):
            await self._cancel(work)
        if work.is_chunk and not work.is_cancelled:
            self._keep_place(work)

    async def _cancel(self, work: InFlight) -> None:
        """Have the service cancel it, within a second, whoever is being cancelled here.

        It is asked until it answers, as it may be away for a moment only.
        """
        connection, request = self._connection, self._request(work)
        deadline_at = time.monotonic() + CANCEL_SECONDS
        # In an outage the limits would hold it back for longer than it is of use.
        policy = connection.policy(deadline=CANCEL_SECONDS, patience=0.0)
        with anyio.move_on_after(CANCEL_SECONDS, shield=True):
            try:
                await connection.send(request, policy)
                work.is_cancelled = True
            except NotFoundError:
                # It is gone, with whatever it had to do.
                work.is_cancelled = True
            except (RateLimitError, ServerError, ServiceUnavailableError, TransportError) as error:
                logger.debug("what a call has left is not cancelled yet: %s", error)
                await anyio.sleep(_pause_after(error))
                with suppress(ElluminateError):
                    left = deadline_at - time.monotonic()
                    work.is_cancelled = await connection.transport.insist(request, left)
            except ElluminateError as error:
                logger.debug("what a call has left could not be cancelled: %s", error)

    def _request(self, work: InFlight) -> Request:
        path = self._connection.known_path(*work.segments)
        return Request("DELETE", path, idempotency_key=work.key)

    def _keep_place(self, work: InFlight) -> None:
        connection = self._connection
        connection.limits.occupy()
        watching = begin_task(self._until_ended(work), connection.tasks)
        watching.add_done_callback(lambda _: connection.limits.vacate())

    async def _until_ended(self, work: InFlight) -> None:
        """Wait until a job has ended, for a bounded time; of one without an id nobody can tell."""
        policy = self._connection.policy(deadline=KEPT_SECONDS)
        interval = _FIRST_LOOK
        with anyio.move_on_after(KEPT_SECONDS):
            while True:
                await anyio.sleep(interval if work.key is None else KEPT_SECONDS)
                interval = min(_LONGEST, interval * _GROWTH)
                try:
                    answer = await self._connection.call("GET", *work.segments, policy=policy)
                    if decode(_Status, answer).status in TERMINAL:
                        return
                except NotFoundError:
                    return
                except ElluminateError as error:
                    logger.debug("a job that was left could not be looked at: %s", error)


class SingleSending:
    """The sending of one request that is no chunk, and whether it was sent.

    Args:
        key: Its idempotency key.

    Attributes:
        of_chunk: Whether others of a batch may wait for it.
        is_out: Whether the service may have applied it.
    """

    of_chunk = False

    def __init__(self, key: str) -> None:
        self.key = key
        self.is_out = False
        self._was_taken = False

    async def before_sending(self) -> None:
        """It is about to leave."""
        self.is_out = True

    def not_applied(self) -> None:
        """None of its sendings so far was applied."""
        self.is_out = self._was_taken

    def taken(self) -> None:
        """An answer said that it was applied: that stands, whatever a later one says."""
        self._was_taken = True


def _pause_after(error: ElluminateError) -> float:
    """Seconds until it is worth asking again."""
    asked = error.retry_after if isinstance(error, RateLimitError) else None
    return asked or SHORTEST_WAIT


def _is_late(error: ElluminateError) -> bool:
    """Whether it was the call's deadline that ended the wait."""
    if isinstance(error, ItemError):
        return error.cause == DeadlineError.__name__
    return isinstance(error, DeadlineError)
