"""Events of a client's calls, for who observes it: logs, traces, metrics.

A call is sent in chunks, a chunk by requests, a request by attempts. An `Observer` is told as
each begins and ends::

    class Slow(Observer):
        def attempt_ended(self, attempt: ObservedAttempt) -> None:
            if attempt.seconds > 5:
                print(attempt.method, attempt.route, attempt.status, attempt.seconds)

    client = AsyncClient(observers=[Slow()])

The client's own log is such an observer (`elluminate_async.telemetry.logs`), and so are the spans
and metrics of `elluminate_async.integrations.opentelemetry`.
"""

from __future__ import annotations

from elluminate_async.telemetry.observer import BreakerChange, Hold, Observer, Rated, Readings
from elluminate_async.telemetry.scopes import ObservedAttempt, ObservedCall, ObservedChunk
from elluminate_async.telemetry.telemetry import Telemetry

__all__ = [
    "BreakerChange",
    "Hold",
    "ObservedAttempt",
    "ObservedCall",
    "ObservedChunk",
    "Observer",
    "Rated",
    "Readings",
    "Telemetry",
]
