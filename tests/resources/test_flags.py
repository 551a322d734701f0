"""Arguments that are True or False: another value is an `InputError`, and nothing is sent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy
import pytest

from elluminate_async import (
    AsyncClient,
    Batch,
    BatchOptions,
    ConfigurationError,
    Evaluation,
    InputError,
)
from elluminate_async.integrations import opentelemetry
from elluminate_async.resources.base import Resource
from elluminate_async.telemetry.observer import Observer
from elluminate_async.telemetry.scopes import ObservedAttempt
from tests.resources.local import local

# What a method needs besides, where an id will not do. None of it is looked at by the service.
FILLERS: Final[Mapping[str, Any]] = {
    "name": "n",
    "prompt": "{{x}}",
    "values": [{"x": 1}],
    "criteria": ["Q?"],
    "results": [{"task_name": "t"}],
    "responses": [1],
    "scenarios": [{"goal": "g", "expected_conversation_outcome": "o"}],
    "template_variables": [1],
    "prompt_template": 1,
}
# Of those that are None unless given, what says whose the call is.
CHOSEN: Final[Mapping[str, Any]] = {
    "evaluate": {"rows": [{"x": 1}]},
    "stream_evaluate": {"rows": [{"x": 1}]},
    "add_many": {"criterion_set": 1},
    "generate_many": {"collection": 1},
}


class Attempts(Observer):
    """Keeps every request that is sent."""

    def __init__(self) -> None:
        self.seen: list[ObservedAttempt] = []

    def attempt_began(self, attempt: ObservedAttempt) -> None:
        self.seen.append(attempt)


def client(**settings: Any) -> AsyncClient:
    """A client of an address where nobody listens."""
    options = BatchOptions(retry_for=0)
    return AsyncClient(base_url="http://127.0.0.1:9", api_key="k", options=options, **settings)


def flags_of(thing: object) -> Iterator[tuple[str, str]]:
    """Each public method of ``thing`` with the name of an argument that is annotated ``bool``."""
    for name, method in inspect.getmembers(thing, inspect.isroutine):
        if not name.startswith("_"):
            for argument in inspect.signature(method).parameters.values():
                if re.search(r"\bbool\b", str(argument.annotation)):
                    yield name, argument.name


CLIENT: Final = client()
NOUNS: Final = {name: one for name, one in vars(CLIENT).items() if isinstance(one, Resource)}
FLAGS: Final = [
    (noun, method, argument)
    for noun, thing in {**NOUNS, "": CLIENT}.items()
    for method, argument in flags_of(thing)
]


def arguments_of(noun: str, method: str, function: Any) -> dict[str, Any]:
    """The arguments of a whole call of a method, all of them checked by the client alone."""
    needed = inspect.signature(function).parameters.values()
    given = {
        one.name: FILLERS.get(one.name, 1)
        for one in needed
        if one.default is one.empty and one.kind is not one.VAR_KEYWORD
    }
    for name, value in CHOSEN.get(method, {}).items():
        if name in inspect.signature(function).parameters:
            given.setdefault(name, value)
    if (noun, method) == ("template_variables", "delete"):
        given["template_variables"] = 1
    if (noun, method) == ("responses", "add_many"):
        given["responses"] = ["a"]
    return given


@pytest.mark.parametrize(("noun", "method", "argument"), FLAGS, ids=map(".".join, FLAGS))
async def test_a_text_is_no_answer(noun: str, method: str, argument: str) -> None:
    """A text is none, "false" included: the argument and its value are named before any request."""
    attempts = Attempts()
    asked = client(observers=[attempts])
    function = getattr(getattr(asked, noun) if noun else asked, method)
    given = arguments_of(noun, method, function)
    with pytest.raises(InputError, match=rf"^{argument} must be True.* not 'false'"):
        await function(**given, **{argument: "false"})
    await asked.close()
    assert attempts.seen == []


def test_the_table_has_the_known_ones() -> None:
    """It is made of the signatures, and could be empty without a word."""
    assert {("criteria", "delete", "cascade"), ("", "evaluate", "progress")} < {*FLAGS}
    assert len(FLAGS) > 40


@pytest.mark.parametrize("value", ["no", "", 0, 1, [], None])
async def test_nothing_but_true_and_false_is_one_of_them(value: object) -> None:
    """However true or false it is elsewhere in Python."""
    with pytest.raises(InputError, match="cascade must be True or False, not "):
        await client().prompt_templates.delete(1, cascade=value)  # pyright: ignore[reportArgumentType]


async def test_a_text_deletes_no_paid_work() -> None:
    """The response is there still; numpy's own True is one."""
    async with local() as here:
        template = await here.prompt_templates.create("say {{x}}", "t")
        collection = await here.collections.create("c", variables=[{"x": 1}])
        experiment = await here.experiments.create(
            "e", prompt_template=template, collection=collection, generate=True
        )
        wrong: Any = "false"
        with pytest.raises(InputError):
            await here.prompt_templates.delete(template, cascade=wrong)
        assert len(await here.responses.list(experiment=experiment)) == 1
        right: Any = numpy.bool_(True)
        await here.prompt_templates.delete(template, cascade=right)
        assert await here.responses.list() == []


async def test_a_batch_and_an_evaluation_are_as_strict() -> None:
    """A repetition may be paid for twice, and a gate decides what is released."""
    text: Any = "false"
    with pytest.raises(InputError, match="include_unknown must be True or False"):
        await Batch[int].from_outcomes(0, {}).retry_failed(include_unknown=text)
    async with local() as here:
        evaluation = await here.evaluate([{"x": 1}], prompt="{{x}}", criteria=["Q?"])
    assert isinstance(evaluation, Evaluation)
    with pytest.raises(InputError, match="include_unknown must be True or False"):
        await evaluation.retry_failed(include_unknown=text)
    with pytest.raises(InputError, match="per_criterion must be True or False"):
        evaluation.gate(pass_rate=0.5, per_criterion=text)
    with pytest.raises(InputError, match="per_criterion must be True or False"):
        evaluation.report("report.html", per_criterion=text)


@pytest.mark.parametrize("name", ["skip_version_check", "allow_insecure_http", "trust_env"])
def test_a_setting_is_as_strict(name: str) -> None:
    """With the error of settings: a text would have sent the key over plain http."""
    with pytest.raises(ConfigurationError, match=f"{name} must be True or False, not 'false'"):
        client(**{name: "false"})


@pytest.mark.parametrize("name", ["capture_content", "evaluation_events"])
def test_a_text_captures_no_content(name: str) -> None:
    """The prompts of customers stay out of traces."""
    with pytest.raises(InputError, match=f"{name} must be True or False, not 'false'"):
        opentelemetry.observers(**{name: "false"})  # pyright: ignore[reportArgumentType]
