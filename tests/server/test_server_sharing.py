"""Calls that several jobs want are made once, whichever is reading, waiting or leaving."""

from __future__ import annotations

import asyncio

import pytest

from elluminate_async.server.sharing import SharedCalls


class Calls:
    """Counts calls, which answer with their number once they may."""

    def __init__(self) -> None:
        self.begun = 0
        self.abandoned = 0
        self.may_end = asyncio.Event()

    async def make(self) -> int:
        self.begun += 1
        number = self.begun
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            self.abandoned += 1
            raise
        return number


async def test_who_was_reading_finds_the_answer_of_a_job_that_has_ended() -> None:
    """What it has read may be of before that answer was kept; who reads later reads the answer."""
    shared, calls = SharedCalls(), Calls()
    calls.may_end.set()
    with shared.job() as late:
        with shared.job() as first:
            shared.want(first, ["k"])
            assert await shared.made("k", 0, calls.make) == 1
            shared.leave(first, ["k", "another"])
        shared.want(late, ["k"])
        assert await shared.made("k", 0, calls.make) == 1
        shared.leave(late, ["k"])
    with shared.job() as later:
        shared.want(later, ["k"])
        assert await shared.made("k", 0, calls.make) == 2


async def test_a_call_that_nobody_wants_is_abandoned() -> None:
    """Once no job waits for it, and none that was reading says that it does."""
    shared, calls = SharedCalls(), Calls()
    with shared.job() as reading:
        with shared.job() as first:
            shared.want(first, ["k"])
            waiting = asyncio.create_task(shared.made("k", 0, calls.make))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
        await asyncio.sleep(0)
        assert (calls.begun, calls.abandoned, len(shared.tasks)) == (1, 0, 1)
        shared.want(reading, ["other"])
        await asyncio.wait(shared.tasks)
    assert (calls.abandoned, shared.tasks) == (1, set())


async def test_an_error_is_of_all_who_wait() -> None:
    """And no warning, where all have left before it came."""
    shared = SharedCalls()

    async def fail() -> int:
        await asyncio.sleep(0)
        raise ValueError("no")

    with shared.job() as one, shared.job() as other:
        shared.want(one, ["k"])
        shared.want(other, ["k"])
        done = await asyncio.gather(
            *(shared.made("k", 0, fail) for _ in range(2)), return_exceptions=True
        )
        assert [str(error) for error in done] == ["no", "no"]
        with pytest.raises(ValueError, match="no"):
            await shared.made("k", 0, fail)
