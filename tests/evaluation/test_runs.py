"""An evaluation of a run: calls of it share what is at the service, and pay for nothing twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import AsyncClient, BatchOptions, Evaluation, InputError, RatingMode
from elluminate_async.server import LocalServer, WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from tests.evaluation.scene import CRITERIA, PROMPT, Scene, evaluating, generated, words
from tests.flow.bench import EchoModel, Recorder

RUN = "nightly"


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Calls:
    """Counts what the judge is asked."""

    def __init__(self, scene: Scene) -> None:
        self.judged = Counter[str]()
        scene.model.judge_failing = self._count

    def _count(self, prompt: str) -> bool:
        self.judged[prompt] += 1
        return False


@asynccontextmanager
async def another(scene: Scene, chunk_size: int) -> AsyncGenerator[Scene]:
    """The same service as another process sees it."""
    options = BatchOptions(chunk_size=chunk_size)
    url, key = scene.server.url, scene.server.api_key
    async with AsyncClient(base_url=url, api_key=key, options=options) as client:
        yield replace(scene, client=client)


async def evaluate(scene: Scene, rows: Any, **more: Any) -> Evaluation:
    arguments: dict[str, Any] = {
        "prompt": PROMPT,
        "criteria": CRITERIA,
        "rating_mode": RatingMode.FAST,
        "run": RUN,
        **more,
    }
    return await scene.client.evaluate(rows, **arguments)


def of_rows(evaluation: Evaluation) -> dict[tuple[str, int], tuple[int, list[int]]]:
    """The ids of each record's response and ratings, by its word and its epoch."""
    assert not evaluation.failed
    return {
        (record.input["word"], record.epoch): (
            record.response.id if record.response else 0,
            [rating.id for rating in record.ratings or ()],
        )
        for record in evaluation
    }


def asked(scene: Scene, part: str, method: str = "GET") -> int:
    return scene.recorder.count(part, method)


async def test_the_same_run_again_pays_for_nothing() -> None:
    """In another process, in other chunks, as a list and as a stream: all is there, and shared."""
    async with evaluating() as scene:
        calls = Calls(scene)
        first = await evaluate(scene, words(12), epochs=2)
        judged = calls.judged.total()
        scene.recorder.requests.clear()
        async with another(scene, chunk_size=5) as elsewhere:
            second = await evaluate(elsewhere, words(12)[::-1], epochs=2)
            listed = asked(scene, "/entries$")
            more = await evaluate(elsewhere, [*words(3), *words(2, start=50)], epochs=2)

    found = of_rows(second)
    assert found == of_rows(first)
    assert listed == 0
    assert [e.id for e in second.experiments] == [e.id for e in first.experiments]
    assert {key: row for key, row in of_rows(more).items() if key in found}.items() <= found.items()
    assert judged == 24
    assert calls.judged.total() == 28
    assert sum(scene.model.answered.values()) == 28


async def test_rows_by_keys_of_their_own() -> None:
    """A column tells them, also where rows are equal; one of another content fails alone."""
    rows = [{"word": "same", "id": n} for n in range(4)]
    async with evaluating() as scene:
        first = await evaluate(scene, rows, item_keys="id")
        async with another(scene, chunk_size=2) as elsewhere:
            changed = [{**rows[3], "word": "other"}, *rows[1:3]]
            second = await evaluate(elsewhere, changed, item_keys="id")
            listed = await evaluate(elsewhere, rows[:2], item_keys=["2", "1"], name="by a list")
        assert scene.model.answered == {"Say same": 6}

    def response_ids(evaluation: Evaluation) -> list[int]:
        return [record.response.id for record in evaluation if record.response is not None]

    assert len({*response_ids(first)}) == 4
    assert response_ids(second) == response_ids(first)[1:3]
    assert {p: error.code for p, error in second.failed.items()} == {0: "key_conflict"}
    assert len(response_ids(listed)) == 2


async def test_two_processes_at_once() -> None:
    """They set up the same, and each has all records, asked for once."""
    async with evaluating() as scene, another(scene, chunk_size=3) as elsewhere:
        scene.model.delay = 0.5
        calls = Calls(scene)
        both = await asyncio.gather(
            evaluate(scene, words(20), llm_configs=None),
            evaluate(elsewhere, generated(20)),
        )

    assert of_rows(both[0]) == of_rows(both[1])
    assert set(scene.model.answered.values()) == {1}
    assert set(calls.judged.values()) == {1}


async def test_a_stream_of_a_run() -> None:
    """Its records are those of the run, with keys from a column."""
    async with evaluating() as scene:
        first = await evaluate(scene, words(8), item_keys="number")
        stream = scene.client.stream_evaluate(
            generated(8),
            prompt=PROMPT,
            criteria=CRITERIA,
            rating_mode=RatingMode.FAST,
            run=RUN,
            item_keys="number",
        )
        records = {record.row: record async for record in stream}

    assert len(records) == 8
    for record in first:
        same = records[record.row].response
        assert record.response is not None
        assert same is not None
        assert same.id == record.response.id
    assert set(scene.model.answered.values()) == {1}


async def test_another_evaluation_is_none_of_the_run() -> None:
    """Other criteria under the same name are refused; another run is another evaluation."""
    async with evaluating() as scene:
        first = await evaluate(scene, words(2), name="mine")
        with pytest.raises(InputError, match="the run 'nightly' was begun with another evaluation"):
            await evaluate(scene, words(2), name="mine", criteria=["Is it kind?"])
        with pytest.raises(InputError, match="the run 'nightly' was begun with another evaluation"):
            await evaluate(scene, words(2), name="mine", prompt="Tell {{word}}")
        other = await evaluate(scene, words(2), name="mine", run="another")

    assert first.name == "mine · nightly"
    assert [e.id for e in other.experiments] != [e.id for e in first.experiments]
    assert scene.model.answered == {"Say word0": 2, "Say word1": 2}


async def test_the_same_call_gives_what_a_retry_has_repaired() -> None:
    """Of answers and of verdicts that had failed, at no cost, in equal chunks and in others."""
    async with evaluating() as scene:
        scene.model.failing = lambda prompt: prompt.endswith("0")
        scene.model.judge_failing = lambda prompt: True
        first = await evaluate(scene, words(4))
        assert len(first.failed) == 4
        scene.model.failing = lambda prompt: False
        calls = Calls(scene)
        await first.retry_failed()
        judged, made = calls.judged.total(), scene.model.answered.total()
        same = await evaluate(scene, words(4))
        async with another(scene, chunk_size=3) as elsewhere:
            other = await evaluate(elsewhere, words(4))

    assert of_rows(first) == of_rows(same) == of_rows(other)
    assert (calls.judged.total(), scene.model.answered.total()) == (judged, made)


async def test_a_run_with_a_journal(tmp_path: Path) -> None:
    """The journal is of that run; where it is lost, the run has all there was."""
    path = tmp_path / "journal"
    async with evaluating() as scene:
        first = await evaluate(scene, words(4), journal=path)
        again = await evaluate(scene, words(4), journal=path)
        lost = await evaluate(scene, words(4), journal=tmp_path / "another")
        with pytest.raises(Exception, match="was begun with another run="):
            await evaluate(scene, words(4), journal=path, run=None)

    assert of_rows(first) == of_rows(again) == of_rows(lost)
    assert set(scene.model.answered.values()) == {1}


async def test_answers_that_exist_are_stored_once() -> None:
    """And rated once; another answer to a row of the run fails alone."""
    rows = [{**row, "answer": f"{row['word']}!"} for row in words(3)]
    async with evaluating() as scene:
        calls = Calls(scene)
        first = await evaluate(scene, rows, responses="answer", item_keys="number")
        rows[1]["answer"] = "changed"
        second = await evaluate(scene, rows, responses="answer", item_keys="number")

    assert {p: error.code for p, error in second.failed.items()} == {1: "key_conflict"}
    assert [r.response.id for r in second if r.response] == [
        r.response.id for r in first if r.response and r.row != 1
    ]
    assert calls.judged.total() == 3


async def test_a_service_without_keys_of_items() -> None:
    """There each call is an evaluation of its own, as it is without a run."""
    model, recorder = EchoModel(), Recorder()
    profile = WireProfile(item_keys=False)
    async with (
        LocalServer(model=model, profile=profile, wrap=recorder.wrap) as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        scene = Scene(server, client, model, recorder)
        both = [await evaluate(scene, words(3), item_keys="number") for _ in range(2)]

    assert both[0].experiments[0].id != both[1].experiments[0].id
    assert both[0].experiments[0].name == "Evaluation of Say {{word}}"
    assert set(model.answered.values()) == {2}


@pytest.mark.parametrize(
    ("rows", "arguments", "problem"),
    [
        (words(2), {"run": None, "item_keys": "number"}, "item_keys= needs run="),
        (words(2), {"item_keys": "nope"}, r"rows\[0\] has no column 'nope' for item_keys="),
        (words(2), {"item_keys": ["a"]}, "there are 2 rows and 1 item_keys"),
        (words(2), {"item_keys": ["a", "a"]}, r"rows\[1\] has the key 'a', as rows\[0\] has"),
        (words(2), {"item_keys": ["a", 7]}, r"item_keys\[1\] must be a text of 1 to 1,000"),
        (words(2), {"item_keys": {"a", "b"}}, "item_keys must be the name of the column"),
        (generated(2), {"item_keys": ["a", "b"]}, "item_keys= as a list needs rows as a list"),
        ([{"word": "a", "k": 1.5}], {"item_keys": "k"}, r"rows\[0\]\['k'\] is its key, and must"),
        (words(2), {"run": ""}, "run must be a text of 1 to 200 characters"),
    ],
)
async def test_keys_that_cannot_work(
    rows: Sequence[Mapping[str, Any]], arguments: dict[str, Any], problem: str
) -> None:
    """They are refused before anything is sent."""
    client: Any = AsyncClient(base_url="http://127.0.0.1:9", api_key="k")
    with pytest.raises(InputError, match=problem):
        await client.evaluate(rows, prompt=PROMPT, criteria=CRITERIA, **{"run": RUN, **arguments})
