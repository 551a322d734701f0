"""`HttpTransport`: one logical request, however many attempts it takes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio

from elluminate_async.errors import (
    AttemptTimeoutError,
    DeadlineError,
    ElluminateError,
    ProtocolError,
    RedirectError,
    ServiceUnavailableError,
    TransportError,
)
from elluminate_async.telemetry import ObservedAttempt, Telemetry
from elluminate_async.transport.admission import Admission
from elluminate_async.transport.attempts import AttemptHistory, note, timed_out
from elluminate_async.transport.events import read_events
from elluminate_async.transport.exchange import (
    NETWORK_ERRORS,
    Answer,
    Incoming,
    Request,
    api_error,
    excerpt,
    read_answer,
    reason_of,
    transport_error,
    without_headers,
)
from elluminate_async.transport.left_open import held_weakly
from elluminate_async.transport.permits import Lane
from elluminate_async.transport.redirects import Trail
from elluminate_async.transport.retry import (
    SHORTEST_WAIT,
    Policy,
    Verdict,
    is_answer,
    is_passing,
    to_repeat,
    told_to_wait,
    verdict_on,
)
from elluminate_async.transport.session import SentFlag, Session
from elluminate_async.transport.sse import Decoder, Event

if TYPE_CHECKING:
    import ssl

    from yarl import URL

    from elluminate_async.config import Settings
    from elluminate_async.limits.limits import Limits

PROBE = Request("GET", ("api", "v0", "projects"))
"""The cheapest request of the protocol; sent to see whether a service that was away is back."""

PROBE_SECONDS = 5.0


class HttpTransport:
    """Sends requests to one origin; the only place that knows aiohttp.

    It is bound to the event loop of its first request.

    Args:
        settings: Origin and credential. Redirects are followed within the origin only, so
            the credential goes nowhere else.
        limits: Waited for before every attempt, before its clock starts.
        connections: Requests on the wire at once; as many streams may be open besides.
        ssl_context: For a private certificate authority; None for the system's.
        telemetry: Is told of each attempt; None for nobody.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        limits: Limits,
        connections: int,
        ssl_context: ssl.SSLContext | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.telemetry = telemetry or Telemetry()
        self._settings = settings
        self._limits = limits
        self._session = Session(settings, ssl_context)
        self._connections = connections
        self._admission = Admission(self._session, limits, connections)
        self._blotter = self._session.blotter
        limits.probe_with(held_weakly(self._probe))
        # Not by a method of its own, which would hold this and so be a circle.
        self.telemetry.blot_by(self._blotter.text)

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self._settings.base_url

    def blotted(self, text: str) -> str:
        """``text`` of the service's, for an error or a log, without the credential."""
        return self._blotter.text(text)

    async def send(self, request: Request, policy: Policy) -> Answer:
        """The 2xx answer to ``request``, sent as often as is safe and allowed.

        Raises:
            APIError: The service said no; its class tells the status.
            TransportError: No complete, readable answer.
            DeadlineError: The policy's deadline passed.

            On each of them ``ambiguous`` is True when the service may have applied the
            request all the same.
        """
        tries = AttemptHistory(request, policy)
        while True:
            try:
                result = await self._attempt(request, policy, tries)
            except ElluminateError as error:
                raise tries.cut_short_by(error) from None
            if isinstance(result, Answer) and verdict_on(result) is Verdict.ACCEPTED:
                self._limits.accepted(tries.spent + tries.cost)
                return replace(result, attempts=tries.count + 1) if tries.count else result
            wait = tries.wait_after(result)
            if request.log is not None and not tries.ambiguous:
                request.log.not_applied()
            held = self._admission.slow_down(request, result, policy)
            if wait is None:
                raise self._outage(request, tries) or tries.last_error()
            request = to_repeat(request, result)
            self._limits.sent_again()
            self.telemetry.retrying(tries.observed, wait)
            if not held:
                await anyio.sleep(wait)

    def _outage(self, request: Request, tries: AttemptHistory) -> ServiceUnavailableError | None:
        """The error of a request that was given up because nobody was answered meanwhile."""
        if not tries.outlasted or tries.failing_since is None:
            return None
        outage = self._limits.outage(tries.failing_since, chunk=request.is_chunk)
        if outage is not None:
            outage.attempts, outage.ambiguous = tries.count, tries.ambiguous
            outage.own = tries.last_error()
        return outage

    async def _attempt(
        self, request: Request, policy: Policy, tries: AttemptHistory
    ) -> Answer | TransportError:
        """One sending, and the redirects of a GET: the answer, or what went wrong."""
        trail = Trail(request, self._settings.base_url)
        lane = Lane.CONTROL if request.method in ("GET", "DELETE") else Lane.CALL
        cost = tries.cost
        while True:
            came = time.monotonic()
            async with (
                self._admission.slot(lane, policy),
                self._admission.leave(policy, request, cost, sent=tries.ambiguous),
            ):
                if request.log is not None:
                    await request.log.before_sending()
                result = await self._exchange(request, trail.url, policy, tries, came)
                self._admission.learn(request, result)
            if not isinstance(result, Answer) or not trail.leads_on(result):
                return result
            cost = 0
            try:
                trail.follow(result)
            except RedirectError as error:
                return error

    async def _exchange(
        self,
        request: Request,
        url: URL,
        policy: Policy,
        tries: AttemptHistory | None = None,
        came: float | None = None,
    ) -> Answer | TransportError:
        """One request on the wire, as observers see it: an answer of any status, or what failed."""
        tries = tries or AttemptHistory(request, policy)
        with self.telemetry.attempt(request, tries.observed, came) as tries.observed:
            result = await self._on_the_wire(request, url, policy, tries.observed.headers)
            note(result, tries.observed)
            return result

    async def _on_the_wire(
        self, request: Request, url: URL, policy: Policy, added: Mapping[str, str]
    ) -> Answer | TransportError:
        flag = SentFlag()
        clock = asyncio.timeout(policy.clock(policy.attempt_timeout))
        try:
            async with self._session.running(clock):
                incoming = await self._session.open(request, url, policy, flag, added)
                try:
                    return await read_answer(incoming, self._blotter)
                finally:
                    incoming.release()
        except TimeoutError as error:
            self._session.check_open(sent=flag.sent)
            if clock.expired():
                return timed_out(request, policy, sent=flag.sent)
            return self._translate(error, request, sent=flag.sent)
        except (*NETWORK_ERRORS, TransportError) as error:
            return self._translate(error, request, sent=flag.sent)
        except asyncio.CancelledError as error:
            raise without_headers(error) from None

    async def _probe(self) -> str | None:
        """None when the service answers; else why not."""
        policy = Policy(time.monotonic() + PROBE_SECONDS, attempt_timeout=PROBE_SECONDS)
        try:
            result = await self._exchange(PROBE, Trail(PROBE, self._settings.base_url).url, policy)
        except DeadlineError:
            return f"no answer within {PROBE_SECONDS:.0f} s"
        self._admission.slow_down(PROBE, result, policy)
        return None if is_answer(result) else reason_of(result)

    async def ping(self, seconds: float, deadline_at: float = math.inf) -> float:
        """Seconds until the service's answer to the least that it can be asked for.

        It is asked once, whatever is known of an outage.

        Raises:
            ServiceUnavailableError: There was no answer within ``seconds``, or a 5xx.
            AuthenticationError, PermissionDeniedError: It answered, and refuses the key.
            DeadlineError: The client's own limits held it back for so long, or ``deadline_at``,
                by `time.monotonic`, came first: that tells nothing of the service.
        """
        policy = Policy(min(time.monotonic() + seconds, deadline_at), attempt_timeout=seconds)
        async with self._admission.slot(Lane.CONTROL, policy):
            async with self._admission.waiting(policy):
                await self._limits.window()
            began = time.monotonic()
            try:
                result = await self._exchange(
                    PROBE, Trail(PROBE, self._settings.base_url).url, policy
                )
            except DeadlineError:
                if policy.deadline_at == deadline_at:
                    raise
                result = AttemptTimeoutError(f"no answer within {seconds:.3g} s", sent=True)
            took = time.monotonic() - began
        self._admission.learn(PROBE, result)
        if not is_answer(result) and (outage := self._limits.outage(time.monotonic())):
            outage.attempts = 1
            raise outage
        if isinstance(result, TransportError):
            raise result
        self._limits.found()
        if result.status in (401, 403):
            raise api_error(PROBE, result)
        return took

    async def open_ahead(self, count: int, policy: Policy) -> None:
        """Have ``count`` connections, as far as they are allowed and can be opened."""
        url = Trail(PROBE, self._settings.base_url).url
        # A head start: what is in its way meets the requests too, and they tell.
        with suppress(Exception):
            await self._session.open_ahead(url, min(count, self._connections), policy)

    @asynccontextmanager
    async def stream(
        self, request: Request, policy: Policy, decoder: Decoder | None = None
    ) -> AsyncGenerator[AsyncIterator[Event]]:
        """The events of one stream, opened once, until it ends or falls silent.

        ``decoder`` is a new one of the caller's, who wants its state at the end.

        Raises:
            APIError: The stream was refused.
            TransportError: It could not be opened, broke, fell silent, or is no stream.
            DeadlineError: The policy's deadline passed.
        """
        trail = Trail(request, self._settings.base_url)
        attempt = None
        while True:
            came = time.monotonic()
            async with self._admission.slot(Lane.STREAM, policy), AsyncExitStack() as until_end:
                # Open, it is no request in flight any more: it may outlive an outage.
                async with self._admission.leave(policy, request):
                    observed = self.telemetry.attempt(request, attempt, came, is_stream=True)
                    attempt = until_end.enter_context(observed)
                    incoming = await self._open_stream(request, trail, policy, attempt)
                if incoming is None:
                    continue
                try:
                    translate = partial(self._translate, request=request, sent=True)
                    reading = read_events(
                        self._session, request, incoming, policy, decoder or Decoder(), translate
                    )
                    async with aclosing(reading) as events:
                        yield events
                    await self._session.end_of(incoming)
                finally:
                    incoming.release()
                return

    async def _open_stream(
        self, request: Request, trail: Trail, policy: Policy, attempt: ObservedAttempt
    ) -> Incoming | None:
        """The stream; None when ``trail`` leads elsewhere now."""
        flag = SentFlag()
        incoming = None
        # Before the `try`: a deadline that has passed is no failure of the network.
        seconds = policy.clock(policy.attempt_timeout)
        try:
            async with self._session.running(asyncio.timeout(seconds)):
                incoming = await self._session.open(
                    request, trail.url, policy, flag, attempt.headers
                )
                if incoming.is_event_stream:
                    opened, incoming = incoming, None
                    attempt.status, attempt.verdict = 200, Verdict.ACCEPTED.value
                    self._limits.answered()
                    # It waited for the pace, so it counts towards it.
                    self._limits.accepted()
                    return opened
                answer: Answer | TransportError = await read_answer(incoming, self._blotter)
        except (*NETWORK_ERRORS, TransportError) as error:
            answer = self._translate(error, request, sent=flag.sent)
        except asyncio.CancelledError as error:
            raise without_headers(error) from None
        finally:
            if incoming is not None:
                incoming.release()
        note(answer, attempt)
        if isinstance(answer, TransportError):
            self._session.check_open(sent=flag.sent)
            policy.remaining()
            self._admission.learn(request, answer)
            # Raised out here, as aiohttp's error, which holds the headers, would be its context.
            raise answer
        self._admission.learn(request, answer)
        self._admission.slow_down(request, answer, policy)
        if trail.leads_on(answer):
            return trail.follow(answer)
        if answer.status < 400:
            raise ProtocolError(
                f"{request.target} answered {answer.status} without an event stream: "
                f"{excerpt(answer)!r}",
                sent=True,
            )
        raise api_error(request, answer)

    def _translate(self, error: BaseException, request: Request, *, sent: bool) -> TransportError:
        base_url, blotter = self._settings.base_url, self._blotter
        return transport_error(error, request, base_url, sent=sent, blotter=blotter)

    def check_usable(self) -> None:
        """Bind to the running loop at the first call.

        Raises:
            ClientClosedError: `close` was called.
            WrongEventLoopError: The transport belongs to another loop, or to another process.
        """
        self._session.check_usable()

    async def insist(self, request: Request, seconds: float) -> bool:
        """Send ``request`` until it is done or refused, for so long; whether nothing is left to do.

        The limits do not hold it back, nor what is known of an outage: it is for a request that
        makes nothing, and that is of use within that time only. Also after `end_calls`.
        """
        policy = Policy(time.monotonic() + seconds, attempt_timeout=seconds)
        request = replace(request, is_last=True)
        while True:
            result = await self._exchange(request, Trail(request, self.base_url).url, policy)
            if isinstance(result, Answer) and (result.status < 300 or result.status == 404):
                return True
            wait = result.retry_after if isinstance(result, Answer) else None
            wait = wait or SHORTEST_WAIT
            is_over = not (is_passing(result) or told_to_wait(request, result))
            if is_over or not policy.allows(wait):
                return False
            await anyio.sleep(wait)

    def end_calls(self) -> None:
        """Have all that runs end with `ClientClosedError`, and nothing begin but `insist`."""
        self._session.end_calls()

    async def close(self) -> None:
        """Close all connections; a second call does nothing."""
        await self._session.close()
