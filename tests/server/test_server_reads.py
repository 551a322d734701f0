"""Samples, comparisons, statistics, maps and filters, by the SDK against the embedded server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from sqlalchemy import Engine, event

from elluminate_async import AsyncClient, Experiment, InputError, SampleSort
from elluminate_async.errors import NotFoundError, RejectedError
from elluminate_async.server import LocalServer
from elluminate_async.server.problems import Problem
from elluminate_async.server.routes.queries import read_verdicts
from elluminate_async.server.store import figures, listed_figures
from tests.server.api import Api, ScriptedModel, batch, edit

KINDS = ["A", "B", "A", "C"]


@pytest.fixture
async def client(server: LocalServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=server.url, api_key=server.api_key) as client:
        yield client


async def stored(client: AsyncClient, experiment: Experiment, rows: Any, **figures: Any) -> Any:
    """One response to each row, of these figures by position."""
    metadata: list[Any] = [
        {name: values[place] for name, values in figures.items()} for place in range(len(rows))
    ]
    texts = [f"answer {row.id}" for row in rows]
    return await client.responses.add_many(
        texts, template_variables=rows, experiment=experiment, metadata=metadata
    )


async def rated(api: Api, model: ScriptedModel, response: Any, *verdicts: str) -> None:
    """Rate a response with these verdicts, in the order of the criteria."""
    said = {f"criterion_{number}": {"verdict": v} for number, v in enumerate(verdicts, 1)}
    model.verdicts = [json.dumps(said)]
    await api.post("/ratings", {"prompt_response_id": response.id, "rating_mode": "fast"})


@pytest.fixture
async def study(client: AsyncClient, api: Api, model: ScriptedModel) -> SimpleNamespace:
    """Two experiments on four rows, with two criteria; the baseline has two epochs."""
    template = await client.prompt_templates.create("Say {{word}}.", "T")
    criteria = await client.criteria.add_many(["x?", "y?"], prompt_template=template)
    rows = [{"word": f"w{place}", "kind": kind} for place, kind in enumerate(KINDS)]
    collection = await client.collections.create("C", variables=rows)
    entries = await client.template_variables.list(collection)
    both = [
        await client.experiments.create(name, prompt_template=template, collection=collection)
        for name in ("A", "B")
    ]
    first = await stored(client, both[0], entries, input_tokens=[40, 30, 20, 10])
    again = await client.responses.add(
        "again", template_variables=entries[0], experiment=both[0], epoch=2
    )
    second = await stored(client, both[1], entries[:3], input_tokens=[1, 2, 3])
    for response, verdicts in zip(first, ("YY", "YN", "NN"), strict=False):
        await rated(api, model, response, *(_word(one) for one in verdicts))
    for response, verdicts in zip(second, ("NY", "YY", "NN"), strict=False):
        await rated(api, model, response, *(_word(one) for one in verdicts))
    return SimpleNamespace(
        a=both[0], b=both[1], entries=entries, first=first, again=again, second=second,
        criteria=list(criteria),
    )  # fmt: skip


def _word(letter: str) -> str:
    return {"Y": "YES", "N": "NO"}[letter]


def ids(samples: Any) -> list[list[int]]:
    return [one.prompt_response_ids for one in samples]


async def test_samples(client: AsyncClient, study: SimpleNamespace) -> None:
    """By row, in the rows' order or by the mean of a figure, unknown ones last; each filter."""
    s, samples = study, client.responses.samples
    one, two, three, four = (response.id for response in s.first)
    whole = [[one, s.again.id], [two], [three], [four]]
    found = await samples(s.a)
    assert ids(found) == whole
    assert [sample.template_variables_id for sample in found] == [row.id for row in s.entries]
    assert {sample.experiment_id for sample in found} == {s.a.id}
    assert ids(await samples(s.a, sort_by="rating-asc")) == [[three], [two], whole[0], [four]]
    assert ids(await samples(s.a, sort_by=SampleSort.RATING_DESC)) == [
        whole[0], [two], [three], [four],
    ]  # fmt: skip
    assert ids(await samples(s.a, sort_by="input-tokens-asc")) == whole[::-1]
    # Not the second of the first row, nor the fourth: nobody has rated them.
    assert ids(await samples(s.a, exclude_perfect=True)) == [[two], [three]]
    assert ids(await samples(s.a, input_tokens=(20, 30))) == [[two], [three]]
    assert ids(await samples(s.a, duration_seconds=(0, None))) == []
    x, y = s.criteria
    assert ids(await samples(s.a, verdicts={x: "YES"})) == [[one], [two]]
    assert ids(await samples(s.a, verdicts={x.id: "YES", y.id: "NO"})) == [[two]]
    await client.responses.update(s.first[2], annotation="odd")
    assert ids(await samples(s.a, only_annotated=True)) == [[three]]


async def test_compared_samples(client: AsyncClient, study: SimpleNamespace) -> None:
    """Rows that both answered, each with the baseline's sample and the candidate's."""
    s, compare = study, client.responses.compare_samples
    one, two, three, _ = (response.id for response in s.first)
    other = [response.id for response in s.second]
    pairs = [[[one, s.again.id], [other[0]]], [[two], [other[1]]], [[three], [other[2]]]]
    found = await compare(s.a, s.b)
    assert ids(found) == [sample for pair in pairs for sample in pair]
    assert [sample.experiment_id for sample in found] == [s.a.id, s.b.id] * 3
    assert ids(await compare(s.a, s.b, show="improved")) == pairs[1]
    assert ids(await compare(s.a, s.b, show="regressed")) == pairs[0]
    assert ids(await compare(s.b, s.a, show="improved")) == pairs[0][::-1]
    assert ids(await compare(s.a, s.b, show="improved", criteria=s.criteria[:1])) == []
    assert ids(await compare(s.a, s.b, categorical_filters={"kind": ["B", "C"]})) == pairs[1]
    assert (
        ids(await compare(s.a, s.b, categorical_filters={"kind": ["A"], "word": ["w2"]}))
        == pairs[2]
    )


async def test_a_misspelt_filter_is_no_answer(client: AsyncClient, study: SimpleNamespace) -> None:
    """A column or a criterion that there is not is refused, with those that there are."""
    s, responses, experiments = study, client.responses, client.experiments
    columns = r"no column 'kinds', did you mean 'kind'\? the columns are word, kind"
    wrong: Any = {"kinds": ["A"]}
    with pytest.raises(RejectedError, match=columns):
        await responses.compare_samples(s.a, s.b, show="regressed", categorical_filters=wrong)
    with pytest.raises(RejectedError, match=columns):
        await experiments.get(id=s.a.id, categorical_filters=wrong)
    with pytest.raises(RejectedError, match=r"no column 'ki\"nd\\'', did you mean"):
        await experiments.get(id=s.a.id, categorical_filters={"ki\"nd'": ["A"]})
    template = await client.prompt_templates.create("Another.", "U")
    (other,) = await client.criteria.add_many(["z?"], prompt_template=template)
    for unknown in (99_999, other.id):
        criteria = r"no ratings by a criterion \d+ here: the criteria are \d+ \(x\?\), \d+ \(y\?\)"
        with pytest.raises(RejectedError, match=criteria):
            await responses.compare_samples(s.a, s.b, show="regressed", criteria=[unknown])
        with pytest.raises(RejectedError, match=criteria):
            await responses.samples(s.a, verdicts={unknown: "NO"})


async def test_what_was_there_may_be_asked_for(client: AsyncClient, study: SimpleNamespace) -> None:
    """A column that was taken away has its cells, and a criterion that was replaced its ratings."""
    s = study
    template = s.a.prompt_template.id
    await client.criteria.add_many(["new?"], prompt_template=template, delete_existing=True)
    assert len(await client.responses.samples(s.a, verdicts={s.criteria[0]: "YES"})) == 2
    await client.collections.update(s.a.collection.id, columns=["word"])
    some = await client.experiments.get(id=s.a.id, categorical_filters={"kind": ["B"]})
    assert some.results is not None


async def test_map(client: AsyncClient, study: SimpleNamespace) -> None:
    """Every response once, by row; unrated ones have no counts."""
    s = study
    listing = client.experiments.map(s.a)
    found = await listing
    assert found == [sample async for sample in client.experiments.map(s.a)]
    assert repr(listing) == f"<Listing of experiments/{s.a.id}/map limit=100>"
    told = [
        [
            (r.response_id, r.epoch, r.num_criteria_passed, r.num_criteria_failed)
            for r in one.responses
        ]
        for one in found
    ]
    one, two, three, four = (response.id for response in s.first)
    assert told == [
        [(one, 1, 2, 0), (s.again.id, 2, None, None)],
        [(two, 1, 1, 1)], [(three, 1, 0, 2)], [(four, 1, None, None)],
    ]  # fmt: skip
    assert not any(r.has_error or r.has_trajectory for one in found for r in one.responses)
    await client.responses.delete(s.first[1])
    assert [one.template_variables_id for one in await client.experiments.map(s.a)] == [
        s.entries[0].id, s.entries[2].id, s.entries[3].id,
    ]  # fmt: skip


async def test_stats(client: AsyncClient, study: SimpleNamespace) -> None:
    """Of all configurations or of one; averages are over what is known."""
    stats = await client.responses.stats(days=3)
    assert stats.total_responses == 8
    assert (stats.total_input_tokens, stats.total_output_tokens) == (106, 0)
    assert stats.average_input_tokens == 106 / 7
    assert stats.average_rating == (1 + 0.5 + 0 + 0.5 + 1 + 0) / 6
    assert stats.average_duration_seconds is None
    assert [day.requests for day in stats.daily_usage] == [0, 0, 8]
    assert stats.daily_usage[-1].date == datetime.now(UTC).date()
    other = await client.llm_configs.create("other", "m")
    stats = await client.responses.stats(llm_config=other)
    assert (stats.total_responses, len(stats.daily_usage)) == (0, 30)
    with pytest.raises(NotFoundError):
        await client.responses.stats(llm_config=99)


async def test_an_epoch_that_begins_is_listed(client: AsyncClient, study: SimpleNamespace) -> None:
    """Lists of figures that were read before have that of a response that is stored in it."""
    s = study
    for epoch in (7, 8):
        metadata: Any = [{"input_tokens": epoch}]
        await client.responses.add_many(
            ["x"],
            template_variables=s.entries[:1],
            experiment=s.a,
            epoch=epoch,
            metadata=metadata,
        )
        results = (await client.experiments.get(id=s.a.id)).results
        assert results is not None
        assert results.input_tokens_per_response[-1] == epoch


async def test_results_of_some_rows(client: AsyncClient, study: SimpleNamespace) -> None:
    """OR within a column, AND across; a filter that nothing matches leaves no results."""
    id = study.a.id
    some = (await client.experiments.get(id=id, categorical_filters={"kind": ["B", "C"]})).results
    assert some is not None
    assert (some.num_rated_responses, some.input_tokens_per_response) == (1, [30, 10])
    assert some.mean_all_ratings is not None
    assert some.mean_all_ratings.yes == 0.5
    both = {"kind": ["B"], "word": ["w0"]}
    assert (await client.experiments.get(id=id, categorical_filters=both)).results is None


async def test_filters_of_responses(client: AsyncClient, study: SimpleNamespace) -> None:
    """Counts that are kept follow every change, of responses and of experiments."""
    s, found = study, client.responses.list
    one, two, three, _ = (response.id for response in s.first)
    assert [r.id for r in await found(experiment=s.a, input_tokens=(20, None))] == [one, two, three]
    assert [r.id for r in await found(prompt=s.first[0].prompt)] == [
        one, s.again.id, s.second[0].id,
    ]  # fmt: skip
    everything = [r.id for r in await found(collection=s.a.collection)]
    assert len(everything) == 8
    await client.responses.delete(two)
    added = await stored(client, s.a, s.entries[:1], input_tokens=[25])
    assert [r.id for r in await found(experiment=s.a, input_tokens=(20, None))] == [
        one, three, added[0].id,
    ]  # fmt: skip
    await client.experiments.delete(s.b)
    left = [r.id for r in await found(collection=s.a.collection)]
    assert left == sorted({*everything, added[0].id} - {two, *(r.id for r in s.second)})
    assert await found(experiment=s.a, llm_model_name="no such model") == []


RATED = """
INSERT INTO ratings (id, project_id, response_id, criterion_id, rating, is_current, created_at)
SELECT id, 1, id, 1, 'YES', 1, '2026-11-27 00:00:00' FROM responses"""


async def test_pages_cost_the_same(
    session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 6,000 responses a page takes the database 1.3 times the work at most that it takes of 300.

    Once the matching rows of a filter have been counted; work is the steps of its machine. So do
    results, which list the figures of the first responses, also when these are read anew.
    """
    monkeypatch.setattr(figures, "MOST_LISTED", 100)
    monkeypatch.setattr(listed_figures, "MOST_KEPT", 0)
    steps = [0]

    def count(connection: Any, _record: object) -> None:
        def step() -> None:
            steps[0] += 1

        connection.set_progress_handler(step, 20)

    event.listen(Engine, "connect", count)
    try:
        async with LocalServer(model=ScriptedModel()) as server:
            api = Api(session, server)
            await api.template()
            await api.add_criteria(["x?"])
            for number, rows in enumerate((150, 3_000), 1):
                await many(api, number, rows)
            await edit(api, RATED)
            for query in (
                "/experiments/{0}",
                "/collections/{0}/entries",
                "/responses?experiment_id={0}",
                "/responses?experiment_id={0}&epoch=2",
                "/responses?experiment_id={0}&prompt_template_id=1",
                "/responses?experiment_id={0}&input_tokens_min=5",
                "/responses?collection_id={0}",
                "/experiments/{0}/map?limit=50",
            ):
                costs: list[int] = []
                for number in (1, 2):
                    await api.get(query.format(number))
                    steps[0] = 0
                    await api.get(query.format(number))
                    costs.append(steps[0])
                assert costs[1] <= 1.3 * costs[0], (query, costs)
            results = (await api.get("/experiments/2"))["results"]
            assert results["input_tokens_per_response"] == [place // 2 % 10 for place in range(100)]
            assert (results["num_rated_responses"], results["mean_input_tokens"]) == (6_000, 4.5)
    finally:
        event.remove(Engine, "connect", count)


async def many(api: Api, number: int, rows: int) -> None:
    """An experiment on so many rows, with two stored responses to each."""
    values = [{"word": f"{number} {place}"} for place in range(rows)]
    collection = await api.post("/collections", {"name": f"C{number}", "variables": values})
    own = {"prompt_template_id": 1, "collection_id": collection["id"]}
    await api.post("/experiments", {"name": f"E{number}", **own})
    body = batch(number, [one["id"] for one in collection["variables"]])
    items = body["prompt_response_ins"]
    for place, item in enumerate(items):
        item["messages"] = [{"role": "assistant", "content": "a"}]
        item["metadata"] = {"input_tokens": place % 10}
    body["prompt_response_ins"] = [{**one, "epoch": epoch} for one in items for epoch in (1, 2)]
    task = await api.post("/responses/batches", body)
    assert (await api.ended(f"/responses/batches/{task}"))["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("query", "verdicts"),
    [
        ("{3: <RatingValue.YES: 'YES'>}", {3: "YES"}),
        ("{3: <RatingValue.YES: 'YES'>, 14: <RatingValue.NO: 'NO'>}", {3: "YES", 14: "NO"}),
        ('{"3": "no"}', {3: "NO"}),
        ("{3: RatingValue.NO}", {3: "NO"}),
        ("{}", {}),
        (None, {}),
    ],
)
def test_verdicts_are_read_as_python_writes_them(query: str | None, verdicts: Any) -> None:
    """An official client sends a dictionary as it would print it; JSON will do too."""
    assert dict(read_verdicts(query)) == verdicts


@pytest.mark.parametrize("query", ["3", "{3}", "{3: MAYBE}", "{3: YES, x}", "{'a': 'YES'}", "[]"])
def test_what_are_no_verdicts_is_refused(query: str) -> None:
    """With words that show the form."""
    with pytest.raises(Problem, match=r'such as \{"3": "YES"\}') as refused:
        read_verdicts(query)
    assert refused.value.status == 422


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/responses/samples", 422),
        ("/responses/samples?experiment_id=9", 404),
        ("/responses/samples?experiment_id=1&sort_by=beauty", 422),
        ("/responses/comparison/samples?experiment_a_id=1&experiment_b_id=1", 422),
        ("/responses/comparison/samples?experiment_a_id=1&experiment_b_id=9", 404),
        ("/responses/stats?days=0", 422),
        ("/responses/stats?days=91", 422),
        ("/responses/stats?llm_config_id=9", 404),
        ("/experiments/1?categorical_filters=x", 422),
        ('/experiments/1?categorical_filters={"kind":"A"}', 422),
        ('/experiments/1?categorical_filters={"kind":[null]}', 422),
        ("/experiments/1?categorical_filters=" + "[" * 500, 422),
        ("/experiments/1/map?limit=0", 422),
        ("/experiments/9/map", 404),
    ],
)
async def test_bad_queries(api: Api, path: str, status: int) -> None:
    """Refused in words; nothing of it is taken for another filter."""
    await api.setup(["a"])
    answer = await api("GET", path)
    assert answer.status == status
    assert answer.body["detail"]


async def test_bad_filters_are_refused_before_anything_is_sent() -> None:
    """Each with what is wrong with it."""
    client: Any = AsyncClient(api_key="k", base_url="http://127.0.0.1:9")
    responses, experiments = client.responses, client.experiments
    for call, told in (
        (lambda: responses.list(input_tokens=5), "must be a pair"),
        (lambda: responses.list(input_tokens=(1.5, 2)), "whole numbers"),
        (lambda: responses.list(output_tokens=(2, 1)), "nothing can match"),
        (lambda: responses.list(colour=(1, 2)), "'colour' is no filter"),
    ):
        with pytest.raises(InputError, match=told):
            call()
    for call, told in (
        (lambda: responses.samples(1, sort_by="beauty"), "must be one of rating-asc"),
        (lambda: responses.samples(1, verdicts={1: "MAYBE"}), "'YES' or 'NO'"),
        (lambda: responses.samples(1, verdicts="YES"), "a mapping of criteria"),
        (lambda: responses.compare_samples(1, 1), "the same experiment"),
        (lambda: responses.compare_samples(1, 2, show="both"), "'improved', 'regressed'"),
        (
            lambda: responses.compare_samples(1, 2, categorical_filters={"k": "A"}),
            "must be a list of texts",
        ),
        (lambda: responses.stats(days=91), "from 1 to 90"),
        (lambda: experiments.get("E", categorical_filters={"k": ["A"]}), "goes with id="),
        (lambda: experiments.get(id=1, categorical_filters=["k"]), "must be a mapping"),
    ):
        with pytest.raises(InputError, match=told):
            await call()


async def test_what_is_done_again_is_counted_again(api: Api, model: ScriptedModel) -> None:
    """A response that failed has figures once it is retried, and is found by them."""
    await api.setup(["a", "b"])
    model.errors["b"] = TimeoutError("no answer")
    for path in ("run", "retry-failed"):
        started = await api.post(f"/experiments/1/{path}", {})
        await api.ended(f"/experiments/1/generation/{started['generation_task_id']}")
        found = await api.get("/responses?experiment_id=1&output_tokens_min=1")
        assert found["count"] == len(found["items"]) == 2 - len(model.errors)
        model.errors.clear()
