"""The client's log: one observer of every client, by the logger ``elluminate_async``.

| level | what |
|---|---|
| INFO | A call began, and ended, with its counts. Of a single item: only that it ended. |
| WARNING | Items were given up: one line a call, by code, with the first few. A hold, as the service asked for a wait. Requests are held back in an outage, and are not any more. |
| DEBUG | Each attempt, each retry, each chunk; and the steps of an evaluation. |

Each record has fields besides its text, as ``extra``: ``elluminate_event`` and those of the event.
None holds an input or an answer.
"""  # noqa: E501

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from elluminate_async.telemetry.observer import BreakerChange, Hold, Observer

if TYPE_CHECKING:
    from elluminate_async.telemetry.scopes import ObservedAttempt, ObservedCall, ObservedChunk

logger = logging.getLogger("elluminate_async")

FIELDS: Final = frozenset({
    "attempt", "breaker", "call", "cause", "chunk", "codes", "error", "event", "failed", "is_open",
    "items", "jobs", "kind", "method", "operation", "queued", "request_id", "route", "seconds",
    "status", "succeeded", "verdict", "wait", "waited",
})  # fmt: skip
"""The names of all fields, each after ``elluminate_``."""


class LogObserver(Observer):
    """Writes events to the log, where somebody reads that level."""

    def call_began(self, call: ObservedCall) -> None:
        """INFO, but DEBUG of a single item or a step of an evaluation."""
        is_quiet = call.kind == "single" or call.is_step
        level = logging.DEBUG if is_quiet else logging.INFO
        if not logger.isEnabledFor(level):
            return
        items = "items as they come" if call.total is None else _counted(call.total)
        _log(
            level,
            "call_began",
            f"{call.operation} {call.id}: began, {items}",
            call=call.id,
            operation=call.operation,
            kind=call.kind,
            items=call.total,
        )

    def call_ended(self, call: ObservedCall, error: BaseException | None) -> None:
        """INFO, but DEBUG of a step of an evaluation; and WARNING of items given up."""
        level = logging.DEBUG if call.is_step else logging.INFO
        if logger.isEnabledFor(level):
            done = f"{call.succeeded:,} of {_counted(call.succeeded + call.failed)} succeeded"
            how = f"ended by {call.error.__name__}" if call.error else "ended"
            _log(
                level,
                "call_ended",
                f"{call.operation} {call.id}: {how} in {call.seconds:.3g} s, {done}",
                error=call.error and call.error.__name__,
                **_counts(call),
            )
        if call.failed and call.kind != "single" and not call.is_step:
            self._tell_failed(call)

    def _tell_failed(self, call: ObservedCall) -> None:
        if not logger.isEnabledFor(logging.WARNING):
            return
        codes = ", ".join(f"{count:,} {code}" for code, count in call.codes.most_common())
        first = "; ".join(map(str, call.first_failed))
        rest = "; …" if call.failed > len(call.first_failed) else ""
        _log(
            logging.WARNING,
            "items_failed",
            f"{call.operation} {call.id}: {call.failed:,} of "
            f"{_counted(call.succeeded + call.failed)} failed: {codes}; at {first}{rest}",
            **_counts(call),
        )

    def chunk_ended(self, chunk: ObservedChunk, error: BaseException | None) -> None:
        """DEBUG."""
        if not logger.isEnabledFor(logging.DEBUG):
            return
        call = chunk.call
        how = f"ended by {chunk.error.__name__}" if chunk.error else "ended"
        _log(
            logging.DEBUG,
            "chunk_ended",
            f"{_name(chunk)}: {how} in {chunk.seconds:.3g} s, {chunk.succeeded:,} of "
            f"{_counted(chunk.items)} succeeded",
            call=call and call.id,
            operation=call and call.operation,
            chunk=chunk.number,
            kind=chunk.kind,
            items=chunk.items,
            succeeded=chunk.succeeded,
            failed=chunk.failed,
            codes=dict(chunk.codes),
            jobs=[*chunk.jobs],
            queued=chunk.queued,
            seconds=chunk.seconds,
            error=chunk.error and chunk.error.__name__,
        )

    def attempt_ended(self, attempt: ObservedAttempt) -> None:
        """DEBUG."""
        if not logger.isEnabledFor(logging.DEBUG):
            return
        said = attempt.status if attempt.status is not None else attempt.text or attempt.cause
        number = f", attempt {attempt.number}" if attempt.number > 1 else ""
        _log(
            logging.DEBUG,
            "attempt_ended",
            f"{attempt.method} {attempt.route}: {said} in {attempt.seconds:.3g} s{number}",
            **_request(attempt),
            verdict=attempt.verdict,
            seconds=attempt.seconds,
            waited=attempt.waited,
        )

    def retrying(self, attempt: ObservedAttempt, wait: float) -> None:
        """DEBUG."""
        if not logger.isEnabledFor(logging.DEBUG):
            return
        _log(
            logging.DEBUG,
            "retry",
            f"{attempt.method} {attempt.route}: again in {wait:.2f} s, as it failed by "
            f"{attempt.cause}",
            **_request(attempt),
            wait=wait,
        )

    def hold_began(self, hold: Hold) -> None:
        """WARNING."""
        then = "nothing is sent until then" if hold.is_waited_out else "no new work is begun"
        _log(
            logging.WARNING,
            "hold",
            f"the service asked for a wait of {hold.seconds:.3g} s: {then}",
            wait=hold.seconds,
        )

    def breaker_changed(self, change: BreakerChange) -> None:
        """WARNING."""
        what = "requests" if change.of == "service" else "chunks"
        since = f"{change.seconds:.3g} s"
        text = f"the service answers again, after {since}: {what} are sent as before"
        if change.is_open:
            text = (
                f"the service does not answer, for {since} now ({change.reason}): {what} wait "
                "until it does"
            )
        _log(
            logging.WARNING,
            "breaker",
            text,
            breaker=change.of,
            is_open=change.is_open,
            seconds=change.seconds,
            cause=change.reason,
        )


def _log(level: int, event: str, text: str, **fields: object) -> None:
    extra = {f"elluminate_{name}": value for name, value in fields.items()}
    # The text is an argument, as a percent sign in it is none of the format's.
    logger.log(level, "%s", text, extra={"elluminate_event": event, **extra}, stacklevel=2)


def _counts(call: ObservedCall) -> dict[str, object]:
    return {
        "call": call.id,
        "operation": call.operation,
        "kind": call.kind,
        "items": call.succeeded + call.failed,
        "succeeded": call.succeeded,
        "failed": call.failed,
        "codes": dict(call.codes),
        "seconds": call.seconds,
    }


def _request(attempt: ObservedAttempt) -> dict[str, object]:
    call, chunk = attempt.call, attempt.chunk
    return {
        "call": call and call.id,
        "operation": call and call.operation,
        "chunk": chunk and chunk.number,
        "method": attempt.method,
        "route": attempt.route,
        "attempt": attempt.number,
        "status": attempt.status,
        "cause": attempt.cause,
        "request_id": attempt.request_id,
    }


def _name(chunk: ObservedChunk) -> str:
    whole = f" of {chunk.call.operation} {chunk.call.id}" if chunk.call is not None else ""
    return f"chunk {chunk.number}{whole}"


def _counted(items: int) -> str:
    return f"{items:,} item" if items == 1 else f"{items:,} items"
