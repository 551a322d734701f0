"""Traces, metrics and events of a client, by OpenTelemetry: the extra ``otel``.

It needs the API alone; the program has the SDK, or an agent brings it::

    from elluminate_async.integrations.opentelemetry import instrument

    async with AsyncClient() as client:
        instrument(client)

**Spans**: ``elluminate.<operation>`` for a call, with ``elluminate.chunk`` for each of its chunks,
and these with a span of kind client for each attempt, ``<method> <route>``. That of a call is
within the caller's, and current while the call runs. An attempt that is sent again is linked to
the one before. Its request has the context in its headers, as the propagators of the program
have it.

**Metrics**: ``http.client.request.duration`` and ``gen_ai.client.token.usage`` of the semantic
conventions; the others begin with ``elluminate.client.``, see `metrics`.

**Events**, where they are asked for: ``gen_ai.evaluation.result`` for each rating, and with
contents ``gen_ai.client.inference.operation.details`` for each response.

Neither prompts nor answers, the judge's reasons included, are told unless they are asked for,
and the credential is nowhere.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from elluminate_async._version import __version__
from elluminate_async.errors import MissingExtraError
from elluminate_async.errors.arguments import flag, optional_flag

try:
    from opentelemetry import _logs, trace

    # By its name: `metrics` in here is the module beside this one.
    from opentelemetry.metrics import get_meter_provider
except ImportError as error:
    raise MissingExtraError("telemetry by OpenTelemetry", "otel") from error

from elluminate_async.integrations.opentelemetry.events import EventObserver
from elluminate_async.integrations.opentelemetry.metrics import MetricObserver, instruments_of
from elluminate_async.integrations.opentelemetry.spans import SpanObserver

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from elluminate_async import AsyncClient
    from elluminate_async.telemetry import Observer

__all__ = ["instrument", "observers", "uninstrument"]

CAPTURE_VARIABLE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_NAME: Final = "elluminate_async"
# Contents go into events: they would not fit into a chunk's span.
_CAPTURES: Final = frozenset({"true", "event_only", "span_and_event"})


def observers(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    evaluation_events: bool = False,
    capture_content: bool | None = None,
) -> list[Observer]:
    """Observers for ``AsyncClient(observers=...)``, where a client is made elsewhere.

    Args:
        tracer_provider: None for the global one, as of the others.
        meter_provider: Of the metrics.
        logger_provider: Of the events.
        evaluation_events: Emit an event for each rating. They are many: they cost as much of the
            client's time again as the ratings themselves.
        capture_content: Emit the messages of each response, and the judge's reasons in the events
            of ratings. None asks ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``, where
            ``true``, ``EVENT_ONLY`` and ``SPAN_AND_EVENT`` say so.

    Raises:
        InputError: One of both is neither True nor False.
    """
    evaluation_events = flag(evaluation_events, "evaluation_events")
    capture_content = optional_flag(capture_content, "capture_content")
    if capture_content is None:
        capture_content = os.environ.get(CAPTURE_VARIABLE, "").strip().lower() in _CAPTURES
    tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
    found: list[Observer] = [
        SpanObserver(tracer, capture_content=capture_content),
        MetricObserver(instruments_of(meter_provider or get_meter_provider())),
    ]
    if evaluation_events or capture_content:
        logger = _logs.get_logger(_NAME, __version__, logger_provider)
        found.append(
            EventObserver(logger, ratings=evaluation_events, capture_content=capture_content)
        )
    return found


def instrument(
    client: AsyncClient,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    evaluation_events: bool = False,
    capture_content: bool | None = None,
) -> None:
    """Have ``client`` make spans and metrics of what begins from now on.

    The arguments are those of `observers`. Again replaces what was there.
    """
    uninstrument(client)
    for observer in observers(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        evaluation_events=evaluation_events,
        capture_content=capture_content,
    ):
        client.telemetry.subscribe(observer)


def uninstrument(client: AsyncClient) -> None:
    """End that; calls that run have their spans ended. Of no effect where there is none."""
    for observer in client.telemetry.observers:
        if isinstance(observer, SpanObserver | MetricObserver | EventObserver):
            client.telemetry.unsubscribe(observer)
