"""`BlockWork`: a block of rows gets its columns, one outcome a row, whatever is wrong with rows."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any, NamedTuple

import anyio.to_thread
import pytest

from elluminate_async import AsyncClient, BatchOptions, Experiment
from elluminate_async.errors import InputError, NotFoundError
from elluminate_async.integrations.blocks import BlockWork, Generation, Judging
from elluminate_async.integrations.stage import Connect, Stage
from elluminate_async.schemas.ratings import RatingMode
from elluminate_async.server import LocalServer
from tests.tables.libraries import pa


class Counts:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.done = Counter[str]()
        self.codes = Counter[str]()
        self.now = Counter[str]()
        self.most = Counter[str]()

    def ended(self, operation: str, count: int, codes: Sequence[str]) -> None:
        self.done[operation] += count
        self.codes.update(codes)

    def in_flight(self, operation: str, change: int) -> None:
        self.now[operation] += change
        self.most[operation] = max(self.most[operation], self.now[operation])


class Scene(NamedTuple):
    client: AsyncClient
    experiment: Experiment
    work: BlockWork


@pytest.fixture
async def scene() -> AsyncGenerator[Scene]:
    async with (
        LocalServer() as server,
        AsyncClient(base_url=server.url, api_key=server.api_key) as client,
    ):
        template, _ = await client.prompt_templates.get_or_create("Say {{said}}", name="Say")
        await client.criteria.add_many(["Is it right?"], prompt_template=template)
        collection, _ = await client.collections.get_or_create("Say")
        experiment = await client.experiments.create(
            "Say", prompt_template=template, collection=collection
        )
        generation = Generation(experiment.id, collection.id, "run", "id", {"said": "text"})
        work = BlockWork(generation, Judging("run", RatingMode.FAST))
        yield Scene(client, experiment, work)


async def done(scene: Scene, work: BlockWork, table: Any, counts: Counts | None = None) -> Any:
    return work.write(table, await work.run(scene.client, work.read(table), counts))


async def test_each_row_gets_its_response_and_its_ratings(scene: Scene) -> None:
    """The rows keep their order, and columns of other names are the prompt's values."""
    table = pa.table({"id": [3, 1, 2], "text": ["c", "a", "b"]})

    made = await done(scene, pickle.loads(pickle.dumps(scene.work)), table)

    assert made.column("id").to_pylist() == [3, 1, 2]
    stored = {row.id: row for row in await scene.client.responses.list()}
    for row in made.to_pylist():
        response = stored[row["response_id"]]
        assert response.prompt.template_variables.input_values == {"said": row["text"]}
        assert row["response"] == response.response_str
        assert [rating["criterion"] for rating in row["ratings"]] == ["Is it right?"]
        assert row["error_code"] is None
        assert row["rating_error_code"] is None


async def test_a_row_that_cannot_be_sent_fails_alone(scene: Scene) -> None:
    """No key, no value, and what JSON does not have, are errors of their rows and ratings."""
    table = pa.table(
        {"id": ["a", None, "", "d", "e"], "text": [1.5, 2.5, 3.5, float("nan"), None]},
    )
    counts = Counts()

    made = await done(scene, scene.work, table, counts)

    assert made.column("error_code").to_pylist() == [None, *["bad_input"] * 4]
    assert made.column("rating_error_code") == made.column("error_code")
    texts = made.column("error_text").to_pylist()
    assert "'id'" in texts[1]
    assert "'text'" in texts[3]
    assert "'text' is missing (null)" in texts[4]
    assert len(await scene.client.responses.list()) == 1
    assert counts.done == {"generate": 5, "rate": 5}
    assert counts.codes == {"bad_input": 8}
    assert counts.most == {"generate": 1, "rate": 1}
    assert counts.now.total() == 0


async def test_a_key_that_comes_again_is_of_the_same_row(scene: Scene) -> None:
    """With other values it is an error of that row; with the same ones the response is one."""
    table = pa.table({"id": [1, 1, 1, 2], "text": ["a", "b", "a", "a"]})

    made = await done(scene, scene.work, table)

    assert made.column("error_code").to_pylist() == [None, "key_conflict", None, None]
    first, _, third, other = made.column("response_id").to_pylist()
    assert first == third != other


async def test_a_key_of_an_earlier_block_is_of_the_same_row(scene: Scene) -> None:
    """The service knows it again, and refuses the row alone."""
    first = await done(scene, scene.work, pa.table({"id": [1], "text": ["a"]}))

    again = await done(scene, scene.work, pa.table({"id": [1, 2], "text": ["b", "b"]}))

    assert first.column("error_code").to_pylist() == [None]
    assert again.column("error_code").to_pylist() == ["key_conflict", None]


async def test_responses_are_rated_by_their_ids(scene: Scene) -> None:
    """Of a row that has none, or an error instead, the error is that of the ratings."""
    first = await done(scene, BlockWork(scene.work.generation, None), pa.table(
        {"id": [1], "text": ["a"]}
    ))  # fmt: skip
    id = first.column("response_id")[0].as_py()
    table = pa.table(
        {
            "response_id": pa.array([id, None, None], pa.int64()),
            "error_code": [None, "timeout", None],
            "error_text": [None, "no answer", None],
        }
    )

    made = await done(scene, BlockWork(None, scene.work.judging), table)

    assert made.column("rating_error_code").to_pylist() == [None, "timeout", "bad_input"]
    assert made.column("rating_error_text")[1].as_py() == "no answer"
    assert [len(ratings or ()) for ratings in made.column("ratings").to_pylist()] == [1, 0, 0]


async def test_an_empty_block_sends_nothing_and_has_all_columns(scene: Scene) -> None:
    """A filter may leave nothing of a block."""
    table = pa.table({"id": pa.array([], pa.int64()), "text": pa.array([], pa.string())})

    made = await done(scene, scene.work, table)

    assert made.column_names == ["id", "text", *scene.work.adds]
    assert len(made) == 0


async def test_what_is_true_of_all_blocks_is_raised(scene: Scene) -> None:
    """An experiment that is gone ends the job, without the rows of the block in its error."""
    await scene.client.experiments.delete(scene.experiment)
    table = pa.table({"id": [1], "text": ["a"]})

    with pytest.raises(NotFoundError) as caught:
        await done(scene, scene.work, table)
    assert caught.value.partial is None


async def test_an_outage_fails_rows(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    """A service that nobody reaches is the error of each row, as it may be back for the next."""
    monkeypatch.setenv("ELLUMINATE_API_KEY", "any")
    options = BatchOptions(retry_for=0)
    table = pa.table({"id": [1, 2], "text": ["a", "b"]})

    with Stage(Connect("http://127.0.0.1:9", options=options)) as stage:
        work = partial(scene.work.run, given=scene.work.read(table))
        made = await anyio.to_thread.run_sync(stage.call, work)

    codes = scene.work.write(table, made).column("error_code").to_pylist()
    assert codes[0] in ("connect", "unavailable")
    assert codes[0] == codes[1]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (["text"], "no column 'id'"),
        (["id"], "no column 'text'"),
        (["id", "text", "response"], "a column 'response'"),
    ],
)
async def test_columns_are_checked_before_anything_is_sent(
    scene: Scene, columns: list[str], says: str
) -> None:
    """One that is lacking is named, and so is one that is in the way."""
    with pytest.raises(InputError, match=says):
        scene.work.read(pa.table({name: ["a"] for name in columns}))
