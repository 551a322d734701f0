"""`RayShare` keeps the promises of a share of limits, by a real cluster of Ray."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import os
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from elluminate_async import ConfigurationError
from elluminate_async.batch.share import LimitShare, Slots
from elluminate_async.integrations.ray import RayShare
from elluminate_async.integrations.ray.share import NAMESPACE
from tests.integrations.ray_clusters import a_cluster
from tests.limits.shares import is_new

ray: Any = importlib.import_module("ray")

ONE = [Slots("requests", interval=1000.0, number=1, guard=1.0)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with a_cluster():
        yield


async def once_there(share: RayShare) -> bool:
    """Whether it is new when asked as often as the limits do, until it is back."""
    while True:
        try:
            return await is_new(share, ONE)
        except OSError:
            await asyncio.sleep(0.1)


def process_of(_actor: object) -> int:
    return os.getpid()


async def ended(process: int) -> None:
    """Return when a process of that id is no more."""
    with contextlib.suppress(ProcessLookupError):
        while True:
            os.kill(process, 0)
            await asyncio.sleep(0.01)


async def test_without_a_cluster_the_error_says_what_to_do() -> None:
    """Nothing is started behind the program's back."""
    share = RayShare("x")
    assert isinstance(share, LimitShare)
    with pytest.raises(ConfigurationError, match=r"in none: call ray\.init\(\) first"):
        await share.held()
    assert not ray.is_initialized()
    with pytest.raises(ConfigurationError, match="name must be a string of 1 to 200"):
        RayShare("")


async def test_workers_and_drivers_have_one_state(cluster: None) -> None:
    """No two get the same slot; a hold and refusals of one are those of all."""
    share = pickle.loads(pickle.dumps(RayShare("a key's")))
    assert share == RayShare("a key's")
    state = await share.state()
    assert (state.slots, state.hold, tuple(state.pace)) == ({}, 0.0, (0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="Failed to look up actor"):
        ray.get_actor(share.actor_name, namespace=NAMESPACE)

    async def take(times: int) -> list[float]:
        return [(await share.reserve(ONE, earliest=0.0, latest=1e6)).delay for _ in range(times)]

    def work(times: int) -> list[float]:
        return asyncio.run(take(times))

    task = ray.remote(work).options(num_cpus=1)
    assert await is_new(share, ONE)
    delays = [1.0]
    gather: Any = asyncio.gather  # of Ray's references besides
    taken: list[list[float]] = await gather(take(5), task.remote(5), task.remote(5))
    delays += itertools.chain(*taken)
    # A thousand seconds apart, whatever the calls took.
    assert sorted(round(delay / 1000) for delay in delays) == list(range(16))
    assert not (await share.reserve(ONE, earliest=0.0, latest=1.0)).is_taken

    async def tell() -> None:
        await share.pace(accepted=3, refused=20.0)
        await share.hold(60.0)

    await ray.remote(lambda: asyncio.run(tell())).remote()
    assert (await share.reserve(ONE, earliest=0.0, latest=1.0)).hold > 50
    assert 50 < await share.held() <= 60
    state = await share.state()
    assert state.pace.refused_rate == 20.0
    assert state.slots.keys() == {"requests"}
    await share.aclose()


@pytest.mark.parametrize("for_good", [False, True])
async def test_an_actor_that_dies_starts_anew_with_the_guard(cluster: None, for_good: bool) -> None:
    """Started again by Ray, or made again where it was ended: nothing before a second is over."""
    share = RayShare(f"dies {for_good}")
    assert await is_new(share, ONE)
    actor = ray.get_actor(share.actor_name, namespace=NAMESPACE)
    process = await actor.__ray_call__.remote(process_of)
    ray.kill(actor, no_restart=for_good)
    # Ray only asks it to end; until then it answers.
    await ended(process)

    assert await once_there(share)
