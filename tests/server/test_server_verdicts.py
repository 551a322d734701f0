"""Verdicts read out of what a judge says: those it gave, and none of what it did not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import LocalServer, ModelAnswer, ModelRequest
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api

if TYPE_CHECKING:
    import aiohttp

YES = '{"criterion_1": {"reasoning": "It is short.", "verdict": "YES"}}'
NO = '{"criterion_1": {"reasoning": "It is long.", "verdict": "NO"}}'
TWICE = '{"criterion_1": {"reasoning": "so", "verdict": "YES", "verdict": "NO"}}'


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Saying:
    """A judge that says one thing to whatever it is asked."""

    name = "saying"

    def __init__(self, text: str) -> None:
        self._text = text

    async def complete(self, request: ModelRequest) -> ModelAnswer:
        return ModelAnswer(self._text if request.purpose == "judge" else "A")

    async def aclose(self) -> None:
        pass


async def rated(
    session: aiohttp.ClientSession, text: str, mode: str = "fast", criteria: int = 1
) -> dict[int, str]:
    """Verdicts by criterion, where the judge says ``text``; an error for each that is missing."""
    questions = [f"Is it {number} words long?" for number in range(criteria)]
    async with LocalServer(model=Saying(text)) as server:
        api = Api(session, server)
        experiment, entries = await api.setup(["a"], criteria=questions)
        await api.generate(experiment, entries)
        status: Any = await api.rate([1], mode)
    found = {one["criterion"]["id"]: one["rating"] for one in status["result"][0]}
    assert bool(status["item_failures"]) is (len(found) < criteria)
    return found


@pytest.mark.parametrize("mode", ["fast", "detailed"])
@pytest.mark.parametrize(
    "text",
    [
        f"{YES} {NO}",
        f"For example {YES}. My answer: {NO}",
        f"The answer says {YES}, which I do not follow.\n```json\n{NO}\n```",
        f"[{YES}, {NO}, {YES}]",
        '[{"reasoning": "a", "verdict": "YES"}, {"reasoning": "b", "verdict": "NO"}]',
        f"{YES} {TWICE}",
        f'{NO}\n{{"criterion_1": {{"verdict": "YES"}}, "criteri',
    ],
    ids=["two", "example", "quoted", "list", "bare list", "in itself", "cut off"],
)
async def test_objects_that_disagree_are_no_verdict(
    session: aiohttp.ClientSession, mode: str, text: str
) -> None:
    """Whichever of them the judge meant, taking one would be a guess."""
    assert await rated(session, text, mode) == {}


@pytest.mark.parametrize(
    "text",
    [
        f"The answer has {YES} in it. My verdict is NO.",
        f"criterion_1: YES\n\n{NO}",
        f"{YES} is the form I would use, but I cannot judge this.",
        f"I'm sorry, but I can't assist with that. {NO}",
    ],
    ids=["own words", "own line", "form", "refusal"],
)
async def test_prose_that_takes_an_object_back_leaves_no_verdict(
    session: aiohttp.ClientSession, text: str
) -> None:
    """An object that was quoted, or shown as a form, is not what the judge said."""
    assert await rated(session, text) == {}


@pytest.mark.parametrize("mode", ["fast", "detailed"])
@pytest.mark.parametrize(
    "text",
    [
        f"{NO}\n\n{NO}",
        f"Here is what I think of it:\n```json\n{NO}\n```\nIs there more?",
        f"It has words, and no greeting. So it cannot be short.\n\n{NO}",
        f'Of the set {{a, b}} I say: {NO}\n{{"criterion_1": {{"reas',
        '<think>not criterion_2 now</think>{"reasoning": "It is long.", "verdict": "NO"}',
    ],
    ids=["twice", "fence", "reasons", "braces", "thoughts of another"],
)
async def test_one_object_in_prose_or_equal_ones_are_a_verdict(
    session: aiohttp.ClientSession, mode: str, text: str
) -> None:
    """Models write around what they were asked for, and repeat it."""
    assert await rated(session, text, mode) == {1: "NO"}


async def test_objects_are_of_their_own_criteria(session: aiohttp.ClientSession) -> None:
    """Of two criteria the one that is contradicted is open, the other is not."""
    text = f'{YES} {{"criterion_2": {{"verdict": "NO"}}}} {NO}'
    assert await rated(session, text, criteria=2) == {2: "NO"}


async def test_more_braces_than_are_looked_at_hold_no_verdict(
    session: aiohttp.ClientSession,
) -> None:
    """Behind the last that is looked at could stand the contradiction."""
    assert await rated(session, YES + " {}" * 100 + NO) == {}


@pytest.mark.parametrize(
    "text",
    [
        "No. I'm sorry, but I can't assist with that request.",
        "No, I can’t assist with that.",
        "NO\n\nI'm unable to judge this content.",
        "no\nError: rate limit",
        "NO. As an AI I have no opinion.",
        "Yes, I can help with that.",
        "Yes, of course! What would you like to know?",
        "No, wait. Yes.",
        "YES. Wait, it does not.",
        "Yes. No it does not.",
        "yes, no",
        "yes\nno",
        "No, it is yes",
        "Which one? Possible answers:\nyes\nno",
        "NO evidence either way",
        "No-one can tell",
        "criterion_1: YES or NO?",
        "criterion_1: no verdict",
        "criterion_1: NO evidence either way",
        "criterion_1 - No information to decide.",
        "criterion_1: NO\nI'm sorry, I cannot say more.",
        "criterion_1: YES\ncriterion_1: no verdict",
    ],
)
async def test_words_that_are_not_meant_as_a_verdict_are_none(
    session: aiohttp.ClientSession, text: str
) -> None:
    """Refusals, turns of speech and what is taken back: an error, never a YES or a NO."""
    assert await rated(session, text) == {}


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("no", "NO"),
        ("**YES**.", "YES"),
        ("Answer: No", "NO"),
        ("My final verdict is YES.", "YES"),
        ("Yes, no errors were found.", "YES"),
        ("No, I don't think it does.", "NO"),
        ("NO - there is no greeting in it", "NO"),
        ("YES (it is one word)", "YES"),
        ("Yes because it is one word", "YES"),
        ("It has one word, and it cites nothing.\nYES", "YES"),
        ("criterion_1: Is it 0 words long?\nNO", "NO"),
        ("- **criterion_1**: **YES** – one word", "YES"),
        ("I have looked at it.\ncriterion_1:\nNO, it is longer.", "NO"),
    ],
)
async def test_what_small_models_usually_say_is_read(
    session: aiohttp.ClientSession, text: str, verdict: str
) -> None:
    """A word alone, behind a label, before a reason, or as the last line."""
    assert await rated(session, text) == {1: verdict}


async def test_lines_have_each_their_verdict(session: aiohttp.ClientSession) -> None:
    """A reason in the next line is of the criterion before it."""
    text = "criterion_1: YES\nOne word, no more.\n* criterion_2: NO\ncriterion_3: no idea"
    assert await rated(session, text, criteria=3) == {1: "YES", 2: "NO"}
