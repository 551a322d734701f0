"""Observers: what they are told, in which order, and that they disturb nobody."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from elluminate_async import AsyncClient, BatchOptions, ConfigurationError
from elluminate_async.server.app import _routes  # pyright: ignore[reportPrivateUsage]
from elluminate_async.telemetry import (
    ObservedAttempt,
    ObservedCall,
    ObservedChunk,
    Observer,
    Rated,
    Telemetry,
)
from elluminate_async.telemetry.routes import route_of
from tests.flow.bench import Once
from tests.flow.conftest import staged

VALUES = [f"v{number}" for number in range(12)]


class Notes(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.calls: list[ObservedCall] = []
        self.attempts: list[ObservedAttempt] = []
        self.values: list[tuple[int, object]] = []

    def call_began(self, call: ObservedCall) -> None:
        self.told.append(f"{call.operation} began")
        self.calls.append(call)

    def call_ended(self, call: ObservedCall, error: BaseException | None) -> None:
        self.told.append(f"{call.operation} ended")

    def chunk_began(self, chunk: ObservedChunk) -> None:
        self.told.append(f"chunk {chunk.number} began")

    def outcomes(
        self,
        of: ObservedChunk | ObservedCall,
        outcomes: Sequence[tuple[int, object]],
        rated: Rated,
    ) -> None:
        self.values += outcomes

    def chunk_ended(self, chunk: ObservedChunk, error: BaseException | None) -> None:
        self.told.append(f"chunk {chunk.number} ended")

    def attempt_ended(self, attempt: ObservedAttempt) -> None:
        self.attempts.append(attempt)
        self.told.append(f"{attempt.method} {attempt.status}")


async def test_a_call_is_told_from_its_beginning_to_its_end() -> None:
    """What it consists of is within it, in order."""
    notes = Notes()
    async with staged(options=BatchOptions(max_concurrency=1, chunk_size=6)) as stage:
        rows = await stage.variables(VALUES)
        stage.client.telemetry.subscribe(notes)
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    chunks = [f"chunk {number} began\nPOST 202\nGET 200\nchunk {number} ended" for number in (1, 2)]
    assert "\n".join(notes.told) == "\n".join(["generate began", *chunks, "generate ended"])
    assert sorted(position for position, _ in notes.values) == [*range(12)]


async def test_whatever_an_observer_raises_is_told_once_and_disturbs_no_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The batch is whole, the other observer is told all, and the log has one traceback."""

    class Broken(Notes):
        def attempt_ended(self, attempt: ObservedAttempt) -> None:
            raise RuntimeError("out of order")

        def call_ended(self, call: ObservedCall, error: BaseException | None) -> None:
            raise RuntimeError("out of order")

    notes = Notes()
    async with staged(observers=[Broken(), notes]) as stage:
        assert not (await stage.generate(VALUES)).failed

    assert notes.told[-1] == "generate ended"
    (record,) = (one for one in caplog.records if one.levelno == logging.ERROR)
    assert record.exc_info is not None
    assert "Broken" in record.getMessage()


async def test_concurrent_calls_are_told_apart() -> None:
    """Each attempt is of its own call's chunk, though they share connections and limits."""
    notes = Notes()
    async with staged(options=BatchOptions(chunk_size=3)) as stage:
        rows = await stage.variables(VALUES)
        stage.client.telemetry.subscribe(notes)
        given: dict[str, Any] = {"template_variables": rows, "experiment": stage.experiment}
        await asyncio.gather(*(stage.client.responses.generate_many(**given) for _ in range(5)))

    assert len(notes.calls) == 5
    for call in notes.calls:
        own = [one for one in notes.attempts if one.call is call]
        assert len(own) == 8
        assert sorted(one.chunk.number for one in own if one.chunk) == [1, 1, 2, 2, 3, 3, 4, 4]
        assert (call.succeeded, call.chunks, call.parent) == (12, 4, None)


async def test_a_call_that_makes_anothers_input_is_within_it() -> None:
    """The stream that is rated is read by the call that rates it."""
    notes = Notes()
    async with staged() as stage:
        rows = await stage.variables(VALUES)
        stage.client.telemetry.subscribe(notes)
        await stage.client.ratings.rate_many(
            stage.client.responses.stream_generate_many(
                template_variables=rows, experiment=stage.experiment
            )
        )

    rate, generate = notes.calls
    assert (rate.operation, generate.operation) == ("rate", "generate")
    assert (rate.parent, generate.parent) == (None, rate)


async def test_a_task_that_outlives_a_call_is_not_within_it() -> None:
    """A call that it makes later has no parent that has ended."""
    notes = Notes()
    later: list[asyncio.Task[Any]] = []
    done = asyncio.Event()
    async with staged() as stage:
        rows = await stage.variables(VALUES)
        stage.client.telemetry.subscribe(notes)
        given: dict[str, Any] = {"template_variables": rows, "experiment": stage.experiment}

        async def call_later() -> None:
            await done.wait()
            await stage.client.responses.generate_many(**given)

        def begin(_: object) -> None:
            if not later:
                later.append(asyncio.create_task(call_later()))

        options = BatchOptions(on_progress=begin)
        await stage.client.responses.generate_many(**given, options=options)
        done.set()
        await later[0]

    assert [call.parent for call in notes.calls] == [None, None]


async def test_a_retry_of_a_batch_is_a_call_of_its_own() -> None:
    """With the items that it sends, and what came of them."""
    notes = Notes()
    async with staged() as stage:
        stage.model.failing = lambda prompt: prompt.endswith("3")
        batch = await stage.generate(VALUES)
        stage.client.telemetry.subscribe(notes)
        stage.model.failing = lambda prompt: False
        await batch.retry_failed()

    (call,) = notes.calls
    assert (call.kind, call.total, call.succeeded, call.failed) == ("retry", 1, 1, 0)


async def test_an_attempt_knows_the_one_before(quick_back_off: None) -> None:
    """While it is told of; afterwards none keeps a chain of the others."""
    befores: list[str | None] = []

    class Chained(Notes):
        def attempt_began(self, attempt: ObservedAttempt) -> None:
            befores.append(attempt.after.cause if attempt.after else None)

    notes = Chained()
    async with staged() as stage:
        rows = await stage.variables(VALUES)
        stage.client.telemetry.subscribe(notes)
        stage.recorder.before = Once(502, times=2)
        await stage.client.responses.generate_many(
            template_variables=rows, experiment=stage.experiment
        )

    assert befores == [None, "502", "502", None]
    assert [one.after for one in notes.attempts] == [None] * 4
    assert [one.number for one in notes.attempts] == [1, 2, 3, 1]


def test_an_observer_is_subscribed_once() -> None:
    """Again does nothing, and neither does to unsubscribe one that is not there."""
    telemetry, notes = Telemetry(), Notes()
    for _ in range(2):
        telemetry.subscribe(notes)
    with telemetry.call("rate"):
        pass
    for _ in range(2):
        telemetry.unsubscribe(notes)
    with telemetry.call("rate"):
        pass

    assert notes.told == ["rate began", "rate ended"]


@pytest.mark.parametrize("observers", [[print], 5, [Notes]])
def test_what_is_no_observer_is_refused(observers: Any) -> None:
    """When the client is made."""
    with pytest.raises(ConfigurationError, match="observer"):
        AsyncClient(api_key="k", observers=observers)


def test_every_word_of_the_services_paths_is_known() -> None:
    """What is no id stays in a route, as the server itself spells it."""
    paths: list[str] = [*_routes().openapi()["paths"]]
    assert len(paths) > 30
    for path in paths:
        segments = [7 if part.startswith("{") else part for part in path.strip("/").split("/")]
        wanted = "/" + "/".join("{id}" if part == 7 else str(part) for part in segments)
        assert route_of(segments) == wanted


async def test_an_observers_own_cancellation_and_a_bad_subscription_disturb_no_call() -> None:
    """It waits for nothing, so that whatever it raises is its own."""

    class Bad(Observer):
        def subscribed(self, telemetry: Telemetry) -> None:
            raise ValueError("subscribed")

        def chunk_began(self, chunk: ObservedChunk) -> None:
            raise asyncio.CancelledError

        def chunk_ended(self, chunk: ObservedChunk, error: BaseException | None) -> None:
            raise asyncio.CancelledError

        def call_began(self, call: ObservedCall) -> None:
            raise asyncio.CancelledError

        def attempt_began(self, attempt: ObservedAttempt) -> None:
            raise asyncio.CancelledError

    async with staged(options=BatchOptions(chunk_size=5), observers=[Bad()]) as stage:
        assert len((await stage.generate(VALUES)).succeeded) == len(VALUES)
