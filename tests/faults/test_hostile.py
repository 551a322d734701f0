"""Answers made to cost more than their bytes: bounded memory, bounded time, an error of ours.

The full size is ``python -m tests.soak.hostile``; what is refused is refused for how much of it
there is in each byte, so that two megabytes tell the same.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import elluminate_async
from elluminate_async import ElluminateError
from elluminate_async.schemas.weight import ALWAYS_ALLOWED, TIMES_ITS_BYTES
from tests.matrix import Fired
from tests.soak.hostile import DEADLINE, Cost
from tests.soak.hostile_kinds import kinds

MEGABYTES = 1.8
BESIDE_THE_ANSWER = 8 << 20
"""Bytes that a first call takes whatever is answered: modules, buffers, an event loop."""

HARMLESS = {"commas", "braces", "escapes", "quotes", "emoji", "plain"}
"""Shapes that are as light as they look: they are read, and what they are decides."""


@pytest.fixture(scope="module")
def costs() -> dict[str, Cost]:
    """What each kind cost, measured in processes of their own."""
    return measured("")


def measured(only: str) -> dict[str, Cost]:
    command = [sys.executable, "-m", "tests.soak.hostile", "--megabytes", str(MEGABYTES), "--json"]
    run = subprocess.run([*command, "--only", only], capture_output=True, text=True, check=True)
    found = [Cost(**json.loads(line)) for line in run.stdout.splitlines()]
    return {cost.kind: cost for cost in found}


def is_slow(cost: Cost, plain: Cost) -> bool:
    return cost.cpu > 3 * cost.loads + 2 * plain.cpu


def always_slow(kind: str) -> bool:
    """Whether it is slow again and again: what else the machine does only ever adds."""
    return all(
        is_slow(measured(kind)[kind], measured("single: plain")["single: plain"]) for _ in range(4)
    )


def test_there_are_sixty_kinds() -> None:
    """Of different answers, shapes and places."""
    assert len({kind.name for kind in kinds()}) >= 60


@pytest.mark.unmeasured
@pytest.mark.row(129)
def test_hostile_answers(costs: dict[str, Cost], fired: Fired) -> None:
    """At most 10 times its bytes; beside its transfer, the time of three `json.loads`."""
    plain = costs["single: plain"]
    too_large = {
        cost.kind: cost.peak / cost.bytes
        for cost in costs.values()
        if cost.peak > max(TIMES_ITS_BYTES * cost.bytes, ALWAYS_ALLOWED) + BESIDE_THE_ANSWER
    }
    too_slow = {
        cost.kind: cost.cpu / cost.loads
        for cost in costs.values()
        if is_slow(cost, plain) and always_slow(cost.kind)
    }
    fired(times=len(costs))

    assert len(costs) == len(list(kinds()))
    assert too_large == {}
    assert too_slow == {}


@pytest.mark.row(129)
def test_hostile_answers_end_as_an_error_of_ours(costs: dict[str, Cost], fired: Fired) -> None:
    """Each is answered, or is an `ElluminateError`, within the deadline."""
    for cost in costs.values():
        fired()
        assert cost.seconds < DEADLINE
        if cost.ended != "answered":
            assert issubclass(getattr(elluminate_async, cost.ended), ElluminateError)


@pytest.mark.row(129)
def test_what_is_light_is_read(costs: dict[str, Cost], fired: Fired) -> None:
    """Texts of commas, of braces, of escapes: a long answer is no hostile one."""
    for cost in costs.values():
        place, _, shape = cost.kind.partition(": ")
        if shape in HARMLESS and place in ("page within", "single", "event within"):
            fired()
            assert cost.ended == "answered", cost.kind
