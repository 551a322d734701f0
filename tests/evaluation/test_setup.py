"""What an evaluation makes at the service before its rows go out."""

from __future__ import annotations

import asyncio
import re

import anyio
import pytest
from starlette.types import Send

from elluminate_async import PermissionDeniedError
from tests.evaluation.scene import CRITERIA, PROMPT, Scene, evaluating, words
from tests.flow.bench import Seen, answer

FIRST = re.compile(r"/(prompt_templates|criterion_sets|collections)$")


def is_first(seen: Seen) -> bool:
    """Whether a request makes what needs nothing of the rest."""
    return seen.method == "POST" and FIRST.search(seen.path) is not None


async def evaluate(scene: Scene) -> None:
    await scene.client.evaluate(words(2), prompt=PROMPT, criteria=CRITERIA, name="nightly")


async def test_what_needs_nothing_of_each_other_is_made_at_once() -> None:
    """Template, criteria and collection are asked for before any of the three is answered."""
    all_there = asyncio.Barrier(3)

    async def hold(seen: Seen, send: Send) -> bool:
        if is_first(seen):
            await all_there.wait()
        return False

    async with evaluating() as scene:
        scene.recorder.before = hold
        with anyio.fail_after(20):
            await evaluate(scene)

        assert sum(map(is_first, scene.recorder.requests)) == 3


async def test_a_failure_of_one_is_raised_bare() -> None:
    """Where the set of criteria may not be made, its own error comes out, and no row goes out."""

    async def refuse(seen: Seen, send: Send) -> bool:
        if not seen.path.endswith("/criterion_sets"):
            return False
        await answer(send, 403, b'{"detail": "no sets for you"}')
        return True

    async with evaluating() as scene:
        scene.recorder.before = refuse
        with pytest.raises(PermissionDeniedError, match="no sets for you"):
            await evaluate(scene)

        assert scene.recorder.count("/entries") == 0
