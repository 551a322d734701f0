"""The silence of model calls: one timer looks after all of them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from elluminate_async.server.llms.silence import Listening, SilenceWatch
from elluminate_async.testing import VIRTUAL_TIME


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_TIME


async def _silent(listening: Listening, *heard: float) -> None:
    with listening:
        for seconds in heard:
            await asyncio.sleep(seconds)
            listening.heard()
        await asyncio.Event().wait()


async def _ends_at(
    watch: SilenceWatch, limit: float, *heard: float, longest: float = 3600
) -> float:
    """When a call that is heard after so many seconds, each time, is ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    listening = watch.listen(limit, longest)
    with pytest.raises(TimeoutError):
        await _silent(listening, *heard)
    assert listening.is_over
    assert listening.has_begun is bool(heard)
    return loop.time() - began


async def test_each_call_ends_at_its_own_time() -> None:
    """Begun together, with other limits, the shortest last: each ends when its own is over."""
    watch = SilenceWatch()
    limits = [600.0, 5.0, 60.0, 0.5]
    ends = await asyncio.gather(*[_ends_at(watch, limit) for limit in limits])
    assert ends == pytest.approx(limits)


async def test_what_is_heard_begins_the_silence_anew() -> None:
    """Heard after 4 s and 4 s more, a call may be silent for its 5 s again."""
    assert await _ends_at(SilenceWatch(), 5, 4, 4) == pytest.approx(13)


async def test_a_call_that_goes_on_talking_ends_as_well() -> None:
    """Heard every 4 s of its 5, it is ended after 10 s in all."""
    assert await _ends_at(SilenceWatch(), 5, 4, 4, longest=10) == pytest.approx(10)


async def test_a_cancellation_is_no_silence() -> None:
    """A call cancelled by another ends cancelled, also where its own time is over at once."""
    listening = SilenceWatch().listen(5, 5)
    task = asyncio.create_task(_silent(listening))
    await asyncio.sleep(1)
    task.cancel()
    listening.end()
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        await task
    assert task.cancelled()


async def test_a_timeout_around_it_stays_the_callers() -> None:
    """The caller's own clock of 2 s ends a call that may be silent for 5, and is told so."""
    listening = SilenceWatch().listen(5, 5)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_silent(listening), 2)
    assert not listening.is_over


async def test_a_call_that_is_answered_is_left_alone() -> None:
    """Its limit passes later, and does nothing to the task that made it; so with a closed watch."""
    watch = SilenceWatch()
    with watch.listen(5, 5):
        await asyncio.sleep(1)
    await asyncio.sleep(10)
    with watch.listen(5, 5):
        watch.close()
        await asyncio.sleep(10)
