"""One soak run: a batch generated and rated while its exchanges go wrong."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from elluminate_async import AsyncClient, BatchOptions, ItemError
from elluminate_async.testing import (
    KINDS,
    FaultPlan,
    Report,
    ScriptedService,
    check_batch,
    check_ratings,
)
from elluminate_async.testing.faults import Kind, refuse

MIX = "mix"
SHARE = 0.3
LATE = 2.0
"""Seconds after its deadline in which a call must have returned."""

# What holds the whole client is short, so that its waits do not make up the soak's time.
SOAK_KINDS: Mapping[str, Kind] = {
    **KINDS,
    "429-retry-after": Kind(refuse(429, retry_after="0.05"), KINDS["429-retry-after"].on),
}

OPTIONS = BatchOptions(
    max_concurrency=64,
    chunk_size=50,
    settle=1.0,
    attempt_timeout=1.0,
    stream_silence=2.0,
    deadline=90.0,
)


@dataclass(frozen=True, slots=True)
class Case:
    """What one run injects, and on what."""

    kind: str
    keys: bool
    seed: int = 1
    items: int = 10_000
    rated: int = 10_000
    share: float = SHARE
    chunk_size: int = 50
    without: Sequence[str] = ()

    @property
    def options(self) -> BatchOptions:
        return OPTIONS.replace(
            chunk_size=500 if self.is_refusal else self.chunk_size,
            deadline=45.0 if self.kind == MIX else OPTIONS.deadline,
        )

    @property
    def page_size(self) -> int:
        return 5000 if self.is_refusal else 1000

    @property
    def most_rated(self) -> int:
        # A chunk of ratings has 100 items at most.
        return min(self.rated, 500) if self.is_refusal else self.rated

    @property
    def is_refusal(self) -> bool:
        # No slowing down prevents these, and the client becomes as slow as it can: about one
        # request in two seconds. So there are fewer and larger ones.
        return self.kind.startswith("429")

    @property
    def kinds(self) -> Sequence[str]:
        """What is injected; of the mix all but those it is to do without."""
        if self.kind != MIX:
            return [self.kind]
        left_out = set(self.without)
        if self.lag > OPTIONS.settle:
            # That a failed job made nothing more is believed after settling.
            left_out.add("job-fails")
        if self.seed % 2:
            # Refusals slow all down until the deadline; every other seed goes without.
            left_out |= {"429", "429-retry-after"}
        return [name for name in SOAK_KINDS if name not in left_out]

    @property
    def lag(self) -> float:
        """Seconds; an even seed shows rows only after settling has given up."""
        if self.keys:
            return 0.0
        return 0.2 if self.seed % 2 else 2 * OPTIONS.settle


@dataclass(frozen=True, slots=True)
class Line:
    """What came of one call of a run."""

    case: Case
    operation: str
    exchanges: int
    fired: Counter[str] = field(repr=False)
    report: Report = field(repr=False)
    seconds: float

    @property
    def problems(self) -> list[str]:
        """Which promises it broke; empty when none."""
        found: list[str] = []
        for name in ("lost", "swapped", "foreign", "duplicated"):
            if positions := getattr(self.report, name):
                found.append(f"{len(positions)} {name}, first {positions[:5]}")
        if self.seconds > self.case.options.deadline + LATE:
            found.append(f"returned after {self.seconds:.1f} s")
        if self.report.positions and not self.exchanges:
            found.append("no exchange")
        return found


def inputs_of(count: int) -> list[dict[str, Any]]:
    """Every fiftieth repeats an earlier one."""
    return [
        {"x": f"item {number // 2 if number % 50 == 49 else number}"} for number in range(count)
    ]


def answer(values: Mapping[str, Any]) -> str:
    """The values again; for about one in a hundred the model's own error."""
    if values["x"].endswith("77"):
        raise ValueError(f"no answer to {values['x']}")
    return f"echo of {values['x']}"


async def run(case: Case) -> list[Line]:
    """Generate ``case.items`` and rate ``case.rated`` of them; one line each."""
    inputs = inputs_of(case.items)
    service = ScriptedService(
        keys=case.keys,
        results=case.keys,
        page_size=case.page_size,
        order="shuffled",
        seed=case.seed,
        lag=case.lag,
        own_epochs=case.seed % 2 == 0,
        job_seconds=0.02,
        answer=answer,
    )
    async with (
        service,
        AsyncClient(base_url=service.url, api_key=service.api_key, options=case.options) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("say {{x}}", name="Soak")
        await client.criteria.get_or_generate_many(template)
        collection, _ = await client.collections.get_or_create("values")
        variables = await client.template_variables.add_many(inputs, collection=collection)
        experiment, _ = await client.experiments.get_or_create(
            "soak", prompt_template=template, collection=collection
        )
        plan = FaultPlan(case.seed, case.share, {name: SOAK_KINDS[name] for name in case.kinds})
        service.faults = [plan]

        before, begun = service.traffic.total, time.monotonic()
        batch = await client.responses.generate_many(
            template_variables=list(variables), experiment=experiment
        )
        seconds = time.monotonic() - begun
        report = check_batch(batch, inputs, service.ledger)
        made = service.traffic.total - before
        lines = [Line(case, "generate", made, plan.fired.copy(), report, seconds)]

        # What was lost on the way is not rated; what came is, as one batch.
        ids = [row.id for row in batch.outcomes if not isinstance(row, ItemError)][
            : case.most_rated
        ]
        fired, before, begun = plan.fired.copy(), service.traffic.total, time.monotonic()
        ratings = await client.ratings.rate_many(ids)
        seconds = time.monotonic() - begun
        report = check_ratings(ratings, ids, service.ledger)
        made = service.traffic.total - before
        lines.append(Line(case, "rate", made, plan.fired - fired, report, seconds))
    return lines
