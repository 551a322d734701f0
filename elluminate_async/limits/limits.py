"""The limits of one client: chunks in flight, requests per window, holds.

One `Limits` serves all calls of a client, so that they share its bounds. Those that the user
set are strict; below them the client finds out by itself what the service takes.
"""

from __future__ import annotations

import copy
import math
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from elluminate_async.limits.adaptive import AdaptiveGate, AdaptivePace
from elluminate_async.limits.breaker import DOUBT, Breaker
from elluminate_async.limits.budget import RetryBudget
from elluminate_async.limits.hold import Hold, Refusal
from elluminate_async.limits.share_link import ShareLink
from elluminate_async.limits.shared_pace import Pace, PaceOfAll
from elluminate_async.limits.strict import StrictLimits
from elluminate_async.limits.ticket import Ticket
from elluminate_async.telemetry import Readings, Telemetry

if TYPE_CHECKING:
    from elluminate_async.batch import Priority, RateLimit
    from elluminate_async.batch.share import LimitShare
    from elluminate_async.errors import ServiceUnavailableError
    from elluminate_async.limits.breaker import Probe
    from elluminate_async.limits.fairness import Share

_LOOK = 1.0  # seconds


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts of a client's requests.

    Attributes:
        in_flight: Chunks that were sent and whose jobs have not ended.
        throttled: Answers of 429 since the client was made.
        retried: Requests that were sent again since then.
    """

    in_flight: int
    throttled: int
    retried: int


@dataclass(slots=True)
class _Counts:
    throttled: int = 0
    retried: int = 0


class Limits:
    """All limits of one client: requests and chunks wait for them.

    Args:
        max_concurrency: Chunks in flight over all calls.
        rate_limit: Requests of any kind per window; None for no limit.
        item_limit: Items sent per window; None for no limit.
        telemetry: Is told of holds and outages; None for nobody.
        share: Keeps the limits on requests and items, holds and the pace together with other
            processes; None for this one alone.
        chunk: Items in one request at most, as a rule.

    Attributes:
        is_shared: Whether there is a share.
    """

    def __init__(
        self,
        max_concurrency: int,
        rate_limit: RateLimit | None,
        item_limit: RateLimit | None = None,
        telemetry: Telemetry | None = None,
        share: LimitShare | None = None,
        chunk: int = 1,
    ) -> None:
        self._telemetry = telemetry or Telemetry()
        self._telemetry.read_by(self.readings)
        self._gate = AdaptiveGate(max_concurrency)
        self._hold = Hold()
        began = self._telemetry.hold_began
        self._link = None if share is None else ShareLink(share, self._hold, began)
        self.is_shared = share is not None
        self._pace: Pace = AdaptivePace() if self._link is None else PaceOfAll(self._link)
        self._refusal = Refusal()
        self._budget = RetryBudget()
        changed = self._telemetry.breaker_changed
        self._breaker = Breaker(self._windows, changed=changed)
        # What answers a GET may still fail every chunk, and one that is lost is lost money.
        self._chunks = Breaker(
            self._windows, open_after=DOUBT, open_seconds=0.0, of="chunks", changed=changed
        )
        # Those of the client last.
        self._strict: tuple[StrictLimits, ...] = (
            StrictLimits(rate_limit, item_limit, self._link, chunk),
        )
        self._counts = _Counts()

    def narrowed(self, strict: StrictLimits) -> Limits:
        """The same limits, and ``strict`` besides for who uses these."""
        limits = copy.copy(self)
        limits._strict = (strict, *self._strict)
        return limits

    @property
    def share_away(self) -> str | None:
        """In words, the share and why it does not answer; None where it does."""
        return None if self._link is None else self._link.away

    @property
    def traffic(self) -> Traffic:
        """The counts of the requests now."""
        return Traffic(self._gate.held, self._counts.throttled, self._counts.retried)

    def readings(self) -> Readings:
        """The state of all limits now."""
        return Readings(
            in_flight=self._gate.held,
            permits=self._gate.limit,
            pace=self._pace.rate,
            held=self.held_for(work=True),
            service_open=self._breaker.is_open,
            chunks_open=self._chunks.is_open,
            throttled=self._counts.throttled,
            retried=self._counts.retried,
        )

    @property
    def free_chunks(self) -> int:
        """Permits for chunks that nobody holds."""
        return self._gate.free

    def share(self, priority: Priority = "normal") -> Share:
        """The part that a call has of the permits for chunks, of which it has none yet.

        A permit is to be had for each chunk in flight, and given back when its job has ended.
        """
        return self._gate.share(priority)

    def occupy(self) -> None:
        """Count a chunk whose job goes on at the service without its call."""
        self._gate.occupy()

    def vacate(self) -> None:
        """Count it no more."""
        self._gate.vacate()

    def probe_with(self, probe: Probe) -> None:
        """Send ``probe`` to find out whether a service that was away is back."""
        self._breaker.probe = probe

    def try_admit(
        self, *, items: int = 0, cost: int = 0, chunk: bool = False, patience: float = math.inf
    ) -> Ticket | None:
        """The ticket of a request that nothing bounds now; None for one that is to `admit`."""
        bounded = any(
            scope.requests is not None or (items and scope.items is not None)
            for scope in self._strict
        )
        if cost or bounded or not self._pace.is_off or self._hold.left():
            return None
        place = None
        if chunk:
            place = self._chunks.try_enter(retry=False, patience=patience)
            if place is None:
                return None
        service = self._breaker.try_enter(retry=False, patience=patience)
        if service is None:
            self._admission(self._chunks, place)
            return None
        return Ticket(service, place)

    async def admit(
        self,
        *,
        items: int = 0,
        cost: int = 0,
        chunk: bool = False,
        patience: float = math.inf,
        share: Share | None = None,
    ) -> Ticket:
        """Return when one more request may start: after every hold, inside every window.

        Args:
            items: What the request counts towards the limit on items.
            cost: What it draws on the retry budget; 0 for a first sending.
            chunk: Whether it sends a chunk: after one that failed, those go one by one until
                the service has taken one.
            patience: Seconds without an answer to anybody after which it gives up.
            share: Of the call that it belongs to; None for one of its own.

        Returns:
            A ticket, with which to call `ended`.

        Raises:
            ServiceUnavailableError: The service answered nobody for ``patience`` seconds.
        """
        retry = cost > 0
        if retry:
            await self._spend(cost, patience)
        while True:
            place = await self._chunks.enter(retry=retry, patience=patience) if chunk else None
            try:
                # One that goes alone may be lost, so it waits for a sign of the service.
                wary = chunk and self._chunks.is_tried
                service = await self._breaker.enter(retry=retry, wary=wary, patience=patience)
                try:
                    if await self._start(items, share, retry=retry, wary=wary, chunk=chunk):
                        return Ticket(service, place)
                except BaseException:
                    self._breaker.leave(service)
                    raise
                self._breaker.leave(service)
            except BaseException:
                self._admission(self._chunks, place)
                raise
            self._admission(self._chunks, place)

    async def _spend(self, cost: int, patience: float) -> None:
        """Wait for the retry budget, in an outage for as long as the service is waited for.

        Raises:
            ServiceUnavailableError: The service answered nobody for ``patience`` seconds.
        """
        if self._budget.try_spend(cost):
            return
        gave_up = False

        async def watch() -> None:
            # Beside it, so that who waits keeps its place; again and again, as an outage may
            # end and another begin meanwhile.
            nonlocal gave_up
            while (left := self._breaker.gives_up_in(patience)) > 0:  # noqa: ASYNC110
                await anyio.sleep(min(left, _LOOK))
            gave_up = True
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await self._budget.spend(cost)
            tasks.cancel_scope.cancel()
        if gave_up:
            raise self._breaker.outage()

    @staticmethod
    def _admission(breaker: Breaker, ticket: int | None) -> None:
        if ticket is not None:
            breaker.leave(ticket)

    async def _start(
        self, items: int, share: Share | None, *, retry: bool, wary: bool, chunk: bool
    ) -> bool:
        """Wait for all windows; False when the service went away meanwhile."""
        async with AsyncExitStack() as turns:
            gates = [scope.items for scope in self._strict if items and scope.items is not None]
            counts = [await turns.enter_async_context(gate.turn(items, share)) for gate in gates]
            # With the turn of a gate others wait for it, whoever they are.
            await self._windows(share, first=bool(gates), items=items)
            if self._breaker.blocks(retry=retry, wary=wary):
                return False
            if chunk and not wary and self._chunks.blocks(retry=retry):
                return False
            for count in counts:
                count()
            return True

    async def window(self) -> None:
        """Return when one request more is inside every window, whatever the service does."""
        await self._windows()

    async def _windows(
        self, share: Share | None = None, *, first: bool = True, items: int = 0
    ) -> None:
        async with AsyncExitStack() as turns:
            for scope in self._strict[:-1]:
                # Those of a call alone, before it is where others would wait behind it.
                await turns.enter_async_context(scope.turnstile.turn(share, first=first))
                await scope.wait()
            async with self._strict[-1].turnstile.turn(share, first=first):
                await self._hold.wait()
                await self._pace.admit()
                if not self._strict[-1].takes_own(items):
                    await self._inside(0)
                    return
            # Nobody can use what it waits for in its stead, so others need not wait behind it.
            await self._inside(items)

    async def _inside(self, items: int) -> None:
        await self._strict[-1].wait(items)
        while self._hold.left():
            # A hold began while this request waited for its window. It needs a new one: those
            # that came into their windows during the hold would all start at its end.
            await self._hold.wait()
            for scope in self._strict:
                await scope.wait(items)

    def ended(self, ticket: Ticket) -> None:
        """Learn that an admitted request is over, whatever became of it."""
        self._breaker.leave(ticket.service)
        self._admission(self._chunks, ticket.chunk)

    def hold(self, seconds: float) -> None:
        """Admit nothing for so long; a longer hold in force stays."""
        if not self._hold.left():
            self._telemetry.hold_began(seconds)
        self._hold.begin(seconds)
        if self._link is not None:
            self._link.tell_hold(seconds)

    async def aclose(self) -> None:
        """Close the share, where there is one."""
        if self._link is not None:
            await self._link.aclose()

    def held_for(self, *, work: bool = False) -> float:
        """Seconds that are left of the wait that the service asked for; 0 for none.

        With ``work``, also of one that keeps only new work back.
        """
        held = self._hold.asked_left()
        return max(held, self._refusal.left()) if work else held

    def kept_for(self) -> float:
        """Seconds for which the service's refusals keep new work back; 0 for none.

        Its waits, and the pace that follows its refusals.
        """
        # At the very moment when the next one may start, those behind it are kept back still.
        return max(self.held_for(work=True), self._pace.left() or self._pace.interval)

    def refuse_work(self, seconds: float, longest: float) -> None:
        """Start no work, as the service asked for a wait that is too long to be waited out.

        Args:
            seconds: What it asked for.
            longest: Seconds after which it is asked again.
        """
        if not self._refusal.left():
            self._telemetry.hold_began(seconds, is_waited_out=False)
        self._refusal.begin(seconds, longest)

    def accepted(self, spent: int = 0) -> None:
        """Learn that the service took a request, whose retries had cost so much."""
        self._gate.accepted()
        self._pace.accepted()
        self._budget.refund(spent or 1)

    def refused(self) -> None:
        """Learn that the service said it is too much: fewer at once, and slower."""
        self._counts.throttled += 1
        self._gate.refused()
        self._pace.refused()

    def sent_again(self) -> None:
        """Learn that a request is sent once more."""
        self._counts.retried += 1

    def out_of_descriptors(self) -> None:
        """Learn that this process has no room for so many: fewer at once."""
        self._gate.refused()

    def answered(self, *, chunk: bool = False) -> None:
        """Learn that the service is there: it answered, yes or no."""
        self._breaker.answered()
        if chunk:
            self._chunks.answered()

    def found(self) -> None:
        """Learn that the service answers who asks whether it is there."""
        self._breaker.answered()
        self._chunks.ask_now()

    def failed(self, reason: str) -> None:
        """Learn that it did not answer, or could not."""
        self._breaker.failed(reason)

    def chunk_failed(self, reason: str, *, lost: bool) -> None:
        """Learn that a chunk was not answered; with ``lost`` it cannot be sent again."""
        self._chunks.failed(reason, at_once=lost)

    def outage(self, since: float, *, chunk: bool = False) -> ServiceUnavailableError | None:
        """The error to raise where nobody was answered since then, on `time.monotonic`.

        With ``chunk``, also where no chunk was.
        """
        for breaker in (self._breaker, self._chunks) if chunk else (self._breaker,):
            if breaker.silent_since is not None and breaker.silent_since <= since:
                return breaker.outage()
        return None
