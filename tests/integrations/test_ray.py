"""Ray Data: datasets are generated from, rated and evaluated by real actors of a small cluster."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
import pytest
from ray.data import Dataset

from elluminate_async import AsyncClient, BatchOptions, Experiment, RateLimit, RatingMode
from elluminate_async.errors import (
    ConfigurationError,
    ElluminateError,
    InputError,
    NotFoundError,
)
from elluminate_async.integrations.ray import RayShare, evaluate, generate, rate
from elluminate_async.server import LocalServer
from tests.integrations.ray_clusters import a_cluster
from tests.tables.libraries import pa, pq

ray_data: Any = importlib.import_module("ray.data")

# It warns of options of its own that nobody has set.
pytestmark = pytest.mark.filterwarnings(r"ignore:::ray(\..*)?")

T = TypeVar("T")

KEY = "key-of-the-workers"
ROWS = 40


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ELLUMINATE_API_KEY", KEY)
        with a_cluster():
            ray_data.DataContext.get_current().enable_progress_bars = False
            yield


@pytest.fixture(scope="module")
async def server(cluster: None) -> AsyncGenerator[LocalServer]:
    async with LocalServer(api_key=KEY) as server:
        yield server


@pytest.fixture(scope="module")
async def client(server: LocalServer) -> AsyncGenerator[AsyncClient]:
    async with AsyncClient(base_url=server.url, api_key=server.api_key) as client:
        yield client


@pytest.fixture(scope="module")
async def experiment(client: AsyncClient) -> Experiment:
    template, _ = await client.prompt_templates.get_or_create("Say {{said}}", name="Say")
    await client.criteria.add_many(["Is it right?"], prompt_template=template)
    collection, _ = await client.collections.get_or_create("Say")
    return await client.experiments.create("Say", prompt_template=template, collection=collection)


@pytest.fixture
def source(cluster: None, tmp_path: Path) -> Dataset:
    table = pa.table({"id": range(ROWS), "said": [f"word {n}" for n in range(ROWS)]})
    pq.write_table(table, tmp_path / "input.parquet")
    return ray_data.read_parquet(str(tmp_path / "input.parquet"))


async def in_a_thread(function: Callable[[], T]) -> T:
    """A dataset is worked on there, while the server has this loop."""
    return await anyio.to_thread.run_sync(function)


def write(ds: Any, folder: Path) -> None:
    ds.write_parquet(str(folder))


async def rows_of(make: Callable[[], Dataset], folder: Path) -> list[dict[str, Any]]:
    await in_a_thread(lambda: write(make(), folder))
    return sorted(pq.read_table(folder).to_pylist(), key=lambda row: row["id"])


async def test_a_dataset_is_generated_from_and_rated(
    client: AsyncClient, experiment: Experiment, source: Dataset, tmp_path: Path
) -> None:
    """Each row has its own response and its ratings; the experiment is found by its name.

    The workers share a limit.
    """
    options = BatchOptions(rate_limit=RateLimit(500, 1.0), share=RayShare("workers"))

    def make() -> Dataset:
        shared: dict[str, Any] = {
            "options": options,
            "run": "first",
            "workers": 1,
            "rows_per_task": 15,
            "base_url": client.base_url,
        }
        ds = generate(source, experiment="Say", key="id", **shared)
        return rate(ds, rating_mode=RatingMode.FAST, **shared)

    rows = await rows_of(make, tmp_path / "out")

    stored = {row.id: row for row in await client.responses.list(experiment=experiment)}
    assert [row["id"] for row in rows] == [*range(ROWS)]
    assert len(stored) == ROWS
    for row in rows:
        response = stored[row["response_id"]]
        assert response.prompt.template_variables.input_values == {"said": row["said"]}
        assert row["response"] == response.response_str
        assert [one["criterion_id"] for one in row["ratings"]] == [
            one.criterion.id for one in response.ratings
        ]
        assert row["error_code"] is row["rating_error_code"] is None


async def test_the_same_evaluation_again_makes_nothing_twice(
    client: AsyncClient, source: Dataset, tmp_path: Path
) -> None:
    """What it made at the service is found by its name, and items by the run and their keys."""

    def make(rows_per_task: int) -> Dataset:
        return evaluate(
            source,
            prompt="Say {{what}}",
            criteria=["Is it right?", "Is it short?"],
            run="nightly",
            key="id",
            variables={"what": "said"},
            rows_per_task=rows_per_task,
            workers=1,
            options=BatchOptions(chunk_size=7),
            base_url=client.base_url,
        )

    first = await rows_of(lambda: make(30), tmp_path / "first")
    again = await rows_of(lambda: make(11), tmp_path / "again")

    assert first == again
    assert {len(row["ratings"]) for row in first} == {2}
    experiment = await client.experiments.get("nightly")
    assert len(await client.responses.list(experiment=experiment)) == ROWS


async def test_what_is_true_of_all_rows_ends_the_job(
    client: AsyncClient, source: Dataset, tmp_path: Path
) -> None:
    """It is caught by its own class, with what it knows, where the dataset is worked on."""
    collection, _ = await client.collections.get_or_create("Gone")
    template, _ = await client.prompt_templates.get_or_create("Say {{said}}", name="Gone")
    gone = await client.experiments.create("Gone", prompt_template=template, collection=collection)
    ds = await in_a_thread(
        lambda: generate(
            source, experiment=gone, run="r", key="id", workers=1, base_url=client.base_url
        )
    )
    await client.experiments.delete(gone)

    with pytest.raises(NotFoundError) as caught:
        await in_a_thread(lambda: write(ds, tmp_path / "out"))
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"key": "nr"}, "no column 'nr'"),
        ({"key": ""}, "key must be a text"),
        ({"key": "share"}, "whole numbers or texts, and has double"),
        ({"variables": ["said", "more"]}, "no column 'more'"),
        ({"variables": ["said", "said"]}, "'said' twice"),
        ({"variables": "said"}, "a list of columns"),
        ({"variables": {"say": "said"}}, "placeholder 'said'"),
        ({"run": ""}, "run must be a text"),
        ({"experiment": "Nowhere"}, "Nowhere"),
        ({"collection": 999}, "404"),
        ({"workers": 0}, "workers must be"),
        ({"rows_per_task": 1.5}, "rows_per_task must be"),
        ({"num_cpus": -1}, "num_cpus must be"),
        ({"options": {"chunk_size": 1}}, "must be BatchOptions"),
        ({"options": BatchOptions(on_progress=print)}, "on_progress"),
        ({"ds": [1]}, r"must be a ray\.data\.Dataset"),
    ],
)
async def test_arguments_are_checked_before_any_work(
    client: AsyncClient,
    experiment: Experiment,
    source: Dataset,
    change: dict[str, Any],
    says: str,
) -> None:
    """A clear error of this package's, at the driver."""
    arguments: dict[str, Any] = {"ds": source, "experiment": experiment, "run": "r", "key": "id"}
    if change.get("key") == "share":
        arguments["ds"] = ray_data.from_arrow(pa.table({"share": [0.5], "said": ["a"]}))
    arguments |= change
    ds = arguments.pop("ds")

    with pytest.raises(ElluminateError, match=says) as caught:
        await in_a_thread(lambda: generate(ds, base_url=client.base_url, **arguments))
    assert isinstance(caught.value, InputError | NotFoundError)


async def test_a_driver_without_a_key_is_told_so(
    source: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by any client."""
    monkeypatch.delenv("ELLUMINATE_API_KEY")
    with pytest.raises(ConfigurationError, match="ELLUMINATE_API_KEY"):
        await in_a_thread(lambda: rate(source, run="r", base_url="http://127.0.0.1:9"))


def test_ray_is_imported_only_where_it_is_asked_for() -> None:
    """Without it the rest works, and the error names the extra."""
    program = """
import sys
sys.modules["ray"] = None
import elluminate_async, elluminate_async.integrations
try:
    import elluminate_async.integrations.ray
except elluminate_async.MissingExtraError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'elluminate-async[ray]'" in done.stdout
