"""Figures of results, prompts and ratings: right where they are known, and null where not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from tests.server.api import Api, ScriptedModel
from tests.server.earlier import to_version_4

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

PRICES = {"input_price_per_mtok": 2.0, "output_price_per_mtok": 10.0}
COSTS = [f"estimated_{kind}_cost_usd" for kind in ("input", "output", "total")]
OFFICIAL = {"SDK-Version": "1.5.2"}


class Counting(ScriptedModel):
    """Says of its verdicts what they took."""

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        answer = await super().complete(request)
        if request.json_schema is None:
            return answer
        return ModelAnswer(answer.text, input_tokens=100, output_tokens=20, cached_tokens=7)


async def priced(api: Api, **config: Any) -> int:
    """An experiment of two rows and two epochs, run with a configuration of these prices."""
    await api.template()
    await api.add_criteria(["x?", "y?", "z?"])
    made = await api.post("/llm_configs", {"name": "m", "llm_model_name": "m", **config})
    rows = [{"word": "a", "more": 1}, {"word": "b", "more": 1}]
    await api.post("/collections", {"name": "C", "variables": rows})
    body = {"name": "E", "prompt_template_id": 1, "collection_id": 1, "llm_config_id": made["id"]}
    run = await api.post("/experiments", {**body, "generate": True, "n_epochs": 2})
    await api.ended(f"/experiments/{run['id']}/generation/{run['generation_task_id']}")
    return run["id"]


async def results_of(api: Api, experiment: int, **headers: str) -> dict[str, Any]:
    answer = await api("GET", f"/experiments/{experiment}", headers=headers)
    return answer.body["results"]


async def test_figures_of_a_run(api: Api) -> None:
    """Costs by the configuration's prices, epochs, duration, and the deviation of the ratings."""
    experiment = await priced(api, **PRICES)
    results = await results_of(api, experiment)
    assert [results[name] for name in COSTS] == pytest.approx([8e-6, 80e-6, 88e-6])
    assert results["completed_epochs"] == 2
    assert results["experiment_duration_seconds"] > 0
    assert results["std_all_ratings"] == 0
    assert results["reasoning_tokens_per_response"] == []
    (first, _, _, _) = await api.items("/responses")
    assert first["prompt"]["is_stale"] is False
    sample = (await api.get(f"/experiments/{experiment}/map"))["samples"][0]
    assert sample["responses"][0]["total_cost_usd"] == pytest.approx(22e-6)


async def test_a_cost_that_is_not_known(api: Api) -> None:
    """It is null, never 0, but for official clients, whose models cannot read null."""
    experiment = await priced(api, input_price_per_mtok=2.0)
    results = await results_of(api, experiment)
    assert [results[name] for name in COSTS] == [4 * 2e-6, None, None]
    official = await results_of(api, experiment, **OFFICIAL)
    assert [official[name] for name in COSTS] == [4 * 2e-6, 0, 0]
    listed = await api("GET", "/experiments", headers=OFFICIAL)
    assert listed.body["items"][0]["results"] == official
    message = {"role": "assistant", "content": "given"}
    item = {"template_variables_id": 1, "experiment_id": experiment, "epoch": 3}
    await api.post("/responses", {**item, "messages": [message]})
    results = await results_of(api, experiment)
    assert [results[name] for name in COSTS] == [None] * 3
    assert results["completed_epochs"] == 2


async def test_prices_of_an_upload(api: Api) -> None:
    """Those that its metadata tell go before those of the configuration."""
    experiment = await priced(api, **PRICES)
    item: dict[str, Any] = {"template_variables_id": 1, "experiment_id": experiment}
    item["messages"] = [{"role": "assistant", "content": "given"}]
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0}
    model = {"llm_model_config": {"llm_model_name": "m", "input_price_per_mtok": 0.5}}
    added = await api.post("/responses", {**item, "metadata": {**tokens, **model}})
    again = await api.post("/responses", {**item, "metadata": tokens})
    by_id = {
        one["response_id"]: one["total_cost_usd"]
        for sample in (await api.get(f"/experiments/{experiment}/map"))["samples"]
        for one in sample["responses"]
    }
    assert (by_id[added["id"]], by_id[again["id"]]) == (0.5, 2.0)
    info = {"custom_api_info": {"provider": "p", "more": 1}}
    kept = await api.post("/responses", {**item, "metadata": info})
    assert kept["generation_metadata"]["custom_api_info"] == info["custom_api_info"]
    bad = await api("POST", "/responses", {**item, "metadata": {"custom_api_info": {}}})
    assert bad.status == 422


async def test_a_prompt_is_stale_once_its_row_was_changed(api: Api) -> None:
    """Until it is filled in again, though its text be the same."""
    experiment, entries = await api.setup(["a"])
    await api.generate(experiment, entries)

    async def is_stale() -> list[bool]:
        return [one["prompt"]["is_stale"] for one in await api.items("/responses")]

    assert await is_stale() == [False]
    values = {"word": "a", "more": "b"}
    answer = await api("PUT", "/collections/1/entries/1", {"input_values": values})
    assert answer.status == 200
    assert await is_stale() == [True]
    await api.generate(experiment, entries)
    assert await is_stale() == [False, False]
    await api("PUT", "/collections/1/entries/1", {"input_values": {"word": "c"}})
    await api.generate(experiment, entries)
    assert await is_stale() == [True, True, False]


async def test_ratings_tell_of_their_judge(session: aiohttp.ClientSession) -> None:
    """Each has its share of the tokens, which add up to what the judge's call took."""
    async with LocalServer(model=Counting()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"], criteria=["x?", "y?", "z?"])
        await api.generate(experiment, entries)
        (ratings,) = (await api.rate([1]))["result"]
        assert (await api.items("/responses"))[0]["ratings"] == ratings
        assert await api.items("/ratings?prompt_response_id=1") == ratings
    made = [one["generation_metadata"] for one in ratings]
    assert [one["input_tokens"] for one in made] == [34, 33, 33]
    assert [one["output_tokens"] for one in made] == [7, 7, 6]
    assert sum(one["cached_tokens"] for one in made) == 7
    assert {one["llm_model_config"]["llm_model_name"] for one in made} == {"scripted"}
    assert all(one["reasoning_tokens"] is None and one["duration_seconds"] > 0 for one in made)


async def test_an_internal_error_is_told(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Of a run that the server broke off by a fault of its own, and of no other."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        experiment = await priced(api)
        document = await api.get(f"/experiments/{experiment}")
        assert document["has_internal_error"] is False
        assert (document["dropped_trajectories"], document["rated_responses"]) == (0, [])
        with closing(sqlite3.connect(path)) as raw, raw:
            raw.execute("UPDATE jobs SET status = 'FAILURE', processed = 1")
            raw.execute("UPDATE responses SET trajectory_ingest_error = 'no steps' WHERE id = 2")
        document = await api.get(f"/experiments/{experiment}")
        assert document["has_internal_error"] is True
        assert document["dropped_trajectories"] == 1


async def test_database_of_version_4(session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """Costs and samples of what it holds are known afterwards; how it was rated is not."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        experiment = await priced(api, **PRICES)
        before = await results_of(api, experiment)
        samples = await api.get(f"/responses/samples?experiment_id={experiment}")
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        to_version_4(raw)
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        after = await results_of(api, experiment)
        assert after == before | {"experiment_duration_seconds": None}
        assert await api.get(f"/responses/samples?experiment_id={experiment}") == samples
        first = (await api.items("/responses?epoch=2"))[0]
        assert first["ratings"][0]["generation_metadata"] is None
        assert first["prompt"]["is_stale"] is False
