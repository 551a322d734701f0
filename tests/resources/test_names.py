"""By name: the object that is found has the name that was asked for, or there is none."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from elluminate_async import AsyncClient, ConflictError, InputError, NotFoundError
from elluminate_async.testing import RawServer
from elluminate_async.testing.raw import Connection, Received, reply
from tests.resources.local import local

WORDS = ["None", "null", "latest", "true", "0", "[]", "a b", "%", "é", "a&name=b", " a "]

Make = Callable[[AsyncClient, str], Awaitable[tuple[Any, bool]]]


async def experiment(client: AsyncClient, name: str) -> tuple[Any, bool]:
    template, _ = await client.prompt_templates.get_or_create("say {{x}}", "t")
    collection, _ = await client.collections.get_or_create("c")
    return await client.experiments.get_or_create(
        name, prompt_template=template, collection=collection
    )


KINDS: dict[str, Make] = {
    "collections": lambda client, name: client.collections.get_or_create(name),
    "criterion_sets": lambda client, name: client.criterion_sets.get_or_create(name),
    "llm_configs": lambda client, name: client.llm_configs.get_or_create(name, "m"),
    "prompt_templates": lambda client, name: client.prompt_templates.get_or_create("a", name),
    "experiments": experiment,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_name_that_is_a_word_of_its_own(kind: str) -> None:
    """Created at the first call and found at the second, also where it reads as nothing."""
    async with local() as client:
        make = KINDS[kind]
        await make(client, "another")
        for name in WORDS:
            first, created = await make(client, name)
            again, anew = await make(client, name)
            assert (first.name, created, anew) == (name, True, False)
            assert (again.id, again.name) == (first.id, name)
            assert (await getattr(client, kind).get(name)).id == first.id


ROWS = [
    {"id": 1, "name": "nightly run", "version": 1},
    {"id": 2, "name": "Nightly", "version": 1},
    {"id": 3, "name": "nightly", "version": 1},
    {"id": 4, "name": "nightly", "version": 2},
]


class FuzzyService:
    """Shows whatever holds the name, in capitals or not, or all where it knows no filter."""

    def __init__(self, *, filters: bool) -> None:
        self.filters = filters
        self.pages = 0

    async def __call__(self, received: Received, connection: Connection) -> bytes:
        if received.method == "POST":
            return reply(409, b'{"detail": "taken"}')
        if received.path.endswith("/projects"):
            return page([{"id": 1, "name": "p"}])
        self.pages += 1
        asked = "nightly" in received.target
        rows = ROWS if asked or not self.filters else []
        if "/prompt_templates" not in received.path:
            rows = [{"id": row["id"], "name": row["name"]} for row in rows]
        # Pages of three rows: the last is on the second.
        return page(rows[3:] if "page=2" in received.target else rows[:3], len(rows))


def page(rows: list[dict[str, Any]], count: int | None = None) -> bytes:
    whole: list[dict[str, Any]] = [{"llm_model_name": "m", "messages": [], **row} for row in rows]
    return reply(200, json.dumps({"items": whole, "count": count or len(rows)}).encode())


@asynccontextmanager
async def fuzzy(*, filters: bool = True) -> AsyncGenerator[tuple[AsyncClient, FuzzyService]]:
    service = FuzzyService(filters=filters)
    async with (
        RawServer(service) as server,
        AsyncClient(base_url=server.url, api_key="k", skip_version_check=True) as client,
    ):
        yield client, service


@pytest.mark.parametrize("kind", ["collections", "criterion_sets", "llm_configs"])
async def test_a_service_that_takes_names_loosely(kind: str) -> None:
    """What it shows first has another name: the one of exactly that name is looked for."""
    async with fuzzy() as (client, service):
        found = await getattr(client, kind).get("nightly")
        assert found.id == 3
        assert service.pages == 3
        existing, created = await KINDS[kind](client, "nightly")
        assert (existing.id, created) == (3, False)


@pytest.mark.parametrize(
    ("name", "text"),
    [("smal", "'smal', did you mean 'small'? there are: "), ("x" * 9, "x'; there are: ")],
)
async def test_a_misspelt_configuration_is_told_with_those_that_there_are(
    name: str, text: str
) -> None:
    """Also where an evaluation names it; nothing is generated then."""
    async with local() as client:
        await client.llm_configs.create("small", "m")
        with pytest.raises(NotFoundError) as caught:
            await client.llm_configs.get(name)
        with pytest.raises(NotFoundError) as told:
            await client.evaluate([{"a": 1}], prompt="{{a}}", llm_configs=[name], criteria=["b?"])

    assert text in str(caught.value)
    assert str(caught.value).startswith("[404] no LLM configuration")
    assert "small" in str(caught.value).partition("there are: ")[2]
    assert text in str(told.value)


@pytest.mark.parametrize("filters", [False, True])
@pytest.mark.parametrize("kind", ["collections", "criterion_sets", "llm_configs"])
async def test_a_name_that_only_looks_alike(kind: str, filters: bool) -> None:
    """Another object is never given for it: the error names what was asked for."""
    async with fuzzy(filters=filters) as (client, _):
        with pytest.raises(NotFoundError, match="of exactly the name 'night'"):
            await getattr(client, kind).get("night")
        with pytest.raises(NotFoundError, match="of exactly the name 'NIGHTLY'"):
            await KINDS[kind](client, "NIGHTLY")


async def test_the_latest_version_of_a_name() -> None:
    """Or the one that was asked for, also where the service shows others first."""
    async with fuzzy() as (client, _):
        assert (await client.prompt_templates.get("nightly")).id == 4
        assert (await client.prompt_templates.get("nightly", version=1)).id == 3
        with pytest.raises(NotFoundError, match="name 'nightly' version 9"):
            await client.prompt_templates.get("nightly", version=9)


async def test_a_name_that_is_right_costs_one_request() -> None:
    """Nothing more is read where the first row has it."""
    async with fuzzy() as (client, service):
        assert (await client.collections.get("nightly run")).id == 1
        assert service.pages == 1


NOUNS = (
    "collections",
    "criterion_sets",
    "experiments",
    "llm_configs",
    "projects",
    "prompt_templates",
)


@pytest.mark.parametrize("noun", NOUNS)
async def test_an_object_is_looked_up_by_its_name_or_its_id(noun: str) -> None:
    """A number is no name, and neither or both name nothing: said before anything is sent."""
    # Not entered, so that nothing can be sent.
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="k")
    get = getattr(client, noun).get
    with pytest.raises(InputError, match=r"1 is no name of an? .*: pass id= for an id"):
        await get(1)
    for arguments in ({}, {"name": "x", "id": 1}):
        with pytest.raises(InputError, match="or id=, and not both"):
            await get(**arguments)
    for id in ("1", True, 1.0, -1, 2**70, 10**5000):
        with pytest.raises(InputError, match="id must be"):
            await get(id=id)
    with pytest.raises(InputError, match="half a character"):
        await get("\ud800")


async def test_a_name_that_is_taken_is_told_in_a_sentence() -> None:
    """Of experiments and configurations too, whose nouns begin with a vowel's sound."""
    async with local() as client:
        collection = await client.collections.create("c")
        await client.llm_configs.create("l", "m")
        await client.experiments.create("e", collection=collection)
        with pytest.raises(ConflictError, match=r"^\[409\] an experiment named 'e' exists already"):
            await client.experiments.create("e", collection=collection)
        with pytest.raises(ConflictError, match=r"^\[409\] an LLM config named 'l' exists already"):
            await client.llm_configs.create("l", "m")
