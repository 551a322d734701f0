"""`MetricObserver`: the metrics of clients.

| metric | what |
|---|---|
| ``http.client.request.duration`` | Seconds of each attempt. |
| ``gen_ai.client.token.usage`` | Tokens of the responses of each chunk, of prompts and of answers. |
| ``elluminate.client.cost`` | What they cost, by the prices of their configuration. |
| ``elluminate.client.call.duration`` | Seconds of each call. |
| ``elluminate.client.queue.duration`` | Seconds that chunks waited for a permit, and requests for a connection, the limits, a hold or an outage: ``elluminate.queue``. What waited for less than a millisecond is not in it. |
| ``elluminate.client.outcomes`` | Items that were sent: ``elluminate.outcome`` is ``succeeded`` or a code. |
| ``elluminate.client.retries`` | Requests that were sent again, by ``error.type``. |
| ``elluminate.client.holds`` | Waits that the service asked for. |
| ``elluminate.client.chunks.in_flight`` | Chunks in flight now. |
| ``elluminate.client.chunks.limit`` | How many may be. |
| ``elluminate.client.requests.pace`` | Requests a second that may be; nothing while the service refuses none. |
| ``elluminate.client.hold.remaining`` | Seconds that are left of a wait that the service asked for. |
| ``elluminate.client.breaker.open`` | 1 while requests or chunks, ``elluminate.breaker``, are held back in an outage. |
"""  # noqa: E501

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry.metrics import Observation

from elluminate_async._version import __version__
from elluminate_async.integrations.opentelemetry.spans import SHORTEST_WAIT
from elluminate_async.schemas import LLMConfig, PromptResponse
from elluminate_async.schemas.prices import Prices
from elluminate_async.telemetry import (
    Hold,
    ObservedAttempt,
    ObservedCall,
    ObservedChunk,
    Observer,
    Rated,
    Readings,
    Telemetry,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Histogram, Meter, MeterProvider
    from opentelemetry.util.types import AttributeValue

# Those of the semantic conventions.
_SECONDS: Final = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10]
_LONG_SECONDS: Final = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600]
_TOKENS: Final = [4**power for power in range(14)]
PROVIDER: Final = "elluminate"

MOST_PENDING: Final = 128
"""Measurements that wait to be recorded."""

_Value = Callable[[Readings], float | None]


class Instruments:
    """The instruments of one meter provider, which all clients share.

    Attributes:
        telemetries: Of the clients whose state is observed.
    """

    def __init__(self, provider: MeterProvider) -> None:
        self.telemetries = WeakSet[Telemetry]()
        # Counted here, as each count of a chunk would take the longer way through the SDK.
        self._outcomes = Counter[tuple[str, str]]()
        self._counting = Lock()
        self._pending: deque[tuple[Histogram, float, dict[str, AttributeValue]]] = deque()
        meter = provider.get_meter("elluminate_async", __version__)
        ours = "elluminate.client"
        self.requests = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Tokens of the responses of a chunk.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        self.calls = meter.create_histogram(
            f"{ours}.call.duration",
            "s",
            "Duration of calls.",
            explicit_bucket_boundaries_advisory=_LONG_SECONDS,
        )
        self.queues = meter.create_histogram(
            f"{ours}.queue.duration",
            "s",
            "Waits before a chunk or a request was sent.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.cost = meter.create_counter(
            f"{ours}.cost", "{currency}", "Cost of responses, in the currency of their prices."
        )
        self.retries = meter.create_counter(f"{ours}.retries", "{request}", "Requests sent again.")
        self.holds = meter.create_counter(f"{ours}.holds", "{hold}", "Waits asked for.")
        meter.create_observable_counter(
            f"{ours}.outcomes", [self._observe_outcomes], "{item}", "Items sent."
        )
        self._observe_limits(meter, ours)

    def _observe_limits(self, meter: Meter, ours: str) -> None:
        """The instruments of the clients' state, which the SDK asks for."""
        meter.create_observable_up_down_counter(
            f"{ours}.chunks.in_flight",
            [self._observing(lambda now: now.in_flight)],
            "{chunk}",
            "Chunks sent whose jobs have not ended.",
        )
        meter.create_observable_up_down_counter(
            f"{ours}.chunks.limit",
            [self._observing(lambda now: now.permits)],
            "{chunk}",
            "Chunks that may be in flight.",
        )
        meter.create_observable_gauge(
            f"{ours}.requests.pace",
            [self._observing(lambda now: now.pace)],
            "{request}/s",
            "Requests that may be sent, once the service has refused some.",
        )
        meter.create_observable_gauge(
            f"{ours}.hold.remaining",
            [self._observing(lambda now: now.held, max)],
            "s",
            "What is left of a wait that the service asked for.",
        )
        meter.create_observable_gauge(
            f"{ours}.breaker.open",
            [
                self._observing(lambda now: int(now.service_open), max, _breaker("service")),
                self._observing(lambda now: int(now.chunks_open), max, _breaker("chunks")),
            ],
            "1",
            "Whether requests are held back in an outage.",
        )

    def count(self, outcomes: Mapping[str, int], operation: str) -> None:
        """Count the outcomes of items, by code."""
        with self._counting:
            for code, count in outcomes.items():
                self._outcomes[operation, code] += count

    def measure(
        self, histogram: Histogram, value: float, attributes: dict[str, AttributeValue]
    ) -> None:
        """Record ``value``, by the time that the metrics are collected.

        One among other code takes the SDK several times as long as one of many in a row.
        """
        self._pending.append((histogram, value, attributes))
        if len(self._pending) >= MOST_PENDING:
            self._record_pending()

    def measure_wait(self, queue: str, seconds: float) -> None:
        """Record what was waited in a queue."""
        self.measure(self.queues, seconds, {"elluminate.queue": queue})

    def _record_pending(self) -> None:
        # Called by any thread that collects.
        with suppress(IndexError):
            while True:
                histogram, value, attributes = self._pending.popleft()
                histogram.record(value, attributes)

    def _observe_outcomes(self, _: CallbackOptions) -> Iterable[Observation]:
        # Before anything is read: those that are asked come first.
        self._record_pending()
        with self._counting:
            found = {key: count for key, count in self._outcomes.items() if count}
        for (operation, code), count in found.items():
            attributes = {"elluminate.operation": operation, "elluminate.outcome": code}
            yield Observation(count, attributes)

    def _observing(
        self,
        value: _Value,
        together: Callable[[Iterable[float]], float] = sum,
        more: dict[str, AttributeValue] | None = None,
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Observes a value of all clients, those of one service ``together``."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            found: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
            for telemetry in list(self.telemetries):
                if (one := value(telemetry.readings())) is not None:
                    found[telemetry.host, telemetry.port].append(one)
            for (host, port), values in found.items():
                yield Observation(together(values), _server(host, port) | (more or {}))

        return observe


_INSTRUMENTS: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()


def instruments_of(provider: MeterProvider) -> Instruments:
    """Those of ``provider``, made once: to make one twice is warned of."""
    found = _INSTRUMENTS.get(provider)
    if found is None:
        found = _INSTRUMENTS[provider] = Instruments(provider)
    return found


class MetricObserver(Observer):
    """Records measurements with ``instruments``."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments

    def subscribed(self, telemetry: Telemetry) -> None:
        """Observe the state of its limits."""
        self._instruments.telemetries.add(telemetry)

    def unsubscribed(self, telemetry: Telemetry) -> None:
        """Observe it no more."""
        self._instruments.telemetries.discard(telemetry)

    def call_ended(self, call: ObservedCall, error: BaseException | None) -> None:
        """Its duration; of a single one its outcome."""
        attributes: dict[str, AttributeValue] = {
            "elluminate.operation": call.operation,
            "elluminate.call.kind": call.kind,
        }
        if call.error is not None:
            attributes["error.type"] = call.error.__name__
        self._instruments.measure(self._instruments.calls, call.seconds, attributes)
        if call.kind == "single":
            self._count(call, call.operation)

    def chunk_began(self, chunk: ObservedChunk) -> None:
        """Its wait for a permit."""
        if chunk.queued > SHORTEST_WAIT:
            self._instruments.measure_wait("chunk", chunk.queued)

    def chunk_ended(self, chunk: ObservedChunk, error: BaseException | None) -> None:
        """Its outcomes by code."""
        if chunk.kind != "fetched" and chunk.call is not None:
            self._count(chunk, chunk.call.operation)

    def _count(self, counts: ObservedCall | ObservedChunk, operation: str) -> None:
        self._instruments.count({"succeeded": counts.succeeded, **counts.codes}, operation)

    def outcomes(
        self,
        of: ObservedChunk | ObservedCall,
        outcomes: Sequence[tuple[int, object]],
        rated: Rated,
    ) -> None:
        """Tokens and cost of the responses, those of a chunk together."""
        call = of if isinstance(of, ObservedCall) else of.call
        is_fetched = isinstance(of, ObservedChunk) and of.kind == "fetched"
        if call is None or call.operation != "generate" or is_fetched:
            return
        configs: dict[int, LLMConfig | None] = {}
        sums: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
        for _, response in outcomes:
            if not isinstance(response, PromptResponse):
                continue
            metadata = response.generation_metadata
            if metadata is None:
                continue
            config = metadata.llm_model_config
            configs[id(config)] = config
            total = sums[id(config)]
            total[0] += metadata.input_tokens or 0
            total[1] += metadata.output_tokens or 0
        for key, config in configs.items():
            self._record_tokens(config, *sums[key])

    def _record_tokens(self, config: LLMConfig | None, *tokens: int) -> None:
        model = (config.llm_model_name if config is not None else None) or "unknown"
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDER,
            "gen_ai.request.model": model,
        }
        for kind, count in zip(("input", "output"), tokens, strict=True):
            if count:
                of_kind = attributes | {"gen_ai.token.type": kind}
                self._instruments.measure(self._instruments.tokens, count, of_kind)
        if (prices := Prices.of(config)) is not None:
            self._instruments.cost.add(prices.cost(*tokens), {"gen_ai.request.model": model})

    def attempt_ended(self, attempt: ObservedAttempt) -> None:
        """Its duration, and its wait before."""
        attributes = _server(attempt.host, attempt.port)
        attributes["http.request.method"] = attempt.method
        attributes["url.template"] = attempt.route
        if attempt.status is not None:
            attributes["http.response.status_code"] = attempt.status
        if attempt.cause is not None:
            attributes["error.type"] = attempt.cause
        self._instruments.measure(self._instruments.requests, attempt.seconds, attributes)
        if attempt.waited > SHORTEST_WAIT:
            self._instruments.measure_wait("request", attempt.waited)

    def retrying(self, attempt: ObservedAttempt, wait: float) -> None:
        """By its cause."""
        self._instruments.retries.add(1, {"error.type": attempt.cause or "_OTHER"})

    def hold_began(self, hold: Hold) -> None:
        """One more."""
        self._instruments.holds.add(1, {"elluminate.hold.waited_out": hold.is_waited_out})


def _breaker(name: str) -> dict[str, AttributeValue]:
    return {"elluminate.breaker": name}


def _server(host: str, port: int) -> dict[str, AttributeValue]:
    return {"server.address": host, "server.port": port}
