"""What a model or a request may say, and that no value of it breaks anything for good."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async import PromptResponse
from elluminate_async.schemas import Experiment, Page, PromptTemplate
from elluminate_async.server import LocalServer, ModelAnswer, ModelError, ModelRequest
from elluminate_async.server.llms.base import JsonSchema, text_of
from elluminate_async.server.llms.storable import storable
from elluminate_async.server.store.wire_json import TOO_DEEP
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api, ScriptedModel, batch
from tests.soak.model_answers import random_answer, run

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp

    from tests.matrix import Fired


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


class Saying(ScriptedModel):
    """Gives one answer to prompts with "odd" in them, and to the judge where it is a text."""

    def __init__(self, answer: Any, verdict: str | None = None) -> None:
        super().__init__()
        self.answer = answer
        self.verdict = verdict

    async def complete(self, request: ModelRequest) -> Any:
        is_odd = "odd" in text_of(request.messages[-1]).lower()
        if is_odd and request.json_schema is None:
            return self.answer
        if is_odd and self.verdict is not None:
            return ModelAnswer(self.verdict)
        return await super().complete(request)


@pytest.mark.row(133)
@pytest.mark.parametrize(
    "figure",
    ["n/a", float("inf"), float("nan"), {}, 2**70, -1, True, 1.5, 10**5000],
    ids=["text", "infinite", "nan", "object", "huge", "negative", "bool", "fraction", "digits"],
)
async def test_figures_that_are_none(
    session: aiohttp.ClientSession, figure: Any, fired: Fired
) -> None:
    """They are not known; the answer they came with is kept, and every document stays JSON."""
    answer = ModelAnswer("fine", None, figure, figure, figure, figure)
    async with LocalServer(model=Saying(answer)) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["odd", "a", "b"])
        status = await api.generate(experiment, entries)
        fired()
        listed = await api.items(f"/responses?experiment_id={experiment}")
    assert status["status"] == "SUCCESS"
    assert status["item_failures"] == []
    rows = [PromptResponse.model_validate(row) for row in listed]
    known = [row.generation_metadata.input_tokens for row in rows if row.generation_metadata]
    assert known == [None, 1, 1]


@pytest.mark.row(133)
@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        ModelAnswer(None),  # type: ignore[arg-type]
        ModelAnswer("x", "calls"),  # type: ignore[arg-type]
        ModelAnswer("x", [{"deep": deep(300)}]),
        ModelAnswer("x", [{"number": float("inf")}]),
        ModelAnswer("x" * (5 << 20)),
    ],
    ids=["none", "dict", "no-text", "no-calls", "deep", "infinite", "huge"],
)
async def test_answer_that_cannot_be_kept(
    session: aiohttp.ClientSession, answer: Any, fired: Fired
) -> None:
    """That item fails and says why; its neighbours are kept, and all are listed."""
    async with LocalServer(model=Saying(answer)) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "odd", "b"])
        status = await api.generate(experiment, entries)
        fired()
        listed = await api.items(f"/responses?experiment_id={experiment}")
    assert [one["index"] for one in status["item_failures"]] == [1]
    assert status["item_failures"][0]["code"] == "generation_failed"
    assert "the model" in status["item_failures"][0]["message"]
    assert [bool(row["error"]) for row in listed] == [False, True, False]


@pytest.mark.row(133)
@pytest.mark.parametrize("half", ["\\ud83d", "\\udc00", "\ud83d", "\\\\\\ud83d"])
async def test_half_an_emoji_in_the_reasoning(
    session: aiohttp.ClientSession, half: str, fired: Fired
) -> None:
    """A reasoning that was cut in a character is repaired; its job rates all."""
    verdict = f'{{"criterion_1": {{"reasoning": "cut {half}", "verdict": "NO"}}}}'
    async with LocalServer(model=Saying(ModelAnswer("odd"), verdict)) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "odd", "b"], criteria=["Is it?"])
        await api.generate(experiment, entries)
        status = await api.rate([1, 2, 3], "detailed")
        fired()
        listed = await api.items(f"/responses?experiment_id={experiment}")
    assert status["status"] == "SUCCESS"
    assert status["item_failures"] == []
    assert [row["ratings"][0]["rating"] for row in listed] == ["YES", "NO", "YES"]
    assert listed[1]["ratings"][0]["reasoning"].endswith("\ufffd")


@pytest.mark.unmeasured
@pytest.mark.row(133)
def test_two_thousand_answers(fired: Fired) -> None:
    """Whatever a model says: nothing leaves, with a reason, or what any file can hold.

    `make soak` has 10,000.
    """
    source = random.Random(1)
    requests = [ModelRequest([]), ModelRequest([], json_schema=JsonSchema("s", {}))]
    kept = failed = 0
    for number in range(2_000):
        answer = random_answer(source)
        try:
            leaves = storable(answer, requests[number % 2])
        except ModelError as error:
            failed += 1
            str(error).encode()
            continue
        kept += 1
        document = json.dumps([leaves.text, leaves.tool_calls], ensure_ascii=False, allow_nan=False)
        assert len(document.encode()) < 20 << 20
        assert leaves.tool_calls is None or all(isinstance(one, dict) for one in leaves.tool_calls)
        for figure in (leaves.input_tokens, leaves.output_tokens, leaves.reasoning_tokens):
            assert figure is None or (type(figure) is int and 0 <= figure < 2**63)
    fired(times=2_000)
    assert kept > 1_000
    assert failed > 200


@pytest.mark.row(133)
async def test_hundreds_through_a_server(fired: Fired) -> None:
    """No listing that cannot be read, no neighbour that failed."""
    counts = await run(seed=7, items=200, per_job=50)
    fired(times=counts.answers)
    assert counts.answers >= 300
    assert counts.failed >= 50
    assert counts.unreadable_listings == 0
    assert counts.failed_neighbours == 0


PARAMS: list[dict[str, Any]] = [
    {"temperature": "warm"},
    {"temperature": True},
    {"temperature": [0.5]},
    {"temperature": 3},
    {"top_p": "high"},
    {"top_p": -0.1},
    {"max_tokens": "many"},
    {"max_tokens": 0},
    {"max_tokens": 1.5},
    {"reasoning_effort": 5},
    {"verbosity": {}},
    {"max_connections": None, "top_k": "x"},
    {"logprobs": "perhaps"},
    {"temperature": 1, "reasoning_effort": "low"},
]


@pytest.mark.row(137)
@pytest.mark.parametrize("params", PARAMS, ids=str)
async def test_parameters_of_the_wrong_type(api: Api, params: dict[str, Any], fired: Fired) -> None:
    """422 that names the key, at creation and at a run, and nothing is stored."""
    experiment, _ = await api.setup(["a"])
    body = {"name": "F", "prompt_template_id": 1, "collection_id": 1, "generation_params": params}
    made = await api("POST", "/experiments", {**body, "generate": True})
    run = await api("POST", f"/experiments/{experiment}/run", {"generation_params": params})
    fired()
    assert (made.status, run.status) == (422, 422)
    assert "generation_params" in made.body["detail"]
    assert [one["name"] for one in await api.items("/experiments")] == ["E"]
    assert await api.items("/responses") == []


@pytest.mark.row(137)
async def test_parameters_that_are_not_known_are_kept(api: Api, fired: Fired) -> None:
    """Other versions know others; they are shown as they were given."""
    await api.setup(["a"])
    params = {"temperature": 1, "max_connections": 10, "of_tomorrow": [1]}
    body = {"name": "F", "prompt_template_id": 1, "collection_id": 1, "generation_params": params}
    made = await api.post("/experiments", body)
    fired()
    assert made["generation_params"] == params


@pytest.mark.row(137)
@pytest.mark.parametrize("levels", [101, 300, 5_000])
async def test_deep_json_is_refused(api: Api, levels: int, fired: Fired) -> None:
    """422 wherever it stands, and nothing of it is stored."""
    template = {"name": "T", "messages": [{"role": "user", "content": "x"}]}
    nested = f"{'[' * levels}{']' * levels}"
    for path, body in (
        ("/prompt_templates", {**template, "tools": [{"x": "DEEP"}]}),
        ("/prompt_templates", {**template, "response_format_json_schema": {"x": "DEEP"}}),
        ("/collections", {"name": "C", "variables": [{"x": "DEEP"}]}),
        ("/llm_configs", {"name": "L", "custom_api_config": {"x": "DEEP"}}),
    ):
        data = json.dumps(body).replace('"DEEP"', nested)
        headers = {"Content-Type": "application/json"}
        answer = await api("POST", path, data=data, headers=headers)
        fired()
        assert answer.status == 422
        assert "levels" in answer.body["detail"]
    for path in ("/prompt_templates", "/collections"):
        assert await api.items(path) == []


MESSAGES: list[Any] = [
    {"content": "without a role"},
    {"role": "", "content": "x"},
    {"role": 5, "content": "x"},
    {"role": "user", "content": 5},
    {"role": "user", "content": {"text": "x"}},
    {"role": "user", "content": ["x"]},
    {"role": "user", "content": [{"type": "text", "text": 5}]},
    {"role": "assistant", "content": "x", "tool_calls": "calls"},
    {"role": "assistant", "content": "x", "tool_calls": [5]},
]


@pytest.mark.row(137)
@pytest.mark.parametrize("message", MESSAGES, ids=str)
async def test_messages_that_are_none(api: Api, message: Any, fired: Fired) -> None:
    """422 that tells which, for a template and for responses to store, and nothing is stored."""
    experiment, entries = await api.setup(["a"])
    good = {"role": "user", "content": "x"}
    template = await api("POST", "/prompt_templates", {"name": "U", "messages": [good, message]})
    body = batch(experiment, entries)
    body["prompt_response_ins"][0]["messages"] = [good, message]
    stored = await api("POST", "/responses/batches", body)
    one = await api("POST", "/responses", body["prompt_response_ins"][0])
    fired()
    for answer in (template, stored, one):
        assert answer.status == 422
        assert "message 2" in answer.body["detail"]
    assert len(await api.items("/prompt_templates")) == 1
    assert await api.items("/responses") == []


SPOILED = {
    "figures": "UPDATE responses SET input_tokens = 'n/a', output_tokens = 1.5, "
    "reasoning_tokens = 9e999, cached_tokens = x'00', duration_seconds = 9e999",
    "texts": "UPDATE responses SET duration_seconds = 'long', input_tokens = 9e999",
    "params": "UPDATE experiments SET generation_params = "
    """'{"temperature": "warm", "max_tokens": [], "top_p": 0.5}'""",
    "config": "UPDATE responses SET llm_model_config = "
    """'{"llm_model_name": "m", "temperature": "warm", "timeout": {}}'""",
    "messages": """UPDATE prompt_templates SET messages =
        '[{"content": "x"}, {"role": "user", "content": [5, {"text": 6}]}, {"role": "user",
        "content": 7}]'""",
    "answers": """UPDATE responses SET messages = '[5, {"role": "assistant", "content": "x"}]'""",
    "deep template": f"UPDATE prompt_templates SET tools = '[{{\"x\": {json.dumps(deep(300))}}}]'",
    "very deep": f"UPDATE entries SET input_values = "
    f"""'{{"word": {"[" * 50_000}{"]" * 50_000}}}'""",
    "deep prompt": "UPDATE prompts SET messages = "
    f"""'[{{"role": "user", "content": "x", "y": {json.dumps(deep(300))}}}]'""",
    "deep answer": "UPDATE responses SET messages = "
    """'[{"role": "assistant", "content": "x", "tool_calls": [{"x": """
    f"{json.dumps(deep(300))}}}]}}]'",
    "columns": f"UPDATE collections SET environment_config = '{{\"x\": {json.dumps(deep(300))}}}'",
}


@pytest.mark.row(137)
@pytest.mark.parametrize("statement", SPOILED.values(), ids=SPOILED)
async def test_what_was_stored_before(
    session: aiohttp.ClientSession, tmp_path: Path, statement: str, fired: Fired
) -> None:
    """A database that holds what is refused now is shown as it can be, and worked with."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a", "b"], criteria=["Is it?"])
        await api.generate(experiment, entries)
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute(statement)
        fired()
        for listing in (
            "/experiments", "/experiments/1", "/prompt_templates", "/criterion_sets",
            "/collections", "/collections/1", "/collections/1/entries", "/llm_configs",
            "/responses", "/responses?experiment_id=1", "/responses/1",
        ):  # fmt: skip
            answer = await api("GET", listing)
            assert answer.status == 200, (listing, answer.body)
        page = Page[PromptResponse].model_validate(await api.get("/responses?experiment_id=1"))
        assert len(page.items) == 2
        Experiment.model_validate(await api.get("/experiments/1"))
        PromptTemplate.model_validate(await api.get("/prompt_templates/1"))
        assert (await api.rate([1, 2]))["status"] == "SUCCESS"
        assert (await api.get("/experiments/1"))["results"]["num_rated_responses"] == 2
        await api.generate(experiment, entries)
    async with LocalServer(db=path, model=ScriptedModel()) as server:
        assert len(await Api(session, server).items("/responses")) == 4


@pytest.mark.row(137)
async def test_what_is_too_deep_is_left_out(
    session: aiohttp.ClientSession, tmp_path: Path, fired: Fired
) -> None:
    """Only what is too deep is: a text stands in its place, and the rest is as it was."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path) as server:
        api = Api(session, server)
        await api.setup(["a"])
        value = json.dumps([{"before": 1, "x": deep(300), "after": "]["}])
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("UPDATE prompt_templates SET tools = ?", (value,))
        fired()
        (tool,) = (await api.get("/prompt_templates/1"))["tools"]
    assert (tool["before"], tool["after"]) == (1, "][")
    assert TOO_DEEP in json.dumps(tool)
