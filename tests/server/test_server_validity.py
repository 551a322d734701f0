"""Nothing is silently ignored: a key is honoured, or refused with the reason."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import aiohttp
import pytest

from elluminate_async.server import LocalServer
from elluminate_async.server.store import nearest
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch
from tests.server.earlier import to_version_4

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


EXPERIMENT = {"name": "F", "prompt_template_id": 1, "collection_id": 1}
MESSAGES = [{"role": "user", "content": "x"}]
REFUSED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "column type": ("POST", "/collections", {"columns": [{"name": "a", "column_type": "nope"}]}),
    "changed column": ("PUT", "/collections/1", {"columns": [{"name": "a", "column_type": "X"}]}),
    "collection type": ("POST", "/collections", {"collection_type": "OTHER"}),
    "changed collection": ("PUT", "/collections/1", {"collection_type": "other"}),
    "inference type": ("POST", "/llm_configs", {"name": "L", "inference_type": "magic"}),
    "effort": ("POST", "/llm_configs", {"name": "L", "reasoning_effort": "huge"}),
    "verbosity": ("POST", "/llm_configs", {"name": "L", "verbosity": "chatty"}),
    "temperature": ("POST", "/llm_configs", {"name": "L", "temperature": 2.1}),
    "top_p": ("POST", "/llm_configs", {"name": "L", "top_p": -0.1}),
    "max_tokens": ("POST", "/llm_configs", {"name": "L", "max_tokens": 0}),
    "params": ("POST", "/experiments", {**EXPERIMENT, "generation_params": {"verbosity": "no"}}),
    "mode": ("POST", "/experiments", {**EXPERIMENT, "evaluation_mode": "nope"}),
    "epochs": ("POST", "/experiments", {**EXPERIMENT, "n_epochs": 0}),
    "run's epochs": ("POST", "/experiments/1/run", {"n_epochs": 0}),
    "no collection": ("POST", "/experiments", {"name": "F", "prompt_template_id": 1}),
    "no personas": ("POST", "/experiments", {**EXPERIMENT, "evaluation_mode": "MULTI_TURN"}),
    "no conversation": ("POST", "/experiments", {**EXPERIMENT, "persona_group_id": 1}),
    "no such column": ("POST", "/experiments", {**EXPERIMENT, "response_column_id": 9}),
    "role": (
        "POST",
        "/prompt_templates",
        {"name": "U", "messages": [{"role": "x", "content": ""}]},
    ),
    "no content": ("POST", "/prompt_templates", {"name": "U", "messages": [{"role": "user"}]}),
    "tool": ("POST", "/prompt_templates", {"name": "U", "messages": MESSAGES, "tools": [{"x": 1}]}),
    "choice": (
        "POST",
        "/prompt_templates",
        {"name": "U", "messages": MESSAGES, "tool_choice": "perhaps"},
    ),
    "of a row": (
        "POST",
        "/criteria",
        {"criteria": [], "prompt_template_id": 1, "template_variables_id": 1},
    ),
    "rating mode": ("POST", "/ratings", {"prompt_response_id": 1, "rating_mode": "slow"}),
}
STORED: list[dict[str, Any]] = [
    {"epoch": 0},
    {"messages": [{"role": "developer", "content": "x"}]},
    {"messages": [{"role": "tool", "content": "x"}]},
    {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "a"}]}]},
    {"metadata": {"llm_model_config": {"inference_type": "magic"}}},
    {"metadata": {"custom_api_info": {"request": "without a provider"}}},
]


@pytest.mark.parametrize("case", REFUSED)
async def test_values_that_no_reader_knows_are_refused(api: Api, case: str) -> None:
    """422 for what official clients could not read again, and nothing is stored or changed."""
    await api.setup(["a"])
    paths = ("/collections", "/llm_configs", "/experiments", "/prompt_templates")
    before = [await api.items(path) for path in paths]
    method, path, body = REFUSED[case]
    assert (await api(method, path, body)).status == 422
    assert [await api.items(path) for path in paths] == before


@pytest.mark.parametrize("part", STORED, ids=str)
async def test_responses_that_no_reader_knows_are_refused(api: Api, part: dict[str, Any]) -> None:
    """Neither one nor a batch of them is stored."""
    experiment, entries = await api.setup(["a"])
    body = batch(experiment, entries)
    message = {"role": "assistant", "content": "x"}
    body["prompt_response_ins"][0] |= {"messages": [message], **part}
    one = await api("POST", "/responses", body["prompt_response_ins"][0])
    many = await api("POST", "/responses/batches", body)
    assert (one.status, many.status) == (422, 422)
    assert await api.items("/responses") == []


async def test_what_is_said_of_a_collection_is_kept(api: Api) -> None:
    """Type, columns and environment, at creation and by a change; null clears the environment."""
    body = {
        "name": "C",
        "columns": [{"name": "a", "column_type": "json"}, {"name": "instruction"}],
        "collection_type": "AGENTIC",
        "environment_config": {"image": "x"},
    }
    made = await api.post("/collections", body)
    assert made["collection_type"] == "AGENTIC"
    assert made["environment_config"] == {"image": "x"}
    assert [one["column_type"] for one in made["columns"]] == ["json", "raw_input"]

    # A column that is only named stays what it was.
    change = {"name": "C", "collection_type": "STANDARD", "columns": [{"name": "a"}]}
    changed = (await api("PUT", "/collections/1", change)).body
    assert changed["collection_type"] == "STANDARD"
    assert [one["column_type"] for one in changed["columns"]] == ["json"]
    assert changed["environment_config"] == {"image": "x"}
    cleared = (await api("PUT", "/collections/1", {"name": "C", "environment_config": None})).body
    assert cleared["environment_config"] is None


async def test_environment_of_a_row(api: Api) -> None:
    """It makes another row of equal values, stays with a change that names none, and is cleared."""
    await api.post("/collections", {"name": "C"})
    path = "/collections/1/entries"
    values = {"input_values": {"a": 1}}
    plain = await api.post(path, values)
    row = await api.post(path, {**values, "environment_config": {"image": "x"}})
    again = await api.post(path, {**values, "environment_config": {"image": "x"}})
    assert (plain["environment_config"], row["environment_config"]) == (None, {"image": "x"})
    assert again["id"] == row["id"] != plain["id"]
    entry = f"{path}/{row['id']}"
    kept = (await api("PUT", entry, {"input_values": {"a": 2}})).body
    assert kept["environment_config"] == {"image": "x"}
    cleared = (await api("PUT", entry, {**values, "environment_config": None})).body
    assert (await api.get(entry)) == cleared
    assert cleared["environment_config"] is None


async def column_experiment(api: Api, rows: list[dict[str, Any]]) -> None:
    await api.template()
    await api.add_criteria(["Is it?"])
    await api.post("/collections", {"name": "C", "variables": rows})
    body = {**EXPERIMENT, "response_column_id": 2, "n_epochs": 3, "generate": True}
    made = await api.post("/experiments", body)
    assert (made["response_column_id"], made["n_epochs"]) == (2, 1)
    task = f"/experiments/1/generation/{made['generation_task_id']}"
    ended = await api.ended(task)
    assert ended["status"] == "SUCCESS"
    assert ended["completed_responses"] == ended["total_responses"] == len(rows)


async def test_responses_of_a_column(api: Api, model: ScriptedModel) -> None:
    """They are taken as they are, once for each row, and rated; no model answers anything."""
    rows = [{"word": "a", "said": "one"}, {"word": "b", "said": {"x": 2}}, {"word": "c"}]
    await column_experiment(api, rows)
    found = await api.items("/responses?experiment_id=1")
    texts = [[message["content"] for message in one["messages"]] for one in found]
    assert texts == [["one"], ['{"x":2}'], []]
    assert "no response in the column 'said'" in found[2]["error"]
    assert [len(one["ratings"]) for one in found] == [1, 1, 0]
    assert len(model.calls) == 2  # the judge's


async def test_a_retry_looks_into_the_column_again(api: Api, model: ScriptedModel) -> None:
    """A row that had no response and has one by then gets that; no model is asked for it."""
    await column_experiment(api, [{"word": "a", "said": "one"}, {"word": "b"}])
    await api("PUT", "/collections/1/entries/2", {"input_values": {"word": "b", "said": "two"}})
    again = await api.post("/experiments/1/retry-failed", {})
    await api.ended(f"/experiments/1/generation/{again['generation_task_id']}")
    found = await api.items("/responses?experiment_id=1")
    assert [one["messages"][0]["content"] for one in found] == ["one", "two"]
    assert len(model.calls) == 2  # the judge's


async def test_many_responses_of_a_column(api: Api, model: ScriptedModel) -> None:
    """Those of a large run, which are made in slices, are there as well."""
    rows = [{"word": str(number), "said": f"said {number}"} for number in range(1_100)]
    await api.template()
    await api.post("/collections", {"name": "C", "variables": rows})
    body = {**EXPERIMENT, "response_column_id": 2}
    await api.post("/experiments", body)
    run = await api.post("/experiments/1/run", {"n_epochs": 2})
    await api.ended(f"/experiments/1/generation/{run['generation_task_id']}")
    page = await api.get("/responses?experiment_id=1")
    assert page["count"] == 1_100
    assert page["items"][-1]["messages"][0]["content"] == f"said {len(page['items']) - 1}"
    assert model.calls == []


async def test_a_response_column_that_is_gone(api: Api) -> None:
    """The run is refused, and no other column comes under its id."""
    await api.template()
    await api.post("/collections", {"name": "C", "variables": [{"word": "a", "said": "one"}]})
    await api.post("/experiments", {**EXPERIMENT, "response_column_id": 2})
    for names in (["word"], ["word", "other"]):
        columns = [{"name": name} for name in names]
        changed = await api("PUT", "/collections/1", {"name": "C", "columns": columns})
    assert [one["id"] for one in changed.body["columns"]] == [1, 3]
    answer = await api("POST", "/experiments/1/run", {})
    assert answer.status == 400
    assert "response column 2 is gone" in answer.body["detail"]


async def test_asking_for_a_response_of_a_column(api: Api, model: ScriptedModel) -> None:
    """Whoever asks to generate one gets that of the column."""
    await api.template()
    variables = [{"word": "a", "said": "one"}]
    await api.post("/collections", {"name": "C", "variables": variables})
    await api.post("/experiments", {**EXPERIMENT, "response_column_id": 2})
    item = batch(1, [1])["prompt_response_ins"][0]
    one = await api.post("/responses/generate", item)
    assert one["messages"][0]["content"] == "one"
    assert (await api.generate(1, [1]))["result"][0]["messages"][0]["content"] == "one"
    assert model.calls == []


UNRUNNABLE: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "persona": ({}, {"evaluation_mode": "MULTI_TURN", "persona_group_id": 7}, "persona"),
    "agent": ({}, {"evaluation_mode": "AGENTIC"}, "agent"),
    "code": ({"custom_response_parser": "def parse(x): ..."}, {}, "custom_response_parser"),
    "botario": ({"inference_type": "botario"}, {}, "OpenAI"),
    "custom": ({"inference_type": "custom_api", "custom_api_config": {"a": 1}}, {}, "OpenAI"),
}


@pytest.mark.parametrize("case", UNRUNNABLE)
async def test_what_cannot_be_run_is_kept_and_refused_where_it_is_to_run(
    api: Api, model: ScriptedModel, case: str
) -> None:
    """400 with the reason, however it is asked for; stored responses are rated all the same."""
    config, keys, reason = UNRUNNABLE[case]
    await api.setup(["a"], criteria=["Is it?"])
    made = await api.post("/llm_configs", {"name": "L", "llm_model_name": "m", **config})
    assert {key: made[key] for key in config} == config
    body = {**EXPERIMENT, "llm_config_id": made["id"], **keys}
    experiment = await api.post("/experiments", body)
    assert {key: experiment[key] for key in keys} == keys
    of = experiment["id"]
    item = batch(of, [1])["prompt_response_ins"][0]
    for path, what in (
        ("/experiments", {**body, "name": "G", "generate": True}),
        (f"/experiments/{of}/run", {}),
        ("/responses/generate", item),
        ("/responses/batches", batch(of, [1])),
    ):
        answer = await api("POST", path, what)
        assert answer.status == 400, path
        assert reason in answer.body["detail"]
    assert [one["name"] for one in await api.items("/experiments")] == ["E", "F"]
    stored = {**item, "messages": [{"role": "assistant", "content": "x"}]}
    response = await api.post("/responses", stored)
    assert (await api.rate([response["id"]]))["status"] == "SUCCESS"
    assert len(model.calls) == 1  # the judge's


async def test_other_keys_of_an_experiment(api: Api) -> None:
    """Configurations of agents are kept; an unknown rating version gives way to what there is."""
    await api.setup(["a"])
    keys = {"agent_config": {"a": 1}, "evaluation_agent_config": {"b": [2]}}
    made = await api.post("/experiments", {**EXPERIMENT, **keys, "rating_version": "of tomorrow"})
    assert {key: made[key] for key in keys} == keys
    (first, second) = await api.items("/experiments")
    assert second == made
    assert made["rating_version"] == first["rating_version"] == "local-1"
    answer = await api("POST", "/experiments", {"name": "G", "scenario_set_id": 1})
    assert answer.status == 404
    assert "scenario set" in answer.body["detail"]


async def test_results_of_some_categories(api: Api, model: ScriptedModel) -> None:
    """Values of one column are alternatives, and columns go together; other JSON is 422."""
    await api.template()
    await api.add_criteria(["Is it?"])
    rows = [{"word": w, "kind": k, "at": a} for w, k, a in ("aAx", "bBx", "cAy")]
    await api.post("/collections", {"name": "C", "variables": rows})
    await api.post("/experiments", EXPERIMENT)
    await api.generate(1, [1, 2, 3])
    await api.rate([1, 2, 3])

    async def rated(filters: str) -> int:
        answer = await api.session.get(
            api.url("/experiments/1"), params={"categorical_filters": filters}, headers=api.headers
        )
        assert answer.status == 200, await answer.text()
        results = (await answer.json())["results"]
        return 0 if results is None else results["num_rated_responses"]

    assert await rated('{"kind": ["A"]}') == 2
    assert await rated('{"kind": ["A", "B"], "at": ["x"]}') == 2
    assert await rated('{"kind": ["A"], "at": ["x"]}') == 1
    assert await rated('{"kind": ["C"]}') == 0
    assert (await api("GET", "/experiments/1?categorical_filters=[1]")).status == 422


async def test_each_waiter_has_the_log_once(api: Api) -> None:
    """One who names itself is told the new lines only; what is no UUID is 422."""
    await api.setup(["a"])
    run = await api.post("/experiments/1/run", {})
    path = f"/experiments/1/generation/{run['generation_task_id']}"
    await api.ended(path)
    one, other = uuid4(), uuid4()
    told = [
        (await api.get(f"{path}?connection_uuid={who}"))["logs_delta"] for who in (one, one, other)
    ]
    assert told[0] == told[2] == (await api.get("/experiments/1"))["logs"]
    assert told[1] is None
    assert (await api("GET", f"{path}?connection_uuid=me")).status == 422


async def test_custom_api_info_of_a_stored_response(api: Api) -> None:
    """It comes back with the response, and in the listing."""
    experiment, entries = await api.setup(["a"])
    info = {"provider": "p", "api_request_id": "7", "track_request_url": None}
    item = batch(experiment, entries)["prompt_response_ins"][0]
    item["messages"] = [{"role": "assistant", "content": "x"}]
    made = await api.post("/responses", {**item, "metadata": {"custom_api_info": info}})
    assert made["generation_metadata"]["custom_api_info"] == info
    assert await api.items("/responses") == [made]


async def test_of_two_that_exclude_each_other_the_experiments_own_counts(
    api: Api, server: LocalServer, model: ScriptedModel
) -> None:
    """A configuration's temperature is not sent where the experiment has a reasoning effort."""
    seen: list[Any] = []
    complete = model.complete

    async def watched(request: Any) -> Any:
        seen.append((request.sampling.temperature, request.sampling.reasoning_effort))
        return await complete(request)

    model.complete = watched  # type: ignore[method-assign]
    await api.setup(["a"])
    config = {"name": "L", "llm_model_name": "m", "temperature": 0.5}
    made = await api.post("/llm_configs", config)
    params = {"reasoning_effort": "low"}
    body = {**EXPERIMENT, "llm_config_id": made["id"], "generation_params": params}
    await api.post("/experiments", body)
    await api.generate(2, [1])
    assert seen == [(None, "low")]


POISON = [
    """UPDATE collections SET collection_type = 'ODD', columns = json_replace(columns,
       '$[0].column_type', 'nope')""",
    """UPDATE llm_configs SET document = json_patch(document,
       '{"inference_type": "magic", "reasoning_effort": "huge", "verbosity": "chatty"}')""",
    """UPDATE responses SET llm_model_config = json_patch(llm_model_config,
       '{"inference_type": "magic", "verbosity": "chatty"}'),
       messages = '[{"role": "odd", "content": "A"}]'""",
    """UPDATE experiments SET evaluation_mode = 'ODD', collection_id = NULL, generation_params =
       '{"temperature": 9, "top_p": -1, "reasoning_effort": "huge", "max_tokens": 0}'""",
    """UPDATE prompt_templates SET messages = '[{"role": "odd", "content": "{{word}}"}]',
       tools = '[{"x": 1}]', tool_choice = '"perhaps"'""",
    """UPDATE prompts SET messages = '[{"role": "odd", "content": "a"}]'""",
]


def poison(db: Path) -> None:
    """Have a database hold what earlier versions took."""
    with closing(sqlite3.connect(db, isolation_level=None)) as raw:
        for statement in POISON:
            raw.execute(statement)


def unchanged(_raw: sqlite3.Connection) -> None:
    """Of this version."""


@pytest.mark.parametrize("downgrade", [unchanged, to_version_4])
async def test_stored_values_that_no_reader_knows(
    session: aiohttp.ClientSession,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    downgrade: Callable[[sqlite3.Connection], None],
) -> None:
    """They are read as what comes nearest, and the log names each once; the rows stay."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        await api.setup(["a"], criteria=["Is it?"])
        await api.generate(1, [1])
    poison(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        downgrade(raw)
    nearest.tell.cache_clear()
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        with caplog.at_level(logging.WARNING, "elluminate_async"):
            (collection,) = await api.items("/collections")
            (config,) = await api.items("/llm_configs")
            (experiment,) = await api.items("/experiments")
            (response,) = await api.items("/responses")
            (template,) = await api.items("/prompt_templates")
            await api.items("/collections")
    assert collection["collection_type"] == "STANDARD"
    assert collection["columns"][0]["column_type"] == "text"
    assert (config["inference_type"], config["reasoning_effort"], config["verbosity"]) == (
        "openai", None, None,
    )  # fmt: skip
    params = {"temperature": 2, "top_p": 0, "reasoning_effort": None, "max_tokens": 1}
    assert experiment["generation_params"] == params
    assert experiment["evaluation_mode"] == "STANDARD"
    assert experiment["collection"]["name"] == "(no collection)"
    assert response["messages"][0]["role"] == "assistant"
    assert response["prompt"]["messages"][0]["role"] == "user"
    assert response["generation_metadata"]["llm_model_config"]["inference_type"] == "openai"
    assert template["messages"][0]["role"] == "user"
    assert template["tools"][0]["type"] == "function"
    assert template["tool_choice"] is None
    for named in ("the column 'word' of collection 1", "inference_type of", "'magic'", "top_p"):
        assert named in caplog.text
    assert caplog.text.count("'nope'") == 1
    with closing(sqlite3.connect(path)) as raw:
        assert "nope" in raw.execute("SELECT columns FROM collections").fetchone()[0]
