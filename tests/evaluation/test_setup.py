"""What an evaluation makes at the service before its rows go out."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.types import Send

from elluminate_async import (
    BatchOptions,
    InputError,
    PermissionDeniedError,
    ServerError,
    ServiceUnavailableError,
)
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


@pytest.mark.parametrize("has_name", [True, False])
async def test_rows_that_do_not_fit_a_template_of_the_service_make_nothing(
    has_name: bool,
) -> None:
    """They are looked at once it is known, before a set of criteria or a collection is made."""
    async with evaluating() as scene:
        template, _ = await scene.client.prompt_templates.get_or_create(PROMPT, "Words")
        scene.recorder.requests.clear()
        name = "nightly" if has_name else None
        with pytest.raises(InputError, match="word"):
            await scene.client.evaluate(
                [{"word": "a"}, {"wrd": "b"}], prompt=template.id, criteria=CRITERIA, name=name
            )

        assert not [seen for seen in scene.recorder.requests if seen.method != "GET"]


async def test_rows_go_out_while_experiments_are_made() -> None:
    """They need the collection alone: neither waits for an answer to the other."""
    both_there = asyncio.Barrier(2)

    async def hold(seen: Seen, send: Send) -> bool:
        if seen.method == "POST" and seen.path.endswith(("/experiments", "/entries/batches")):
            await both_there.wait()
        return False

    async with evaluating() as scene:
        scene.recorder.before = hold
        with anyio.fail_after(20):
            await evaluate(scene)


async def test_the_experiments_of_all_configurations_are_made_at_once() -> None:
    """So are the configurations looked up: each list costs one round trip."""
    names = ["small", "medium", "large"]
    all_there = asyncio.Barrier(len(names))

    async def hold(seen: Seen, send: Send) -> bool:
        if seen.method == "POST" and seen.path.endswith("/experiments"):
            await all_there.wait()
        return False

    async with evaluating() as scene:
        for name in names:
            await scene.client.llm_configs.create(name, f"{name}-model")
        scene.recorder.before = hold
        with anyio.fail_after(20):
            evaluation = await scene.client.evaluate(
                words(2), prompt=PROMPT, criteria=CRITERIA, llm_configs=names
            )

        assert [record.config for record in evaluation] == names * 2


async def test_a_journal_names_the_collection_before_rows_go_into_it(tmp_path: Path) -> None:
    """Where the experiments fail, no row was sent that a second call would send again."""

    async def refuse(seen: Seen, send: Send) -> bool:
        if seen.method != "POST" or not seen.path.endswith("/experiments"):
            return False
        await answer(send, 403, b'{"detail": "no experiments for you"}')
        return True

    async with evaluating() as scene:
        scene.recorder.before = refuse
        with pytest.raises(PermissionDeniedError, match="no experiments for you"):
            await scene.client.evaluate(
                words(2), prompt=PROMPT, criteria=CRITERIA, journal=tmp_path / "run.journal"
            )

        assert scene.recorder.count("/entries") == 0


async def test_an_experiment_that_fails_ends_the_upload_beside_it() -> None:
    """Its own error comes out bare, though rows are under way."""

    async def hold_rows_and_refuse(seen: Seen, send: Send) -> bool:
        if seen.path.endswith("/entries/batches"):
            under_way.set()
            await asyncio.Event().wait()
        if seen.method != "POST" or not seen.path.endswith("/experiments"):
            return False
        await under_way.wait()
        await answer(send, 403, b'{"detail": "no experiments for you"}')
        return True

    async with evaluating() as scene:
        under_way = asyncio.Event()
        scene.recorder.before = hold_rows_and_refuse
        with (
            anyio.fail_after(20),
            pytest.raises(PermissionDeniedError, match="no experiments for you"),
        ):
            await evaluate(scene)


@pytest.mark.parametrize(("clients", "calls"), [(0.2, 60.0), (60.0, 0.2)])
async def test_an_outage_is_waited_out_by_the_options_of_the_call(
    clients: float, calls: float
) -> None:
    """`retry_for` of the call holds for the set-up too, where the client's is shorter or longer."""
    patient = calls > clients
    options = BatchOptions(retry_for=calls)
    asked = 0

    async def away(seen: Seen, send: Send) -> bool:
        nonlocal asked
        if not is_first(seen):
            return False
        asked += 1
        # Until the client's own options would have given up.
        if patient and time.monotonic() > until:
            return False
        await answer(send, 503, b"{}")
        return True

    async with evaluating(options=BatchOptions(retry_for=clients)) as scene:
        await scene.client.projects.list()
        scene.recorder.before = away
        until = time.monotonic() + 1.0
        evaluation = scene.client.evaluate(
            words(2), prompt=PROMPT, criteria=CRITERIA, options=options
        )
        with anyio.fail_after(30):
            if patient:
                assert not (await evaluation).failed
            else:
                with pytest.raises((ServerError, ServiceUnavailableError)):
                    await evaluation
        assert asked


async def test_a_call_within_the_rows_has_its_own_options() -> None:
    """An iterable that asks the service for its rows does so by the client's options."""
    found: list[float] = []
    async with evaluating(options=BatchOptions(retry_for=7.0)) as scene:
        connection = scene.client.projects._connection  # pyright: ignore[reportPrivateUsage]

        async def rows() -> AsyncIterator[dict[str, Any]]:
            for row in words(2):
                found.append(connection.policy().retry_for)
                yield row

        options = BatchOptions(retry_for=60.0)
        await scene.client.evaluate(rows(), prompt=PROMPT, criteria=CRITERIA, options=options)

    assert found == [7.0, 7.0]


async def test_a_resumed_evaluation_never_asks_for_a_whole_collection(tmp_path: Path) -> None:
    """Its document has all rows in one answer: its experiment tells what is needed of it."""
    arguments: dict[str, Any] = {"criteria": CRITERIA, "journal": tmp_path / "run.journal"}
    async with evaluating() as scene:
        first = await scene.client.evaluate(words(5), prompt=PROMPT, **arguments)
        scene.recorder.requests.clear()

        again = await scene.client.evaluate(words(5), prompt=PROMPT, **arguments)

        assert [one.response_str for one in again] == [one.response_str for one in first]
        assert scene.recorder.count(r"collections/\d+$", "GET") == 0
        assert scene.recorder.count("entries|batches", "POST") == 0
