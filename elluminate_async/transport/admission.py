"""Admission of an attempt: waits before its clock starts, and lessons for the limits after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio.lowlevel

from elluminate_async.errors import ConnectError, RateLimitError, TransportError
from elluminate_async.errors.deadlines import deadline_passed
from elluminate_async.transport.exchange import Answer, Request, reason_of
from elluminate_async.transport.permits import ConnectionPermits, Lane
from elluminate_async.transport.retry import Policy, Verdict, is_answer, is_passing, verdict_on

if TYPE_CHECKING:
    from elluminate_async.limits.limits import Limits
    from elluminate_async.transport.session import Session


class Admission:
    """A connection and the limits' leave for each attempt, waited for outside of its clock.

    Args:
        session: Ends what waits when it is closed.
        limits: The client's limits.
        connections: Requests on the wire at once; as many streams may be open besides.
    """

    def __init__(self, session: Session, limits: Limits, connections: int) -> None:
        self._session = session
        self._limits = limits
        self._permits = ConnectionPermits(connections)

    @asynccontextmanager
    async def slot(self, lane: Lane, policy: Policy) -> AsyncGenerator[None]:
        """A connection."""
        self._session.check_usable()
        policy.remaining()
        # Not after a cancellation, also where nothing is waited for before the first byte.
        await anyio.lowlevel.checkpoint_if_cancelled()
        if not self._permits.try_acquire(lane):
            async with self.waiting(policy):
                await self._permits.acquire(lane)
        try:
            yield
        finally:
            self._permits.release(lane)

    @asynccontextmanager
    async def leave(
        self, policy: Policy, request: Request, cost: int = 0, *, sent: bool = False
    ) -> AsyncGenerator[None]:
        """The limits' leave to send one request now: last, so that their rates stay true.

        With ``sent`` an earlier sending may have been applied.
        """
        policy.remaining()
        self._check_hold(policy, request)
        limits = policy.limits or self._limits
        items, chunk, patience = request.items, request.is_chunk, policy.patience
        ticket = limits.try_admit(items=items, cost=cost, chunk=chunk, patience=patience)
        if ticket is None:
            async with _noted(request, limits, sent=sent), self.waiting(policy, limits):
                ticket = await limits.admit(
                    items=items, cost=cost, chunk=chunk, patience=patience, share=policy.share
                )
        try:
            yield
        finally:
            limits.ended(ticket)

    def _check_hold(self, policy: Policy, request: Request) -> None:
        """Raise where the service asked for a wait that this request does not wait out."""
        held = self._limits.held_for(work=request.method != "GET")
        if not held or policy.allows(held):
            return
        too_long = held > policy.max_retry_after
        limit = "max_retry_after in BatchOptions" if too_long else "the deadline"
        raise RateLimitError(
            f"the service asked this client to wait, and {held:.0f} s of that are left: "
            f"longer than {limit} allows",
            status=429,
            retry_after=held,
            attempts=0,
        )

    @asynccontextmanager
    async def waiting(self, policy: Policy, limits: Limits | None = None) -> AsyncGenerator[None]:
        """Wait until the deadline at most, outside of every attempt's clock.

        With ``limits`` for their leave: the error tells where that is a share's which is away.
        """
        try:
            async with self._session.running(asyncio.timeout(policy.remaining())):
                yield
        except TimeoutError:
            self._session.check_open(sent=False)
            away = None if limits is None else limits.share_away
            raise deadline_passed(f"while it waited for {away or 'a permit'}") from None

    @property
    def held(self) -> int:
        """Connections in use."""
        return self._permits.held

    def learn(self, request: Request, result: Answer | TransportError) -> None:
        """Tell the limits whether the service is there."""
        if is_answer(result):
            self._limits.answered(chunk=request.is_chunk)
        elif isinstance(result, ConnectError) and result.exhausted:
            self._limits.out_of_descriptors()
        elif isinstance(result, Answer) or result.worth_repeating:
            reason = reason_of(result)
            self._limits.failed(reason)
            if request.is_chunk:
                lost = verdict_on(result) is Verdict.AMBIGUOUS and not request.repeatable
                if lost or is_passing(result):
                    self._limits.chunk_failed(reason, lost=lost)

    def slow_down(self, request: Request, result: Answer | TransportError, policy: Policy) -> bool:
        """Learn from a 429; whether the client is held, so that the gate does the waiting."""
        if not isinstance(result, Answer) or result.status != 429:
            return False
        self._limits.refused()
        if result.retry_after is None:
            return False
        # The limit is the client's, not this request's: everything waits, also when this
        # request does not.
        if result.retry_after <= policy.max_retry_after:
            self._limits.hold(result.retry_after)
            return True
        # Nobody waits so long, least of all for what was accepted and paid before.
        if request.method != "GET":
            self._limits.refuse_work(result.retry_after, policy.max_retry_after)
        return False


@asynccontextmanager
async def _noted(request: Request, limits: Limits, *, sent: bool) -> AsyncGenerator[None]:
    """Around a wait for a slot that is to be used as it begins: what takes time goes before it.

    A journal notes that the request is sent, and that it was not where the wait ends otherwise.
    """
    if request.log is None or not limits.is_shared:
        yield
        return
    await request.log.before_sending()
    try:
        yield
    except BaseException:
        if not sent:
            request.log.not_applied()
        raise
