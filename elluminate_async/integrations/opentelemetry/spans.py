"""`SpanObserver`: a span for each call, chunk and attempt."""

from __future__ import annotations

import asyncio
from contextvars import Token
from typing import TYPE_CHECKING, Final, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from elluminate_async.integrations.problems import quotes
from elluminate_async.telemetry import (
    ObservedAttempt,
    ObservedCall,
    ObservedChunk,
    Observer,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanContext, Tracer
    from opentelemetry.util.types import AttributeValue

LONGEST_TEXT: Final = 500
"""Characters of an error's text in a span's status."""

SHORTEST_WAIT: Final = 0.001
"""Seconds from which on a wait is one."""

# Their texts may quote an answer.
_QUOTING_NAMES: Final = frozenset({"AnswerTooLargeError", "ProtocolError", "RedirectError"})


class _Scope(NamedTuple):
    """The span of a call or of a chunk, and the context within it."""

    span: Span
    context: Context
    token: Token[Context]


class SpanObserver(Observer):
    """Makes the spans.

    Args:
        tracer: Makes them.
        capture_content: Whether texts of errors that may quote an input or an answer are told.
    """

    def __init__(self, tracer: Tracer, *, capture_content: bool) -> None:
        self._tracer = tracer
        self._captures = capture_content
        # Of what has begun and not ended: what begins ends, whatever ends it.
        self._scopes: dict[ObservedCall | ObservedChunk, _Scope] = {}
        self._attempts: dict[ObservedAttempt, Span] = {}
        # Of attempts that another may follow.
        self._sent: WeakKeyDictionary[ObservedAttempt, SpanContext] = WeakKeyDictionary()

    def call_began(self, call: ObservedCall) -> None:
        """Within the span that is current."""
        attributes: dict[str, AttributeValue] = {
            "elluminate.call.id": call.id,
            "elluminate.call.kind": call.kind,
            "elluminate.operation": call.operation,
        }
        if call.total is not None:
            attributes["elluminate.items"] = call.total
        self._begin(call, f"elluminate.{call.operation}", attributes, context.get_current())

    def call_ended(self, call: ObservedCall, error: BaseException | None) -> None:
        """With its counts."""
        self._end(call, error, {})

    def chunk_began(self, chunk: ObservedChunk) -> None:
        """Within its call's."""
        self._begin(chunk, "elluminate.chunk", None, self._around(chunk.call))

    def chunk_ended(self, chunk: ObservedChunk, error: BaseException | None) -> None:
        """With its counts and its job: all at once, as each setting takes its time."""
        attributes: dict[str, AttributeValue] = {
            "elluminate.chunk.number": chunk.number,
            "elluminate.items": chunk.items,
        }
        if chunk.kind != "sent":
            attributes["elluminate.chunk.kind"] = chunk.kind
        if chunk.queued > SHORTEST_WAIT:
            attributes["elluminate.queued"] = chunk.queued
        if chunk.jobs:
            attributes["elluminate.job.id"] = chunk.jobs[0]
        if len(chunk.jobs) > 1:
            attributes["elluminate.job.ids"] = chunk.jobs
        self._end(chunk, error, attributes)

    def attempt_began(self, attempt: ObservedAttempt) -> None:
        """Within its chunk's or its call's, linked to the attempt before."""
        attributes: dict[str, AttributeValue] = {
            "http.request.method": attempt.method,
            "server.address": attempt.host,
            "server.port": attempt.port,
            "url.template": attempt.route,
        }
        if attempt.waited > SHORTEST_WAIT:
            attributes["elluminate.queued"] = attempt.waited
        links = None
        if attempt.after is not None:
            attributes["http.request.resend_count"] = attempt.number - 1
            before = self._sent.get(attempt.after)
            links = [Link(before)] if before is not None else None
        around = self._around(attempt.within)
        span = self._attempts[attempt] = self._tracer.start_span(
            f"{attempt.method} {attempt.route}",
            around,
            SpanKind.CLIENT,
            attributes=attributes,
            links=links,
        )
        propagate.inject(attempt.headers, trace.set_span_in_context(span, around))

    def attempt_ended(self, attempt: ObservedAttempt) -> None:
        """With its status and the verdict on it."""
        span = self._attempts.pop(attempt, None)
        if span is None:
            return
        if attempt.status is None or attempt.status >= 300:
            self._sent[attempt] = span.get_span_context()
        if attempt.status is not None:
            span.set_attribute("http.response.status_code", attempt.status)
        if attempt.cause is not None and not (attempt.may_exist and attempt.status == 409):
            self._tell_failure(attempt, span)
        span.end()

    def _tell_failure(self, attempt: ObservedAttempt, span: Span) -> None:
        attributes = {
            "error.type": attempt.cause,
            "elluminate.verdict": attempt.verdict,
            "elluminate.request_id": attempt.request_id,
        }
        span.set_attributes({name: value for name, value in attributes.items() if value})
        told = self._captures or attempt.cause not in _QUOTING_NAMES
        text = attempt.text[:LONGEST_TEXT] if attempt.text and told else None
        span.set_status(Status(StatusCode.ERROR, text))

    def _around(self, within: ObservedCall | ObservedChunk | None) -> Context:
        scope = self._scopes.get(within) if within is not None else None
        if scope is not None:
            return scope.context
        if isinstance(within, ObservedChunk) and within.call is not None:
            return self._around(within.call)
        return context.get_current()

    def _begin(
        self,
        scope: ObservedCall | ObservedChunk,
        name: str,
        attributes: dict[str, AttributeValue] | None,
        around: Context,
    ) -> None:
        span = self._tracer.start_span(name, around, attributes=attributes)
        # For logs and other instrumentations: what they tell of meanwhile is within it.
        inside = trace.set_span_in_context(span, around)
        self._scopes[scope] = _Scope(span, inside, context.attach(inside))

    def _end(
        self,
        scope: ObservedCall | ObservedChunk,
        error: BaseException | None,
        attributes: dict[str, AttributeValue],
    ) -> None:
        began = self._scopes.pop(scope, None)
        if began is None:
            return
        span = began.span
        if context.get_current() is began.context:
            # Not in a coroutine that was thrown away, and is closed in another context.
            context.detach(began.token)
        if scope.codes or isinstance(scope, ObservedCall):
            attributes["elluminate.items.succeeded"] = scope.succeeded
            attributes["elluminate.items.failed"] = scope.failed
        for code, count in scope.codes.items():
            attributes[f"elluminate.items.failed.{code}"] = count
        if error is not None:
            attributes["error.type"] = type(error).__name__
            span.set_status(Status(StatusCode.ERROR, self._text(error)))
        elif scope.failed and not scope.succeeded:
            attributes["error.type"] = scope.most_frequent_code
            span.set_status(Status(StatusCode.ERROR, "all items failed"))
        span.set_attributes(attributes)
        span.end()

    def _text(self, error: BaseException) -> str | None:
        if isinstance(error, asyncio.CancelledError):
            return "cancelled"
        return str(error)[:LONGEST_TEXT] if self._captures or not quotes(error) else None
