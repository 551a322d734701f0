"""Spans, metrics and events by OpenTelemetry's own SDK, of calls to an embedded server."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from elluminate_async import (
    AsyncClient,
    AuthenticationError,
    BatchOptions,
    ConflictError,
    ItemError,
)
from elluminate_async.integrations.opentelemetry import (
    CAPTURE_VARIABLE,
    instrument,
    observers,
    uninstrument,
)
from elluminate_async.telemetry import Telemetry
from elluminate_async.testing import Fault, ScriptedService
from tests.evaluation.scene import CRITERIA, PROMPT, evaluating, words
from tests.flow.bench import Once, Seen, Send, answer, cancelled_when
from tests.flow.conftest import staged

OPTIONS = BatchOptions(chunk_size=10)
VALUES = [f"v{number}" for number in range(25)]


@dataclass
class Collector:
    """What a program's exporters would send."""

    spans: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    logs: InMemoryLogRecordExporter = field(default_factory=InMemoryLogRecordExporter)
    reader: InMemoryMetricReader = field(default_factory=InMemoryMetricReader)
    tracers: TracerProvider = field(default_factory=TracerProvider)
    loggers: LoggerProvider = field(default_factory=LoggerProvider)

    def __post_init__(self) -> None:
        self.meters = MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.loggers.add_log_record_processor(SimpleLogRecordProcessor(self.logs))

    @property
    def providers(self) -> dict[str, Any]:
        return {
            "tracer_provider": self.tracers,
            "meter_provider": self.meters,
            "logger_provider": self.loggers,
        }

    def named(self, name: str) -> list[ReadableSpan]:
        """The spans that have ended, by the beginning of their name, in order."""
        found = [span for span in self.spans.get_finished_spans() if span.name.startswith(name)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def within(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """The spans whose parent that is."""
        return [span for span in self.named("") if span.parent and _id(parent) == _id_of(span)]

    def points(self) -> dict[str, list[Any]]:
        """The points of each metric."""
        found: defaultdict[str, list[Any]] = defaultdict(list)
        data = self.reader.get_metrics_data()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found[metric.name] += metric.data.data_points
        return found

    def events(self, name: str) -> list[Mapping[str, Any]]:
        """The attributes of the events of that name."""
        return [
            one.log_record.attributes or {}
            for one in self.logs.get_finished_logs()
            if one.log_record.event_name == name
        ]

    def said(self) -> str:
        """Everything that is exported, as one text."""
        spans = [
            (span.name, dict(span.attributes or {}), span.status.description, span.events)
            for span in self.named("")
        ]
        logs = [dict(one.log_record.attributes or {}) for one in self.logs.get_finished_logs()]
        return repr([spans, logs, self.points()])


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def _id_of(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def told(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(span.attributes or {})


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.tracers.shutdown()
    one.meters.shutdown()
    one.loggers.shutdown()


async def test_a_trace_of_one_call(collector: Collector) -> None:
    """1 call, its 3 chunks, the 2 attempts of each; the call within the caller's span."""
    tracer = collector.tracers.get_tracer("program")
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        instrument(stage.client, **collector.providers)
        with tracer.start_as_current_span("request") as request:
            await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment
            )
        jobs = [*stage.recorder.key_of_job]

    (call,) = collector.named("elluminate.generate")
    chunks = collector.named("elluminate.chunk")
    assert _id_of(call) == request.get_span_context().span_id
    assert collector.within(call) == chunks
    assert [told(chunk)["elluminate.items"] for chunk in chunks] == [10, 10, 5]
    assert sorted(told(chunk)["elluminate.job.id"] for chunk in chunks) == sorted(jobs)
    for chunk in chunks:
        assert [(one.name, one.kind) for one in collector.within(chunk)] == [
            ("POST /api/v0/projects/{id}/responses/batches", SpanKind.CLIENT),
            ("GET /api/v0/projects/{id}/responses/batches/{id}/stream", SpanKind.CLIENT),
        ]
    assert len(collector.named("")) == 2 + 3 + 6
    assert len({span.context.trace_id for span in collector.named("") if span.context}) == 1
    assert told(call)["elluminate.items.succeeded"] == 25
    assert all(span.status.status_code is StatusCode.UNSET for span in collector.named(""))


async def test_the_trace_of_an_evaluation(collector: Collector) -> None:
    """The call has its steps, each step its chunks, each chunk its attempts."""
    async with evaluating(options=OPTIONS) as scene:
        instrument(scene.client, **collector.providers)
        await scene.client.evaluate(words(12), prompt=PROMPT, criteria=CRITERIA)

    (whole,) = collector.named("elluminate.evaluate")
    steps = [span for span in collector.within(whole) if span.name.startswith("elluminate.")]
    assert {span.name for span in steps} == {
        "elluminate.add", "elluminate.generate", "elluminate.rate"
    }  # fmt: skip
    assert len(steps) == 3
    chunks = [chunk for step in steps for chunk in collector.within(step)]
    assert sorted(map(_id, chunks)) == sorted(map(_id, collector.named("elluminate.chunk")))
    # The upload has no job; of the others each is posted and followed.
    assert Counter(len(collector.within(chunk)) for chunk in chunks)[1] == 1
    assert all(collector.within(chunk) for chunk in chunks)


async def test_what_exists_already_is_no_error(collector: Collector) -> None:
    """The 409 by which `get_or_create` finds that there is one leaves its span without a status."""
    async with staged() as stage:
        instrument(stage.client, **collector.providers)
        _, is_new = await stage.client.collections.get_or_create(stage.collection.name)
        with pytest.raises(ConflictError):
            await stage.client.collections.create(stage.collection.name)

    assert not is_new
    found, created = collector.named("POST ")
    assert [told(one)["http.response.status_code"] for one in (found, created)] == [409, 409]
    assert found.status.status_code is StatusCode.UNSET
    assert "error.type" not in told(found)
    assert created.status.status_code is StatusCode.ERROR


async def test_an_attempt_is_linked_to_the_one_before(
    collector: Collector, quick_back_off: None
) -> None:
    """Both are of the same chunk; the first has its status as its error."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:5])
        instrument(stage.client, **collector.providers)
        stage.recorder.before = Once(503, times=2)
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    (chunk,) = collector.named("elluminate.chunk")
    attempts = collector.named("POST ")
    assert [_id_of(one) for one in attempts] == [_id(chunk)] * 3
    assert [told(one).get("http.request.resend_count") for one in attempts] == [None, 1, 2]
    linked = [[link.context.span_id for link in one.links] for one in attempts]
    assert linked == [[], [_id(attempts[0])], [_id(attempts[1])]]
    assert [told(one).get("error.type") for one in attempts] == ["503", "503", None]
    assert told(attempts[0])["elluminate.verdict"] == "ambiguous"
    points = {
        point.attributes["error.type"]: point.value
        for point in collector.points()["elluminate.client.retries"]
    }
    assert points == {"503": 2}


async def test_a_stream_is_of_its_consumer(collector: Collector) -> None:
    """Its span is within the one in which it is read; leaving it early ends all spans."""
    tracer = collector.tracers.get_tracer("program")
    async with staged(options=BatchOptions(chunk_size=5, max_concurrency=1)) as stage:
        rows = await stage.variables(VALUES)
        instrument(stage.client, **collector.providers)
        stream = stage.client.responses.stream_generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        with tracer.start_as_current_span("reader") as reader:
            async with stream:
                async for _ in stream:
                    break

    (call,) = collector.named("elluminate.generate")
    assert _id_of(call) == reader.get_span_context().span_id
    assert told(call)["elluminate.call.kind"] == "stream"
    assert collector.within(call) == collector.named("elluminate.chunk")
    begun = len(collector.named("elluminate.chunk"))
    assert 1 <= begun < 5


async def test_a_cancelled_call_ends_all_its_spans(collector: Collector) -> None:
    """Call, chunk and attempt have an end, and say that they were cancelled."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:10])
        instrument(stage.client, **collector.providers)
        call = stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        stage.model.delay = 60.0
        await cancelled_when(stage, lambda: bool(stage.model.answered), call)

    (whole,), (chunk,) = collector.named("elluminate.generate"), collector.named("elluminate.chunk")
    (stream,) = collector.named("GET /api/v0/projects/{id}/responses/batches/{id}/stream")
    for span in (whole, chunk, stream):
        assert span.end_time is not None
        assert told(span)["error.type"] == "CancelledError"
        assert span.status.status_code is StatusCode.ERROR
    assert (whole.status.description, chunk.status.description) == ("cancelled", "cancelled")
    assert told(whole)["elluminate.items.failed.outcome_unknown"] == 10


async def test_an_error_is_the_status_of_its_call(collector: Collector) -> None:
    """Its class and its text, where it quotes neither an input nor an answer."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:5])
        instrument(stage.client, **collector.providers)
        stage.recorder.before = Once(401)
        with pytest.raises(AuthenticationError) as caught:
            await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment
            )

    (call,) = collector.named("elluminate.generate")
    assert told(call)["error.type"] == "AuthenticationError"
    assert call.status.status_code is StatusCode.ERROR
    assert call.status.description == str(caught.value)
    assert told(call)["elluminate.items.failed"] == 5


async def test_failed_items_are_counted_by_code(collector: Collector) -> None:
    """On chunk and call; where some succeed that is no error, where none does it is."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:20])
        instrument(stage.client, **collector.providers)
        for ending in ("3", ""):
            stage.model.failing = lambda prompt, ending=ending: prompt.endswith(ending)
            await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment
            )

    some, all_failed = collector.named("elluminate.generate")
    assert told(some)["elluminate.items.failed.generation_failed"] == 2
    assert some.status.status_code is StatusCode.UNSET
    assert all_failed.status.status_code is StatusCode.ERROR
    assert told(all_failed)["error.type"] == "generation_failed"
    outcomes = {
        point.attributes["elluminate.outcome"]: point.value
        for point in collector.points()["elluminate.client.outcomes"]
    }
    assert outcomes == {"succeeded": 18, "generation_failed": 22}


async def test_a_call_of_one_item_is_a_call(collector: Collector) -> None:
    """Its attempt is within it, its outcome and its tokens are counted."""
    async with staged() as stage:
        (row,) = await stage.variables(["v"])
        instrument(stage.client, evaluation_events=True, **collector.providers)
        response = await stage.client.responses.generate(
            template_variables=row, experiment=stage.experiment
        )
        await stage.client.ratings.rate(response)
        stage.model.failing = lambda prompt: True
        with pytest.raises(ItemError):
            await stage.client.responses.generate(
                template_variables=row, experiment=stage.experiment
            )

    first, second = collector.named("elluminate.generate")
    assert len(collector.within(first)) == 1
    assert told(second)["error.type"] == "GenerationError"
    assert told(second)["elluminate.items.failed.generation_failed"] == 1
    points = collector.points()
    assert sum(point.sum for point in points["gen_ai.client.token.usage"]) == 2
    outcomes = [point.value for point in points["elluminate.client.outcomes"]]
    assert outcomes == [1, 1, 1]
    events = collector.events("gen_ai.evaluation.result")
    assert {event["gen_ai.response.id"] for event in events} == {str(response.id)}


async def test_what_is_measured(collector: Collector) -> None:
    """Requests, tokens, cost, calls, and the state of the limits."""
    async with staged(options=BatchOptions(chunk_size=10, max_concurrency=3)) as stage:
        config = await stage.client.llm_configs.create(
            "priced", "echo", input_price_per_mtok=2.0, output_price_per_mtok=4.0
        )
        experiment, _ = await stage.client.experiments.get_or_create(
            "priced", prompt_template=stage.template, collection=stage.collection, llm_config=config
        )
        rows = await stage.variables(VALUES)
        instrument(stage.client, **collector.providers)
        await stage.client.responses.generate_many(template_variables=rows, experiment=experiment)
        points = collector.points()

    def of(name: str) -> Any:
        (point,) = points[name]
        return point

    requests: list[HistogramDataPoint] = points["http.client.request.duration"]
    assert sum(point.count for point in requests) == 6
    assert requests[0].attributes == {
        "http.request.method": "POST",
        "http.response.status_code": 202,
        "server.address": "127.0.0.1",
        "server.port": int(stage.server.url.rpartition(":")[2]),
        "url.template": "/api/v0/projects/{id}/responses/batches",
    }
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for point in points["gen_ai.client.token.usage"]
    }
    assert tokens == {"input": 25, "output": 25}
    assert of("elluminate.client.cost").value == pytest.approx(25 * 6e-6)
    assert of("elluminate.client.call.duration").count == 1
    assert of("elluminate.client.chunks.in_flight").value == 0
    assert of("elluminate.client.chunks.limit").value == 3
    assert "elluminate.client.requests.pace" not in points
    breakers = {
        point.attributes["elluminate.breaker"]: point.value
        for point in points["elluminate.client.breaker.open"]
    }
    assert breakers == {"service": 0, "chunks": 0}


async def test_a_hold_is_counted_and_the_pace_shown(collector: Collector) -> None:
    """After a 429 with ``Retry-After`` there are both."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:5])
        instrument(stage.client, **collector.providers)
        stage.recorder.before = Once(429, retry_after="1")
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        points = collector.points()

    assert [point.value for point in points["elluminate.client.holds"]] == [1]
    assert [point.value > 0 for point in points["elluminate.client.requests.pace"]] == [True]
    # The hold is what the second attempt waited for.
    queued = [told(one).get("elluminate.queued", 0.0) for one in collector.named("POST ")]
    assert queued[1] >= 1.0


async def test_each_rating_is_an_event_of_its_chunk(collector: Collector) -> None:
    """Where that is asked for: its criterion, its verdict, its response; no reason of the judge."""
    async with evaluating(options=OPTIONS) as scene:
        instrument(scene.client, evaluation_events=True, **collector.providers)
        result = await scene.client.evaluate(words(12), prompt=PROMPT, criteria=CRITERIA)

    events = collector.events("gen_ai.evaluation.result")
    assert Counter(event["gen_ai.evaluation.name"] for event in events) == dict.fromkeys(
        CRITERIA, 12
    )
    wanted = {
        (str(record.response.id), rating.id): str(rating.rating)
        for record in result
        for rating in record.ratings or ()
        if record.response
    }
    assert wanted == {
        (event["gen_ai.response.id"], event["elluminate.rating.id"]): event[
            "gen_ai.evaluation.score.label"
        ]
        for event in events
    }
    assert {
        (event["gen_ai.evaluation.score.label"], event["gen_ai.evaluation.score.value"])
        for event in events
    } <= {("YES", 1.0), ("NO", 0.0)}
    assert not any("gen_ai.evaluation.explanation" in event for event in events)
    (step,) = collector.named("elluminate.rate")
    chunks = {_id(chunk) for chunk in collector.within(step)}
    assert {one.log_record.span_id for one in collector.logs.get_finished_logs()} <= chunks


SECRET = "the quince is ripe"


async def evaluated(collector: Collector, **arguments: Any) -> None:
    """Have a row generated and rated whose text is ``SECRET``; once it is refused."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables([SECRET])
        instrument(stage.client, evaluation_events=True, **collector.providers, **arguments)
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        await stage.client.ratings.rate_many(batch)
        stage.recorder.before = refusing(SECRET)
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )


def refusing(text: str, status: int = 422) -> Any:
    """Answers chunks with an error that quotes ``text``."""

    async def before(seen: Seen, send: Send) -> bool:
        if seen.method == "POST":
            body = json.dumps({"detail": f"cannot take {text}"}).encode()
            await answer(send, status, body, {"x-request-id": text, "x-echo": text})
            return True
        return False

    return before


async def test_no_prompt_and_no_answer_is_told(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in a span, a metric or an event, and not where an error quotes it."""
    monkeypatch.delenv(CAPTURE_VARIABLE, raising=False)
    await evaluated(collector)

    said = collector.said().replace(f"'elluminate.request_id': '{SECRET}'", "")
    assert "quince" not in said
    assert "offline model" not in said  # the judge's reasons
    assert "elluminate.rate" in said


@pytest.mark.parametrize("how", ["argument", "true", "EVENT_ONLY"])
async def test_they_are_told_where_that_is_asked_for(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Prompt and answer of each response, and the judge's reason of each rating."""
    if how != "argument":
        monkeypatch.setenv(CAPTURE_VARIABLE, how)
    await evaluated(collector, **({"capture_content": True} if how == "argument" else {}))

    (event,) = collector.events("gen_ai.client.inference.operation.details")
    assert json.loads(event["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": f"say {SECRET}"}]}
    ]
    assert json.loads(event["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": f"echo say {SECRET}"}]}
    ]
    assert (event["gen_ai.usage.input_tokens"], event["gen_ai.operation.name"]) == (1, "chat")
    reasons = [
        rating["gen_ai.evaluation.explanation"]
        for rating in collector.events("gen_ai.evaluation.result")
    ]
    assert len(reasons) == 3
    assert all("offline model" in reason for reason in reasons)


@pytest.mark.parametrize("status", [401, 422, 500, 503])
async def test_the_credential_is_nowhere(
    collector: Collector, status: int, quick_back_off: None
) -> None:
    """Not even where the service sends it back, and with contents told."""
    async with staged(options=OPTIONS.replace(retry_for=0.5)) as stage:
        rows = await stage.variables([f"a key {stage.server.api_key}"])
        instrument(
            stage.client, evaluation_events=True, capture_content=True, **collector.providers
        )
        batch = await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        await stage.client.ratings.rate_many(batch)
        stage.recorder.before = refusing(stage.server.api_key, status)
        try:
            await stage.client.responses.generate_many(
                template_variables=rows, experiment=stage.experiment
            )
        except AuthenticationError:
            assert status == 401

    assert len(collector.named("elluminate.generate")) == 2
    assert "a key ***" in collector.said()
    assert stage.server.api_key not in collector.said()


async def test_requests_carry_the_context(collector: Collector) -> None:
    """The server sees, of each attempt, that attempt's span."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES)
        instrument(stage.client, **collector.providers)
        stage.recorder.requests.clear()
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )
        seen = stage.recorder.requests

    attempts = [*collector.named("POST "), *collector.named("GET ")]
    wanted = {
        f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}"
        for span in attempts
        if span.context
    }
    assert {request.headers["traceparent"][:-3] for request in seen} == wanted
    assert len(seen) == len(wanted) == 6


class Intruder(TextMapPropagator):
    """Adds what is not its own."""

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        for name, value in {
            "x-api-key": "stolen",
            "Authorization": "Bearer stolen",
            "content-length": "0",
            "Host": "elsewhere",
            "baggage": "a=b\r\nx-evil: 1",
            "user-agent": "mine",
            "Range": "bytes=0-1",
            "If-None-Match": "*",
            "traceparent": "00-1",
            "x-tenant": "t",
        }.items():
            setter.set(carrier, name, value)

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        return context or Context()

    @property
    def fields(self) -> set[str]:
        return set()


async def test_a_propagator_adds_headers_and_changes_none(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the credential nor what frames the request, and none that HTTP does not take."""
    monkeypatch.setattr(propagate, "inject", Intruder().inject)
    async with staged(options=OPTIONS) as stage:
        instrument(stage.client, **collector.providers)
        stage.recorder.requests.clear()
        await stage.client.projects.current()
        await stage.client.prompt_templates.get_or_create("say {{y}}", name="Other")
        seen = stage.recorder.requests[-1]

    assert seen.headers["x-api-key"] == stage.server.api_key
    assert seen.headers["host"].startswith("127.0.0.1")
    assert seen.headers["user-agent"].startswith("elluminate-async/")
    assert seen.headers["x-tenant"] == "t"
    assert seen.headers["traceparent"] == "00-1"
    lost = {"authorization", "baggage", "x-evil", "range", "if-none-match"}
    assert not seen.headers.keys() & lost


async def test_an_attempt_that_meets_no_service_says_why(
    collector: Collector, quick_back_off: None
) -> None:
    """Its error is the class, its text the reason."""
    fault = Fault("reset", on="GET collections", times=1)
    async with (
        ScriptedService(faults=[fault]) as service,
        AsyncClient(base_url=service.url, api_key=service.api_key) as client,
    ):
        instrument(client, **collector.providers)
        await client.collections.list()

    first = collector.named("GET /api/v0/projects/{id}/collections")[0]
    assert told(first)["error.type"] == "TransportError"
    assert "the connection broke" in str(first.status.description)


async def test_it_can_be_ended(collector: Collector) -> None:
    """Nothing is told after that; and twice asked for it is told once."""
    async with staged(options=OPTIONS) as stage:
        rows = await stage.variables(VALUES[:5])
        given: Mapping[str, Any] = {"template_variables": rows, "experiment": stage.experiment}
        instrument(stage.client, **collector.providers)
        instrument(stage.client, **collector.providers)
        await stage.client.responses.generate_many(**given)
        assert len(collector.named("elluminate.generate")) == 1
        uninstrument(stage.client)
        uninstrument(stage.client)
        await stage.client.responses.generate_many(**given)

        assert len(collector.named("elluminate.generate")) == 1
        assert "elluminate.client.chunks.limit" not in collector.points()


async def test_a_client_is_made_with_it(collector: Collector) -> None:
    """As observers, the requests with which it opens are told too."""
    async with staged(observers=observers(**collector.providers)):
        pass

    names = {span.name for span in collector.named("")}
    assert {"GET /api/v0/projects", "POST /api/v0/version/compatible"} <= names


@pytest.mark.parametrize(
    "named", [(), ("tracer_provider",), ("meter_provider",), ("logger_provider",)]
)
def test_a_provider_that_is_not_named_is_the_global_one(
    collector: Collector, named: tuple[str, ...]
) -> None:
    """Each may be left out, all of them too: that is the way of a program with an agent."""
    provided = {name: collector.providers[name] for name in named}
    client = AsyncClient(base_url="http://127.0.0.1:1", api_key="a-key")
    before = len(client.telemetry.observers)

    instrument(client, **provided, evaluation_events=True)

    assert len(client.telemetry.observers) == before + 3
    assert len(observers(**provided)) == 2


def test_the_state_of_clients_of_one_service_is_added_up(collector: Collector) -> None:
    """Two clients, one point; a client that is gone is in none."""
    shared = observers(**collector.providers)
    first = AsyncClient(api_key="k", base_url="http://127.0.0.1:1", observers=shared)
    second = AsyncClient(api_key="k", base_url="http://127.0.0.1:1", observers=shared)

    assert [point.value for point in collector.points()["elluminate.client.chunks.limit"]] == [20]
    del first
    gc.collect()
    assert [point.value for point in collector.points()["elluminate.client.chunks.limit"]] == [10]
    assert second.telemetry.readings().in_flight == 0


def test_thousands_of_calls_leave_nothing_behind(collector: Collector) -> None:
    """Whatever ends them: no span stays open, no context current, no object per call."""
    told_to = observers(**collector.providers)
    telemetry = Telemetry("http://127.0.0.1:1", told_to)
    request = _Sent("POST", ("api", "v0", "projects", 1, "ratings"))

    def calls(count: int) -> int:
        for number in range(count):
            try:
                with telemetry.call("rate"), telemetry.chunk(1, [(0, "x")]):
                    with telemetry.attempt(request) as first:
                        first.cause = "503"
                    telemetry.retrying(first, 0.1)
                    with telemetry.attempt(request, first):
                        if number % 2:
                            raise ValueError(number)
            except ValueError:
                pass
        collector.spans.clear()
        gc.collect()
        return len(gc.get_objects())

    before = calls(100)
    assert calls(2000) - before < 200
    assert context.get_current() == Context()
    assert trace.get_current_span() is trace.INVALID_SPAN


@dataclass
class _Sent:
    method: str
    path: Sequence[str | int]
    harmless: bool = False


def test_without_the_extra_the_error_names_the_command() -> None:
    """What to install, where the import is."""
    code = (
        "import sys\n"
        "sys.modules['opentelemetry'] = None\n"
        "import elluminate_async\n"
        "try:\n"
        "    import elluminate_async.integrations.opentelemetry\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.startswith("MissingExtraError ")
    assert "pip install 'elluminate-async[otel]'" in done.stdout
