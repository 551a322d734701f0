"""An outage of 0.2 to 20 s costs a batch nothing, or as little as can be; a longer one ends it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

from benchmarks.outage import Cell, Kind, Scope, measure
from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    ItemError,
    OutcomeUnknownError,
    PromptResponse,
    ServiceUnavailableError,
)
from elluminate_async.testing import VIRTUAL_TIME, Fault, ScriptedService
from elluminate_async.testing.exchange import Exchange, Process, Reply
from elluminate_async.testing.faults import refuse
from tests.faults.inprocess import client_of, experiment_of
from tests.matrix import Fired

CHUNKS = "POST responses/batches"

OUTAGES: list[tuple[Kind, Scope]] = [
    ("503", "all"),
    ("503", "chunks"),
    ("reset", "all"),
    ("reset", "chunks"),
    ("refused", "all"),
]


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def scripted(*, keys: bool = True) -> ScriptedService:
    return ScriptedService(keys=keys, job_seconds=0.5, variables=lambda id: {"x": f"v{id}"})


async def generated(service: ScriptedService, count: int, fault: Fault) -> Batch[PromptResponse]:
    """So many items by a new client, under the fault once all else is made."""
    async with client_of(service) as client:
        experiment = await experiment_of(client)
        service.faults = [fault]
        return await client.responses.generate_many(
            template_variables=list(range(1, count + 1)), experiment=experiment
        )


@pytest.mark.row(126)
@pytest.mark.parametrize("keys", [True, False], ids=["keys", "no keys"])
@pytest.mark.parametrize("begins", [0.0, 0.7], ids=["at the start", "in the middle"])
@pytest.mark.parametrize(("kind", "scope"), OUTAGES, ids="-".join)
@pytest.mark.parametrize("seconds", [0.2, 1.0, 3.0, 20.0])
async def test_an_outage_does_not_cost_a_batch(
    seconds: float, kind: Kind, scope: Scope, begins: float, keys: bool, fired: Fired
) -> None:
    """With keys no item fails; without, the chunks in flight and one per back-off are unknown."""
    cell = Cell(kind, scope, begins, seconds, items=400, keys=keys, chunk=10)

    found = await measure(cell)

    fired(times=max(1, found.in_vain))
    found.check(cell)


@pytest.mark.row(126)
@pytest.mark.parametrize("kind", ["503", "502", "reset"])
async def test_ten_rows_and_a_second_without_keys(kind: str, fired: Fired) -> None:
    """One chunk in flight is lost to it, as nothing proves that it was not applied."""
    service = scripted(keys=False)
    fault = Fault(kind, on=CHUNKS, times=1)
    batch = await generated(service, 10, fault)
    fired(times=fault.fired)

    assert {type(error) for error in batch.failed.values()} == {OutcomeUnknownError}
    assert service.traffic.requests[CHUNKS] == 1


@pytest.mark.row(126)
async def test_a_chunk_that_may_be_lost_waits_for_a_sign_of_the_service(fired: Fired) -> None:
    """Without keys, while all fails the cheapest question is asked, and no second chunk sent."""
    service = scripted(keys=False)
    options = BatchOptions(chunk_size=1, max_concurrency=1)
    away = Fault("503", on=lambda exchange: True)
    async with client_of(service, options) as client:
        experiment = await experiment_of(client)
        await client._connection.has("idempotency-keys", client._connection.policy())  # type: ignore[arg-type]

        async def happen() -> None:
            service.faults = [away]
            await anyio.sleep(30)
            service.faults = []

        happening = asyncio.create_task(happen())
        await asyncio.sleep(0)
        batch = await client.responses.generate_many(
            template_variables=list(range(1, 21)), experiment=experiment
        )
        await happening
    fired(times=away.fired)

    assert list(batch.failed) == [0]
    assert service.traffic.requests[CHUNKS] == 20


@pytest.mark.row(126)
@pytest.mark.parametrize("poisoned", [[1], [7], [100], [3, 4, 90]])
async def test_a_plain_500_of_one_item_costs_that_item(poisoned: list[int], fired: Fired) -> None:
    """Under a key its chunk is halved; it fails alone, proved not to have been processed."""

    def holds_poison(exchange: Exchange) -> bool:
        if exchange.route != CHUNKS:
            return False
        items: list[dict[str, int]] = json.loads(exchange.body)["prompt_response_ins"]
        return any(item["template_variables_id"] in poisoned for item in items)

    service = scripted()
    fault = Fault(refuse(500), on=holds_poison)
    batch = await generated(service, 100, fault)
    fired(times=fault.fired)

    assert [position + 1 for position in batch.failed] == poisoned
    assert {error.code for error in batch.failed.values()} == {"http_500"}
    assert {type(error) for error in batch.failed.values()} == {ItemError}
    assert set(service.ledger.generated.values()) == {1}


@pytest.mark.row(126)
async def test_a_500_that_came_after_the_work_pays_nothing_twice(fired: Fired) -> None:
    """The answers of all attempts are lost: its key takes no empty chunk, and all are unknown."""

    async def lose(exchange: Exchange, process: Callable[[], Awaitable[object]]) -> object:
        await process()
        return await refuse(500)(exchange, process)  # type: ignore[arg-type]

    service = scripted()
    fault = Fault(lose, on=CHUNKS, times=3)  # type: ignore[arg-type]
    batch = await generated(service, 100, fault)
    fired(times=fault.fired)

    assert {type(error) for error in batch.failed.values()} == {OutcomeUnknownError}
    assert len(batch.failed) == 100
    assert set(service.ledger.generated.values()) == {1}
    assert len(service.ledger.generated) == 100


@pytest.mark.row(126)
async def test_a_service_that_answers_500_to_all_is_not_asked_for_each_item(fired: Fired) -> None:
    """Halving ends after a dozen chunks in a row, of whatever size, that none was taken of."""
    service = scripted()
    fault = Fault(refuse(500), on=lambda e: e.route == CHUNKS and b"variables_id" in e.body)
    batch = await generated(service, 1_000, fault)
    fired(times=fault.fired)

    assert len(batch.failed) == 1000
    assert {error.code for error in batch.failed.values()} == {"http_500"}
    # The ten in flight and twelve more are halved once each, at four requests a chunk.
    assert service.traffic.requests[CHUNKS] <= 4 * (10 + 2 * 12)


@pytest.mark.row(126)
async def test_a_service_that_answers_500_for_good_leaves_all_unknown(fired: Fired) -> None:
    """Also to the empty chunk that would prove the contrary: nothing is halved."""
    service = scripted()
    fault = Fault(refuse(500), on=CHUNKS)
    batch = await generated(service, 1_000, fault)
    fired(times=fault.fired)

    assert {type(error) for error in batch.failed.values()} == {OutcomeUnknownError}
    assert {error.status for error in batch.failed.values()} == {500}
    assert service.traffic.requests[CHUNKS] == 10 * 2 * 3


async def ended(call: Awaitable[object]) -> tuple[BaseException, float]:
    """How a call failed, and after how many seconds."""
    started = time.monotonic()
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await call
    return caught.value, time.monotonic() - started


@pytest.mark.row(127)
async def test_calls_fail_at_once_while_an_outage_lasts(fired: Fired) -> None:
    """After `retry_for` seconds without an answer; with since when, why, and when to come back."""
    service = scripted()
    away = Fault("503", on=lambda exchange: True)
    async with client_of(service, BatchOptions(retry_for=60.0)) as client:
        await experiment_of(client)
        service.faults = [away]
        first, seconds = await ended(client.projects.list())
        later = [await ended(client.projects.list()) for _ in range(20)]
        asked = away.fired
        service.faults = []
        await anyio.sleep(5)
        projects = await client.projects.list()
    fired(times=away.fired)

    assert 55 <= seconds <= 65
    assert isinstance(first, ServiceUnavailableError)
    assert first.last == "HTTP 503"
    assert "no answer since" in str(first)
    assert first.attempts > 3
    for error, took in later:
        assert isinstance(error, ServiceUnavailableError)
        assert took <= 1.0
        assert 0 < error.retry_after <= 8.0
    assert asked <= 80
    assert projects


@pytest.mark.row(127)
async def test_a_batch_in_an_outage_ends_with_its_items_unavailable(fired: Fired) -> None:
    """What was never sent says so: not unknown, not at the deadline of an hour."""
    service = scripted()
    options = BatchOptions(chunk_size=10, retry_for=30.0)
    async with client_of(service, options) as client:
        experiment = await experiment_of(client)
        away = Fault("503", on=lambda exchange: True)
        service.faults = [away]
        await ended(client.projects.list())
        started = time.monotonic()
        batch = await client.responses.generate_many(
            template_variables=list(range(1, 1001)), experiment=experiment
        )
        seconds = time.monotonic() - started
    fired(times=away.fired)

    assert seconds <= 10
    assert {error.code for error in batch.failed.values()} == {"unavailable"}
    assert {error.attempts for error in batch.failed.values()} == {0}
    assert len(batch.failed) == 1000


@pytest.mark.row(127)
async def test_refused_connections_leave_nothing_unknown(fired: Fired) -> None:
    """Without keys, too: no byte of an item left, and each says so within `retry_for`."""
    options = BatchOptions(chunk_size=10, retry_for=20.0)
    async with (
        scripted(keys=False) as service,
        AsyncClient(base_url=service.url, api_key=service.api_key, options=options) as client,
    ):
        experiment = await experiment_of(client)
        await service.go_away()
        await anyio.sleep(1)
        fired()
        started = time.monotonic()
        batch = await client.responses.generate_many(
            template_variables=list(range(1, 501)), experiment=experiment
        )
        seconds = time.monotonic() - started
        await service.come_back()

    assert 15 <= seconds <= 30
    assert {error.code for error in batch.failed.values()} == {"unavailable"}
    assert not [e for e in batch.failed.values() if isinstance(e, OutcomeUnknownError)]


@pytest.mark.row(127)
async def test_an_idle_client_forgets_an_outage(fired: Fired) -> None:
    """A minute later nobody knows whether it lasts: a call is tried as if there had been none."""
    service = scripted()
    async with client_of(service, BatchOptions(retry_for=10.0)) as client:
        await experiment_of(client)
        service.faults = [away := Fault("503", on=lambda exchange: True)]
        await ended(client.projects.list())
        await anyio.sleep(120)
        _, seconds = await ended(client.projects.list())
    fired(times=away.fired)

    assert 8 <= seconds <= 12


@pytest.mark.row(127)
async def test_nothing_is_sent_again_without_patience(fired: Fired) -> None:
    """With ``retry_for=0`` each call asks once, and has the error of that."""
    service = scripted()
    options = BatchOptions(retry_for=0)
    async with client_of(service, options) as client:
        await experiment_of(client)
        service.faults = [away := Fault("503", on=lambda exchange: True)]
        errors = [await ended(client.projects.list()) for _ in range(3)]
    fired(times=away.fired)

    assert away.fired == 3
    assert [getattr(error, "status", None) for error, _ in errors] == [503] * 3


@pytest.mark.row(127)
@pytest.mark.parametrize("retry_after", [None, "1"])
async def test_who_waits_for_the_retry_budget_gives_up_in_time(
    retry_after: str | None, fired: Fired
) -> None:
    """Of 200 single calls at once, each ends after `retry_for`, not by its deadline."""
    service = scripted()
    options = BatchOptions(retry_for=2.0, deadline=30.0)
    async with client_of(service, options) as client:
        experiment = await experiment_of(client)
        refusal = refuse(503, retry_after=retry_after)
        service.faults = [away := Fault(refusal, on=lambda exchange: True)]
        calls = [
            ended(client.responses.generate(template_variables=id, experiment=experiment))
            for id in range(1, 201)
        ]
        ends = await asyncio.gather(*calls)
    fired(times=away.fired)

    assert max(seconds for _, seconds in ends) <= 3.5
    assert {type(error) for error, _ in ends} <= {ServiceUnavailableError, OutcomeUnknownError}


@pytest.mark.row(127)
async def test_a_service_that_hangs_keeps_nobody_to_the_deadline(fired: Fired) -> None:
    """Nor does its hanging probe: all of 100 single calls end in time, one probe later at most."""

    async def hang(exchange: Exchange, process: Process) -> Reply:
        await anyio.sleep(1000)
        return await process()

    service = scripted()
    options = BatchOptions(retry_for=2.0, attempt_timeout=2.0, deadline=120.0)
    async with client_of(service, options) as client:
        experiment = await experiment_of(client)
        service.faults = [away := Fault(hang, on=lambda exchange: True)]
        calls = [
            ended(client.responses.generate(template_variables=id, experiment=experiment))
            for id in range(1, 101)
        ]
        ends = await asyncio.gather(*calls)
    fired(times=away.fired)

    assert max(seconds for _, seconds in ends) <= 12
    assert {type(error) for error, _ in ends} <= {ServiceUnavailableError, OutcomeUnknownError}


@pytest.mark.row(127)
async def test_ping(fired: Fired) -> None:
    """Asks once and at once, whatever is known of an outage; an answer ends that."""
    options = BatchOptions(retry_for=5.0)
    async with (
        scripted() as service,
        AsyncClient(base_url=service.url, api_key=service.api_key, options=options) as client,
    ):
        experiment = await experiment_of(client)
        assert 0 <= await client.ping() < 2
        await service.go_away()
        refused, seconds = await ended(client.ping(timeout=1.0))
        assert isinstance(refused, ServiceUnavailableError)
        assert seconds <= 1.1
        await ended(client.projects.list())
        fired()
        await service.come_back()
        await client.ping()
        assert await client.projects.list()
        batch = await client.responses.generate_many(
            template_variables=[1, 2, 3], experiment=experiment
        )
    assert not batch.failed
    with pytest.raises(ValueError, match="timeout"):
        await client.ping(timeout=0)


@pytest.mark.row(127)
async def test_a_service_that_hangs_does_not_answer_a_ping(fired: Fired) -> None:
    """`ServiceUnavailableError` when its time is over."""
    async with (
        scripted() as service,
        AsyncClient(base_url=service.url, api_key=service.api_key) as client,
    ):
        service.faults = [hanging := Fault("hang", on=lambda exchange: True)]
        error, seconds = await ended(client.ping(timeout=2))
    fired(times=hanging.fired)

    assert isinstance(error, ServiceUnavailableError)
    assert 2 <= seconds <= 2.1


@pytest.mark.row(127)
@pytest.mark.parametrize("pings", [True, False])
async def test_a_batch_after_an_outage_is_whole(pings: bool, fired: Fired) -> None:
    """While one chunk finds out that the service is back, the others wait for it."""
    options = BatchOptions(chunk_size=10, retry_for=2.0)
    async with (
        scripted() as service,
        AsyncClient(base_url=service.url, api_key=service.api_key, options=options) as client,
    ):
        experiment = await experiment_of(client)
        ids = list(range(1, 51))
        await service.go_away()
        fired()
        lost = await client.responses.generate_many(template_variables=ids, experiment=experiment)
        await service.come_back()
        await anyio.sleep(9)
        if pings:
            await client.ping()
        batch = await client.responses.generate_many(template_variables=ids, experiment=experiment)

    assert len(lost.failed) == 50
    assert not batch.failed
