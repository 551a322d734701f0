"""A run: what its items are is the same in every process, so each is made and rated once."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    InputError,
    PromptResponse,
    RatingMode,
)
from elluminate_async.server import WireProfile
from elluminate_async.server.store import job_statuses
from elluminate_async.testing import VIRTUAL_TIME
from tests.flow.bench import Seen, Stage, is_batch, nothing_left, until
from tests.flow.conftest import Staging

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

RUN = "nightly"
VALUES = [f"v{i}" for i in range(12)]
KEYS = [f"key {value}" for value in VALUES]
UNKNOWN = WireProfile(item_keys=False)


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


@asynccontextmanager
async def another(stage: Stage, chunk_size: int = 10) -> AsyncGenerator[Stage]:
    """The same stage as another process has it: with a client of its own."""
    options = BatchOptions(chunk_size=chunk_size, settle=0.5)
    key = stage.server.api_key
    async with AsyncClient(base_url=stage.server.url, api_key=key, options=options) as client:
        yield replace(stage, client=client)


async def generate(
    stage: Stage, rows: Sequence[Any], keys: Any = None, **arguments: Any
) -> Batch[PromptResponse]:
    return await stage.client.responses.generate_many(
        template_variables=rows,
        experiment=stage.experiment,
        item_keys=keys,
        run=arguments.pop("run", RUN),
        **arguments,
    )


def ids(batch: Sequence[PromptResponse]) -> list[int]:
    return [response.id for response in batch]


def said(batch: Sequence[PromptResponse]) -> list[str]:
    return [response.response_str.removeprefix("echo say ") for response in batch]


class Bodies:
    """The bodies, and the keys, of the chunks that arrive."""

    def __init__(self, stage: Stage) -> None:
        self.items: list[dict[str, Any]] = []
        self.runs: list[object] = []
        self.keys: list[str] = []
        assert stage.recorder.app is not None
        self._app: ASGIApp = stage.recorder.app
        stage.recorder.app = self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_chunk = scope["type"] == "http" and scope["path"].endswith("/batches")
        if not is_chunk or scope["method"] != "POST":
            return await self._app(scope, receive, send)
        self.keys += [v.decode() for name, v in scope["headers"] if name == b"idempotency-key"]
        body = b""

        async def read() -> Message:
            nonlocal body
            message = await receive()
            body += message.get("body", b"")
            return message

        await self._app(scope, read, send)
        document = json.loads(body)
        self.items += document.get("prompt_response_ins", ())
        self.runs += [document.get("run")] if "rating_mode" in document else []


async def test_other_chunks_of_a_run_make_nothing_twice(stage: Stage) -> None:
    """Its items in another order, in other chunks and in another process have the same rows."""
    judged = Counter[str]()
    stage.model.judge_failing = lambda prompt: judged.update([prompt]) or False
    rows = await stage.variables(VALUES)
    first = await generate(stage, rows, KEYS)
    rated = await stage.client.ratings.rate_many(first, run=RUN, rating_mode=RatingMode.FAST)
    asked = judged.total()

    async with another(stage, chunk_size=5) as elsewhere:
        back = [*reversed(rows)], [*reversed(KEYS)]
        second = await generate(elsewhere, *back)
        again = await elsewhere.client.ratings.rate_many(
            second, run=RUN, rating_mode=RatingMode.FAST
        )

    assert ids(second) == ids(first)[::-1]
    assert said(second) == VALUES[::-1]
    assert [[r.id for r in one] for one in again] == [[r.id for r in one] for one in rated][::-1]
    assert set(stage.model.answered.values()) == {1}
    assert judged.total() == asked
    assert [len(one) for one in again] == [3] * len(VALUES)


async def test_a_run_without_keys_knows_its_rows(stage: Stage) -> None:
    """By their ids and by how often each comes, in a stream too; another run makes all anew."""
    rows = await stage.variables(["a", "b", "a", "a"])
    first = await generate(stage, rows)
    async with another(stage, chunk_size=1) as elsewhere:
        stream = elsewhere.client.responses.stream_generate_many(
            template_variables=iter([*rows[:1], *rows]), experiment=stage.experiment, run=RUN
        )
        second = {position: outcome async for position, outcome in stream}
        other = await generate(elsewhere, rows, run="another")

    found = ids(Batch(second[position] for position in range(5)))
    (a1, b, a2, a3) = ids(first)
    assert found[:2] == [a1, a2]
    assert found[2] == b
    assert found[3] == a3
    assert len({*found, *ids(first)}) == 5
    assert not {*ids(other)} & {*found}
    assert stage.model.answered == {"say a": 7, "say b": 2}


async def test_two_processes_at_once(stage: Stage) -> None:
    """Each position of both has its own result, and each item is asked for once."""
    stage.model.delay = 1.0
    rows = await stage.variables(VALUES)
    async with another(stage, chunk_size=5) as elsewhere, another(stage) as third:
        batches = await asyncio.gather(
            generate(stage, rows, KEYS),
            generate(elsewhere, rows[::-1], KEYS[::-1]),
            generate(third, rows, KEYS),
        )
    first, second, same = batches

    assert said(first) == said(same) == VALUES
    assert ids(first) == ids(same) == ids(second)[::-1]
    assert set(stage.model.answered.values()) == {1}
    # Equal chunks too are jobs of their own: of 2, 3 and 2 chunks.
    assert len(stage.recorder.key_of_job) == 7


@pytest.mark.parametrize("first_leaves", [True, False], ids=["who began it", "who came later"])
async def test_who_leaves_takes_nothing_from_the_other(stage: Stage, first_leaves: bool) -> None:
    """Of two that wait for one job the other has all its results, whoever is cancelled."""
    stage.model.delay = 2.0
    rows = await stage.variables(VALUES)
    async with another(stage) as elsewhere:
        one = asyncio.ensure_future(generate(stage, rows, KEYS))
        await until(lambda: len(stage.model.answered) > 0)
        other = asyncio.ensure_future(generate(elsewhere, rows, KEYS))
        await until(lambda: stage.recorder.count("/stream") == 4)
        leaving, staying = (one, other) if first_leaves else (other, one)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        batch = await staying

    assert said(batch) == VALUES
    if not first_leaves:
        assert set(stage.model.answered.values()) == {1}
    await nothing_left(stage)


async def test_who_leaves_early_ends_no_job_of_the_other(stage: Stage) -> None:
    """An equal chunk whose answer is on its way is taken back alone, and nothing is made twice."""
    stage.model.delay = 2.0
    rows = await stage.variables(VALUES)
    async with another(stage) as elsewhere:
        host = asyncio.ensure_future(generate(stage, rows, KEYS))
        await until(lambda: len(stage.model.answered) == len(VALUES))
        taken = len(stage.recorder.key_of_job)

        async def lost(seen: Seen, send: Send) -> bool:
            guest.cancel()
            return is_batch(seen)

        stage.recorder.after = lost
        guest = asyncio.ensure_future(generate(elsewhere, rows, KEYS))
        with pytest.raises(asyncio.CancelledError):
            await guest
        stage.recorder.after = None
        batch = await host

    assert taken == 2
    assert stage.recorder.count("/batches$", "DELETE") > 0
    assert said(batch) == VALUES
    assert set(stage.model.answered.values()) == {1}
    await nothing_left(stage)


async def test_the_same_call_of_ratings_looks_again(stage: Stage) -> None:
    """What a retry has repaired, and a criterion that is new, are in it, in equal chunks too."""
    batch = await stage.generate(VALUES[:3])
    stage.model.judge_failing = lambda prompt: True
    first = await stage.client.ratings.rate_many(batch, run=RUN)
    stage.model.judge_failing = lambda prompt: False
    await first.retry_failed()
    same = await stage.client.ratings.rate_many(batch, run=RUN)
    await stage.client.criteria.add_many(["is it new?"], prompt_template=stage.template)
    more = await stage.client.ratings.rate_many(batch, run=RUN)

    assert [[one.id for one in r] for r in same] == [[one.id for one in r] for r in first]
    assert [len(ratings) for ratings in more] == [4] * 3


async def test_who_leaves_takes_no_verdict_from_the_other(stage: Stage) -> None:
    """A job of ratings that who began it has cancelled is gone on with by another."""
    asked, judge = Counter[str](), stage.model._judge.complete

    async def slowly(request: Any) -> Any:
        asked.update([str(request.messages)])
        await anyio.sleep(2)
        return await judge(request)

    stage.model._judge.complete = slowly
    batch = await stage.generate(VALUES)
    async with another(stage) as elsewhere:
        one = asyncio.ensure_future(stage.client.ratings.rate_many(batch, run=RUN))
        await until(lambda: len(asked) > 0)
        other = asyncio.ensure_future(elsewhere.client.ratings.rate_many(batch, run=RUN))
        await until(lambda: stage.recorder.count("/ratings/.*/stream") == 4)
        one.cancel()
        with pytest.raises(asyncio.CancelledError):
            await one
        rated = await other

    assert [len(ratings) for ratings in rated] == [3] * len(VALUES)
    rows = await stage.client.responses.list(experiment=stage.experiment)
    assert [len(row.ratings) for row in rows] == [3] * len(VALUES)


async def test_small_calls_of_runs_share_no_chunk(staging: Staging) -> None:
    """Two that come together have chunks of their own, as those that come alone."""
    async with staging(coalesce=0.05) as stage:
        rows = await stage.variables(VALUES)
        runs = ("a", "b", None)
        batches = await asyncio.gather(*(generate(stage, rows, run=run) for run in runs))

    assert len(stage.recorder.key_of_job) == 3
    assert len({id for batch in batches for id in ids(batch)}) == 3 * len(VALUES)


async def test_a_key_of_another_item_fails_alone(stage: Stage) -> None:
    """With a code of its own; what shares its chunk is generated, and what was made is given."""
    rows = await stage.variables(VALUES)
    first = await generate(stage, rows[:4], KEYS[:4])
    keys = [*KEYS[:4], KEYS[0], KEYS[2], *KEYS[6:]]
    async with another(stage) as elsewhere:
        with pytest.raises(InputError, match=r"item_keys\[4\] is 'key v0', as item_keys\[0\] is"):
            await generate(elsewhere, rows, keys)
        keys = ["x", *KEYS[1:4], KEYS[0], KEYS[2], *KEYS[6:]]
        keys[2] = "y"
        batch = await generate(elsewhere, rows, keys)

    assert {p: error.code for p, error in batch.failed.items()} == {
        4: "key_conflict",
        5: "key_conflict",
    }
    error = batch.failed[4]
    assert (error.status, error.retryable) == (422, False)
    assert "its key is that of another item of the run" in error.text
    assert {p: r.id for p, r in batch.succeeded.items() if p in (1, 3)} == {
        1: first[1].id,
        3: first[3].id,
    }


async def test_a_row_that_was_edited_is_another_item(stage: Stage) -> None:
    """Its key conflicts, and never gives the answer to the old value; a retry asks the new one."""
    stage.model.failing = lambda prompt: prompt.endswith("v1")
    rows = await stage.variables(VALUES[:3])
    first = await generate(stage, rows, KEYS[:3])
    update = partial(stage.client.template_variables.update, collection=stage.collection)
    edited = [await update(row, {"x": "new"}) for row in rows[:2]]
    for given in ([*edited, rows[2]], rows):
        batch = await generate(stage, given, KEYS[:3])
        assert [(p, e.code) for p, e in batch.failed.items()] == [
            (0, "key_conflict"),
            (1, "key_conflict"),
        ]
        assert batch[2].id == first[2].id
    assert "edited since" in batch.failed[0].text
    await first.retry_failed()
    again = await generate(stage, edited[1:], KEYS[1:2])
    await update(rows[0], {"x": "v0"})

    assert said(again) == ["new"]
    assert ids(await generate(stage, rows[:1], KEYS[:1])) == [first[0].id]


async def test_a_run_rates_in_one_mode(stage: Stage) -> None:
    """The other mode is a conflict of those responses that were rated; others are rated."""
    batch = await stage.generate(VALUES[:4])
    await stage.client.ratings.rate_many(batch[:2], run=RUN, rating_mode=RatingMode.FAST)
    rated = await stage.client.ratings.rate_many(batch, run=RUN)

    assert [error.code for error in rated.failed.values()] == ["key_conflict"] * 2
    assert "in another rating_mode" in rated.failed[1].text
    assert [len(ratings) for ratings in rated.succeeded.values()] == [3, 3]
    other = await stage.client.ratings.rate_many(batch, run="another")
    assert not other.failed


async def test_a_failure_is_made_anew_by_a_retry_alone(stage: Stage) -> None:
    """It is given until a retry, which asks the model once for all processes, and is known then."""
    stage.model.failing = lambda prompt: prompt.endswith("v3")
    rows = await stage.variables(VALUES)
    first = await generate(stage, rows, KEYS)
    async with another(stage, chunk_size=5) as elsewhere:
        second = await generate(elsewhere, rows, KEYS)
        assert [*second.failed] == [*first.failed] == [3]
        await second.retry_failed()
        assert stage.model.answered["say v3"] == 2
        stage.model.failing = lambda prompt: False
        await second.retry_failed()
        await first.retry_failed()
        await first.retry_failed()
        same = await generate(stage, rows, KEYS)
        other = await generate(elsewhere, rows[3:4], KEYS[3:4])

    assert said(first) == said(second) == said(same) == VALUES
    assert first[3].id == second[3].id == same[3].id == other[0].id
    assert stage.model.answered["say v3"] == 3
    assert sum(stage.model.answered.values()) == len(VALUES) + 2


async def test_a_verdict_that_failed_is_asked_for_by_a_retry(stage: Stage) -> None:
    """It was none, so that the run has none: the same chunk, sent anew, is judged."""
    batch = await stage.generate(VALUES[:3])
    stage.model.judge_failing = lambda prompt: "v1" in prompt
    rated = await stage.client.ratings.rate_many(batch[1:2], run=RUN)
    assert [error.code for error in rated.failed.values()] == ["rating_failed"]
    stage.model.judge_failing = lambda prompt: False
    await rated.retry_failed()

    assert len(rated[0]) == 3


async def test_a_service_without_keys_of_items(staging: Staging) -> None:
    """It is sent what it was always sent, and equal chunks under equal keys are one job."""
    async with staging(UNKNOWN, BatchOptions(chunk_size=5)) as stage:
        rows = await stage.variables([*VALUES, VALUES[0]])
        bodies = Bodies(stage)
        first = await generate(stage, rows, [*KEYS, "once more"])
        async with another(stage, chunk_size=5) as elsewhere:
            same = await generate(elsewhere, rows, [*KEYS, "once more"])
            await elsewhere.client.ratings.rate_many(same, run=RUN)
            await stage.client.ratings.rate_many(first, run=RUN)
        keys = Counter(bodies.keys)
        async with another(stage, chunk_size=4) as elsewhere:
            other = await generate(elsewhere, rows, [*KEYS, "once more"])

    assert all("item_key" not in item for item in bodies.items)
    assert bodies.runs == [None] * 6
    assert [item["epoch"] for item in bodies.items[:13]] == [*[1] * 12, 2]
    assert set(keys.values()) == {2}
    assert ids(same) == ids(first)
    assert {*ids(other)}.isdisjoint(ids(first))


async def test_a_hosted_service(hosted: Stage, log: io.StringIO) -> None:
    """Nothing that it is sent depends on a run, which is said: keys of chunks are new each time."""
    rows = await hosted.variables(VALUES)
    bodies = Bodies(hosted)
    batches = [await generate(hosted, rows, KEYS) for _ in range(2)]
    assert [said(batch) for batch in batches] == [VALUES] * 2
    await hosted.client.ratings.rate_many(batches[0], run=RUN)

    assert log.getvalue().count("the service does not advertise item-keys") == 3
    assert len(set(bodies.keys)) == len(bodies.keys)
    assert all("item_key" not in item for item in bodies.items)
    assert hosted.model.answered == dict.fromkeys([f"say {v}" for v in VALUES], 2)


async def test_rows_that_are_together_too_large(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are asked for in smaller parts, of other calls' rows with the same variables none."""
    rows = await stage.variables(VALUES)
    await generate(stage, rows, run="another")
    monkeypatch.setattr(job_statuses, "RESULT_BYTES", 4_000)
    first = await generate(stage, rows, KEYS)
    await generate(stage, rows, run="a third")
    async with another(stage, chunk_size=12) as elsewhere:
        second = await generate(elsewhere, rows, KEYS)

    assert ids(first) == ids(second)
    assert set(stage.model.answered.values()) == {3}


async def test_a_journal_of_a_run(stage: Stage, tmp_path: Path) -> None:
    """Each is of use without the other: a lost journal costs nothing, and a kept one is read."""
    rows = await stage.variables(VALUES)
    path = tmp_path / "run.journal"
    stage.model.delay = 1.0
    with anyio.move_on_after(0.5):
        await generate(stage, rows, KEYS, journal=path)
    first = await generate(stage, rows, KEYS, journal=path)
    posted = stage.recorder.count("/responses/batches$")
    again = await generate(stage, rows, KEYS, journal=path)
    assert stage.recorder.count("/responses/batches$") == posted
    path.unlink()
    anew = await generate(stage, rows, KEYS, journal=path)

    assert ids(anew) == ids(again) == ids(first)
    made = sum(stage.model.answered.values())
    with pytest.raises(Exception, match="differ at position 1"):
        await generate(stage, rows, [KEYS[0], "x", *KEYS[2:]], journal=path)
    assert sum(stage.model.answered.values()) == made


async def test_stored_responses_of_a_run(stage: Stage) -> None:
    """Each is stored once; another text under its key is a conflict of that one."""
    rows = await stage.variables(VALUES[:3])

    async def add(texts: list[str], stage: Stage = stage) -> Batch[PromptResponse]:
        return await stage.client.responses.add_many(
            texts,
            template_variables=rows,
            experiment=stage.experiment,
            run=RUN,
            item_keys=KEYS[:3],
        )

    first = await add(["a", "b", "c"])
    async with another(stage, chunk_size=1) as elsewhere:
        same = await add(["a", "b", "c"], elsewhere)
        other = await add(["a", "x", "c"], elsewhere)

    assert ids(same) == ids(first)
    assert {p: error.code for p, error in other.failed.items()} == {1: "key_conflict"}
    assert [p for p in other.succeeded if other[p].id == first[p].id] == [0, 2]


async def test_keys_come_with_a_stream(stage: Stage) -> None:
    """From an async iterable beside it, one for each; a stream that has more or less ends."""
    rows = await stage.variables(VALUES)

    async def slowly(values: Sequence[Any]) -> AsyncIterator[Any]:
        for value in values:
            await anyio.lowlevel.checkpoint()
            yield value

    def stream(keys: Any) -> Any:
        return stage.client.responses.stream_generate_many(
            template_variables=slowly(rows), experiment=stage.experiment, run=RUN, item_keys=keys
        )

    first = {position: outcome async for position, outcome in stream(slowly(KEYS))}
    second = {position: outcome async for position, outcome in stream(iter(KEYS))}
    assert {p: one.id for p, one in first.items()} == {p: one.id for p, one in second.items()}
    rated = stage.client.ratings.stream_rate_many(
        stream(iter(KEYS)), run=RUN, item_keys=slowly(KEYS)
    )
    assert len([outcome async for outcome in rated]) == len(VALUES)
    with pytest.raises(InputError, match="item_keys ended after 3 keys"):
        async for _ in stage.client.ratings.stream_rate_many(
            stream(iter(KEYS)), run=RUN, item_keys=KEYS[:3]
        ):
            pass
    with pytest.raises(InputError, match="item_keys ended after 3 keys"):
        async for _ in stage.client.ratings.stream_rate_many(
            iter([1] * 5), run=RUN, item_keys=KEYS[:3]
        ):
            pass
    with pytest.raises(InputError, match="item_keys goes on after the end of the input"):
        async for _ in stage.client.ratings.stream_rate_many(iter([]), run=RUN, item_keys=KEYS[:3]):
            pass
    for keys, problem in (
        (KEYS[:5], "item_keys ended after 5 keys, and the input goes on"),
        ([*KEYS, "more"], "item_keys goes on after the end of the input"),
        ([*KEYS[:3], 7, *KEYS[4:]], r"item_keys\[3\] must be a text of 1 to 1,000 characters"),
    ):
        with pytest.raises(InputError, match=problem):
            async for _ in stream(slowly(keys)):
                pass


def _arguments() -> Iterator[Any]:
    yield {"item_keys": ["a", "b"]}, r"item_keys= needs run="
    for run in ("", "r" * 201, 7, b"r"):
        yield {"run": run}, "run must be a text of 1 to 200 characters"
    for keys in ("ab", {"a", "b"}, {"a": 1}, 7, b"ab"):
        yield {"run": RUN, "item_keys": keys}, "item_keys must be a list of texts"
    yield (
        {"run": RUN, "item_keys": ["a"]},
        "one key for each of the 2 template_variables, and has 1",
    )
    more = r"item_keys must have one key for each of the 2 template_variables, and has 3"
    yield {"run": RUN, "item_keys": ["a", "b", "c"]}, more
    yield {"run": RUN, "item_keys": ["a", ""]}, r"item_keys\[1\] must be a text of 1 to 1,000"
    yield {"run": RUN, "item_keys": ["a", None]}, r"item_keys\[1\] must be a text of 1 to 1,000"
    yield {"run": RUN, "item_keys": ["a", "a"]}, r"item_keys\[1\] is 'a', as item_keys\[0\] is"


@pytest.mark.parametrize(("arguments", "problem"), [*_arguments()])
async def test_keys_that_cannot_work(arguments: dict[str, Any], problem: str) -> None:
    """They are refused before anything is sent."""
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="k")
    with pytest.raises(InputError, match=problem):
        await client.responses.generate_many(template_variables=[1, 2], experiment=1, **arguments)
    with pytest.raises(InputError, match=problem.replace("template_variables", "responses")):
        await client.responses.add_many(
            ["a", "b"], template_variables=[1, 2], experiment=1, **arguments
        )
    with pytest.raises(InputError, match=problem.replace("template_variables", "responses")):
        await client.ratings.rate_many([1, 2], **arguments)
