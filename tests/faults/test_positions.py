"""Any order, page size, chunk size and pattern of failures: a position has its own outcome."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elluminate_async import Batch, BatchOptions, GenerationError, PromptResponse
from elluminate_async.operations.reconciling import ENDED_SETTLE
from elluminate_async.testing import (
    KINDS,
    Fault,
    FaultPlan,
    ScriptedService,
    check_batch,
    run_virtually,
)
from elluminate_async.testing.exchange import Exchange
from elluminate_async.testing.faults import refuse
from tests.faults.inprocess import client_of, experiment_of
from tests.matrix import Fired

POISON, SILENT = 1, 2
"""Entries of these ids are refused with their whole chunk, or have no answer of the model."""


@dataclass(frozen=True)
class Case:
    """One batch and the service it meets."""

    entries: Sequence[int]
    chunk_size: int
    concurrency: int
    page_size: int
    order: Any
    seed: int
    keys: bool
    results: bool
    own_epochs: bool
    lag: float
    job_seconds: float
    share: float
    replay: bool


CASES = st.builds(
    Case,
    entries=st.lists(st.integers(1, 7), max_size=14),
    chunk_size=st.integers(1, 8),
    concurrency=st.integers(1, 4),
    page_size=st.integers(1, 12),
    order=st.sampled_from(["created", "reversed", "shuffled"]),
    seed=st.integers(0, 10_000),
    keys=st.booleans(),
    results=st.booleans(),
    own_epochs=st.booleans(),
    lag=st.sampled_from([0.0, 0.0, 0.6, 8.0]),
    job_seconds=st.sampled_from([0.0, 0.0, 5.0]),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.6]),
    replay=st.booleans(),
)


def answer(values: Mapping[str, Any]) -> str:
    if values["x"] == f"v{SILENT}":
        raise RuntimeError("no answer")
    return json.dumps(values)


def too_late(case: Case, kind: str) -> bool:
    """Whether a fault hides rows for longer than a client can know to wait.

    What never shows is later than any settling time, so that a replay pays for it twice; a
    result that leaves it out, and a job that failed long ago, say that it was not made.
    """
    return (kind == "row-missing" and (case.replay or case.results)) or (
        kind == "job-fails" and case.lag > ENDED_SETTLE
    )


def holds_poison(exchange: Exchange) -> bool:
    return exchange.route == "POST responses/batches" and any(
        item["template_variables_id"] == POISON
        for item in json.loads(exchange.body)["prompt_response_ins"]
    )


async def run(case: Case, service: ScriptedService) -> Batch[PromptResponse]:
    options = BatchOptions(
        chunk_size=case.chunk_size,
        max_concurrency=case.concurrency,
        replay_after_settle=case.replay,
        attempt_timeout=20,
    )
    async with client_of(service, options) as client:
        faults, service.faults = service.faults, []
        experiment = await experiment_of(client)
        service.faults = faults
        batch = await client.responses.generate_many(
            template_variables=list(case.entries), experiment=experiment
        )
        assert client._connection.limits.free_chunks == case.concurrency
    return batch


@pytest.mark.unmeasured
@pytest.mark.row(55, 57, 59, 60, 61)
@settings(
    max_examples=4 * settings().max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=CASES)
def test_a_position_has_its_own_outcome_whatever_happens(case: Case, fired: Fired) -> None:
    """Against the ledger: none lost, swapped, foreign, or paid for twice; `make soak` has 2,000."""
    poison = Fault(refuse(422), on=holds_poison)
    plan = FaultPlan(case.seed, case.share, [name for name in KINDS if not too_late(case, name)])
    service = ScriptedService(
        keys=case.keys,
        results=case.results,
        page_size=case.page_size,
        order=case.order,
        seed=case.seed,
        lag=case.lag,
        job_seconds=case.job_seconds,
        answer=answer,
        own_epochs=case.own_epochs,
        variables=lambda id: {"x": f"v{id}"},
        faults=[poison, plan],
    )

    batch = run_virtually(lambda: run(case, service))

    inputs = [{"x": f"v{id}"} for id in case.entries]
    report = check_batch(batch, inputs, service.ledger)
    assert len(batch) == len(case.entries)
    assert report.clean, (report, batch.outcomes)
    for position, id in enumerate(case.entries):
        if id == SILENT and isinstance(batch.outcomes[position], PromptResponse):
            raise AssertionError("a response without an answer")
    if not plan.fired and case.lag <= 1:
        check_without_faults(case, batch)
    _count(case, service, plan, fired)


def check_without_faults(case: Case, batch: Batch[PromptResponse]) -> None:
    """Only what was refused or has no answer fails, each with its own error."""
    for position, id in enumerate(case.entries):
        outcome = batch.outcomes[position]
        if id == POISON:
            assert batch.failed[position].code == "http_422"
        elif id == SILENT:
            assert isinstance(outcome, GenerationError)
        else:
            assert isinstance(outcome, PromptResponse)


def _count(case: Case, service: ScriptedService, plan: FaultPlan, fired: Fired) -> None:
    listings = service.traffic.count("GET responses") - service.traffic.count("{job}")
    fired(row=55, times=listings if case.order != "created" else 0)
    fired(row=57, times=sum(n - 1 for n in Counter(case.entries).values()))
    fired(row=59, times=len(service.ledger.responses) if case.lag else 0)
    fired(row=60, times=plan.fired["job-fails"])
    fired(row=61, times=plan.fired["job-forgotten"])
