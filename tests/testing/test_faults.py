"""Every kind of fault fires where it is placed, and does to the work what it says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from elluminate_async import OutcomeUnknownError
from elluminate_async.testing import KINDS, VIRTUAL_TIME, Fault, FaultPlan, ScriptedService
from elluminate_async.testing.exchange import ROUTES, ConnectionCut, Exchange, Process, Reply
from elluminate_async.testing.faults import lose, refuse
from tests.testing.bench import OPTIONS, bench, inputs_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


BATCHES = "POST responses/batches"
STREAM = "GET responses/batches/{job}/stream"

NOT_DONE = {"429", "429-retry-after", "408", "500", "502", "503", "reset", "hang"}
JOBS = {"job-fails", "job-forgotten", "row-missing"}
STREAMS = {"stream-ends", "stream-breaks", "stream-refused", "stream-204"}


async def post(service: ScriptedService, body: Mapping[str, Any]) -> aiohttp.ClientResponse | None:
    """The answer, read to its end; None when there was none."""
    timeout = aiohttp.ClientTimeout(total=0.5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        try:
            async with session.post(
                f"{service.url}/api/v0/projects/1/responses/batches",
                json=body,
                headers={"X-API-Key": service.api_key},
            ) as response:
                await response.read()
                return response
        except (aiohttp.ClientError, TimeoutError):
            return None


@pytest.mark.parametrize("kind", sorted(set(KINDS) - STREAMS))
async def test_a_kind_on_a_chunk(kind: str) -> None:
    """The work is done or not as the kind says, once, and the fault is counted."""
    service = ScriptedService()
    async with bench(service, inputs_of(4)) as at:
        fault = Fault(kind, on=BATCHES, times=1)
        service.faults = [fault]
        items = [
            {"template_variables_id": row.id, "experiment_id": at.experiment.id}
            for row in at.variables
        ]
        answer = await post(service, {"prompt_response_ins": items})

        assert fault.fired == 1
        expected = {"job-fails": 3}.get(kind, 0 if kind in NOT_DONE else 4)
        assert service.ledger.generations == expected
        if kind.split("-")[0] in ("reset", "hang", "truncated"):
            assert answer is None
        elif kind[:3].isdigit():
            assert answer is not None
            assert answer.status == int(kind[:3])
            assert ("Retry-After" in answer.headers) == (kind == "429-retry-after")
        else:
            assert answer is not None
            assert answer.ok
        rows = await at.client.responses.list(experiment=at.experiment)
        assert len(rows) == (3 if kind == "row-missing" else expected)


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_batch_goes_through_one_of_each_kind(kind: str) -> None:
    """With keys one fault costs nothing, but for what the service itself forgot."""
    service = ScriptedService()
    on = STREAM if kind in STREAMS else BATCHES
    fault = Fault(kind, on=on, times=1)
    service.faults = [fault]
    options = OPTIONS.replace(attempt_timeout=0.5, max_concurrency=1)
    async with bench(service, inputs_of(20), options) as at:
        report = at.check(await at.generate())

        assert fault.fired == 1
        assert report.clean, report
        if kind in JOBS:
            assert 0 < len(report.ok) < 20
        else:
            assert len(report.ok) == 20


async def test_placing_a_fault() -> None:
    """By route or predicate, after some, so often, or by a seeded share."""
    service = ScriptedService()
    second = Fault(refuse(500), on=BATCHES, skip=1, times=1)
    last = Fault("429", on=lambda exchange: b'"epoch":1' not in exchange.body, times=0)
    service.faults = [second, last]
    async with bench(service, inputs_of(30), OPTIONS.replace(max_concurrency=1)) as at:
        assert not (await at.generate()).failed
    assert second.fired == 1
    assert last.fired == 0
    assert service.traffic.requests[BATCHES] == 4

    counts: list[int] = []
    for seed in (1, 1):
        service = ScriptedService()
        share = Fault("stream-refused", share=0.5, seed=seed)
        service.faults = [share]
        async with bench(service, inputs_of(300), OPTIONS.replace(max_concurrency=1)) as at:
            assert not (await at.generate()).failed
        counts.append(share.fired)
    assert counts[0] == counts[1]
    assert 5 < counts[0] < 25


async def test_a_behaviour_of_ones_own() -> None:
    """It sees the exchange, and may have it processed."""
    seen: list[Exchange] = []

    async def mine(exchange: Exchange, process: Process) -> Reply:
        seen.append(exchange)
        reply = await process()
        if len(seen) == 1:
            raise ConnectionCut
        return reply

    service = ScriptedService(keys=False, results=False)
    fault = Fault(mine, on=BATCHES)
    service.faults = [fault]
    async with bench(service, inputs_of(10)) as at:
        report = at.check(await at.generate())
    assert fault.fired == len(seen) == 1
    assert seen[0].route == BATCHES
    assert seen[0].headers["X-API-Key"] == service.api_key
    assert report.clean
    assert len(report.ok) == 10


async def test_a_plan_is_a_seeded_mix() -> None:
    """The given share of the exchanges goes wrong, by all kinds, and the batch is honest."""
    plan = FaultPlan(seed=5, share=0.3, kinds=set(KINDS) - {"hang", "hang-processed"})
    service = ScriptedService(faults=[plan])
    async with bench(service, inputs_of(400), OPTIONS) as at:
        report = at.check(await at.generate())
    assert report.clean, report
    assert 0.15 < plan.fired.total() / plan.exchanges < 0.45
    assert len(plan.fired) > 10


async def test_a_plan_repeats_itself() -> None:
    """The same seed on the same exchanges takes the same ones."""
    exchange = Exchange(1, "POST", "/", BATCHES, {}, b"", None)  # type: ignore[arg-type]
    plans = [FaultPlan(seed=3, share=0.4) for _ in range(2)]
    taken = [[plan.take(exchange) for _ in range(50)] for plan in plans]
    assert taken[0] == taken[1]
    assert plans[0].fired == plans[1].fired


async def test_an_answer_lost_without_keys_is_unknown_and_not_repeated() -> None:
    """The work is done once, and what cannot be seen is said to be unknown."""
    service = ScriptedService(keys=False, results=False, lag=60)
    service.faults = [Fault(lose(Reply(502)), on=BATCHES, times=1)]
    async with bench(service, inputs_of(5)) as at:
        batch = await at.generate()
        report = at.check(batch)
    assert report.unknown == (0, 1, 2, 3, 4)
    assert report.clean
    assert all(isinstance(error, OutcomeUnknownError) for error in batch.failed.values())
    assert service.ledger.generations == 5


def test_a_plan_is_the_same_however_its_kinds_are_named() -> None:
    """Their order plays no part: a set has another one in each process."""
    exchange = Exchange(1, "POST", "/", BATCHES, {}, b"", None)  # type: ignore[arg-type]
    plans = [FaultPlan(seed=3, share=0.9, kinds=kinds) for kinds in (list(KINDS), [*KINDS][::-1])]
    for _ in range(50):
        behaviours = [plan.take(exchange) for plan in plans]
        assert behaviours[0] is behaviours[1]


def test_one_kind_may_be_named_alone() -> None:
    """A string is a name, and not the names of its letters."""
    exchange = Exchange(1, "POST", "/", BATCHES, {}, b"", None)  # type: ignore[arg-type]
    plan = FaultPlan(seed=3, share=1, kinds="429")
    assert plan.take(exchange) is KINDS["429"].behave


def test_a_slip_in_a_fault_is_told_at_once() -> None:
    """Else it would never fire, or always, and the test would prove nothing."""
    for make in (lambda: Fault("502-proccessed"), lambda: FaultPlan(1, kinds=["502-proccessed"])):
        with pytest.raises(ValueError, match=r"'502-proccessed'.*502-processed"):
            make()
    for make in (lambda: Fault("429", share=30), lambda: FaultPlan(1, share=-0.1)):
        with pytest.raises(ValueError, match="from 0 to 1"):
            make()
    with pytest.raises(ValueError, match="shuffled"):
        ScriptedService(order="random")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"on": "POST /criteria"}, r"no route 'POST /criteria'; the routes are .*POST criteria,"),
        ({"on": "post criteria"}, "no route 'post criteria'"),
        ({"on": "POST criterias"}, "no route 'POST criterias'"),
        ({"on": 5}, "on must be a route, .* or a function, not 5"),
        ({"times": -1}, "times must be a whole number of at least 0, not -1"),
        ({"times": True}, "times must be a whole number of at least 0, not True"),
        ({"skip": -1}, "skip must be a whole number of at least 0, not -1"),
        ({"kind": 5}, "kind must be one of 429, .* or a function, not 5"),
        ({"kind": "504"}, "no kind of fault named '504'; the kinds are 429, "),
    ],
)
def test_a_fault_that_could_never_fire_is_refused(arguments: dict[str, Any], text: str) -> None:
    """What it may be instead is listed."""
    given: dict[str, Any] = {"kind": "503", **arguments}
    with pytest.raises(ValueError, match=text):
        Fault(**given)


def test_every_kind_and_route_is_told() -> None:
    """The kinds in `Fault`'s table, and the routes as the service has them."""
    service = ScriptedService()
    told = [line for line in (Fault.__doc__ or "").splitlines() if line.strip().startswith("| ``")]
    named = [name for line in told for name in re.findall("``([^`]+)``", line.split("|")[1])]
    assert sorted(named) == sorted(KINDS)
    assert sorted(ROUTES) == sorted(service._routes._handlers)  # pyright: ignore[reportPrivateUsage]
