"""The nouns have one way for one thing: lazy listings, `update`, batches, options."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_args

import pytest

from elluminate_async import (
    APIError,
    AsyncClient,
    Batch,
    ConfigurationError,
    Criterion,
    CriterionIn,
    DeadlineError,
    ItemError,
    ItemErrorCode,
    Listing,
    NotFoundError,
    PromptResponse,
)
from elluminate_async.errors import codes
from elluminate_async.resources.base import Resource
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, RawServer, Received, reply
from tests.resources.local import local


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


NOUNS = [value for value in vars(AsyncClient(api_key="k")).values() if isinstance(value, Resource)]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: type(noun).__name__)
def test_what_all_nouns_have_is_called_alike(noun: Resource) -> None:
    """``list`` is no coroutine, one thing is changed by ``update``, and many come as a `Batch`."""
    methods = dict(inspect.getmembers(type(noun), inspect.isfunction))
    public = {name: method for name, method in methods.items() if not name.startswith("_")}
    assert not inspect.iscoroutinefunction(public["list"])
    assert "Listing" in public["list"].__annotations__["return"]
    changing = [name for name in public if name.startswith(("edit", "change", "update", "set_"))]
    assert changing in ([], ["update"])
    for name in public:
        if name == "add_many":
            assert public[name].__annotations__["return"].startswith("Batch[")


async def test_projects_are_listed_as_everything_else() -> None:
    """Lazily: nothing is sent before it is read, by ``async for`` or as a whole."""
    async with local() as client:
        listing = client.projects.list()
        assert isinstance(listing, Listing)
        assert repr(listing) == "<Listing of projects>"
        whole = await listing
        assert [project async for project in client.projects.list()] == whole
        assert whole == [await client.projects.current()]
        assert await client.projects.get(whole[0].name) == whole[0]
        with pytest.raises(NotFoundError, match="no project of exactly the name"):
            await client.projects.get("another")


def test_a_listing_says_of_what_it_is() -> None:
    """Its path and its filters, in an interactive session as in a log."""
    client = AsyncClient(api_key="k")
    assert repr(client.criteria.list(3)) == "<Listing of criteria prompt_template_id=3>"
    assert repr(client.template_variables.list(7)) == "<Listing of collections/7/entries>"


async def test_a_stream_says_of_what_it_is() -> None:
    """Which work it has done, or which listing it reads."""
    client = AsyncClient(api_key="k")
    generating = client.responses.stream_generate_many(template_variables=[1], experiment=1)
    rating = client.ratings.stream_rate_many(generating)
    assert repr(generating) == "<OutcomeStream of generate>"
    assert repr(rating) == "<OutcomeStream of rate>"
    assert repr(aiter(client.collections.list())) == "<OutcomeStream of collections>"


async def test_criteria_come_as_a_batch() -> None:
    """Outcome i is the criterion of text i, one that exists already or comes twice included."""
    async with local() as client:
        template = await client.prompt_templates.create("say {{x}}", "t")
        first = await client.criteria.add_many(["b?"], prompt_template=template)
        given = ["a?", CriterionIn(criterion_str="b?", label="B"), "a?"]
        batch = await client.criteria.add_many(given, prompt_template=template)
        assert isinstance(batch, Batch)
        assert [one.criterion_str for one in batch] == ["a?", "b?", "a?"]
        assert batch[1].id == first[0].id
        assert batch[0].id == batch[2].id
        assert len(await client.criteria.add_many([], prompt_template=template)) == 0


@pytest.mark.parametrize(
    ("answered", "outcomes"),
    [
        (["b?", "a?"], ["a?", "b?"]),
        (["a?"], ["a?", None]),
        (["a?", " B? "], ["a?", " B? "]),
        (["a?", "c?"], ["a?", None]),
        (["b?", "?"], [None, "b?"]),
        ([], [None, None]),
    ],
    ids=["another order", "one short", "a text made new", "another text", "of no text", "nothing"],
)
async def test_criteria_are_matched_by_their_texts(
    answered: list[str], outcomes: list[str | None]
) -> None:
    """Whatever the order of the answer; what it has nothing for is ``no_result``, never another."""
    rows = [Criterion(id=i, criterion_str=text) for i, text in enumerate(answered, 1)]
    body = b"[" + b",".join(row.model_dump_json().encode() for row in rows) + b"]"

    async def script(request: Received, connection: Connection) -> bytes:
        page = b'{"items":[{"id":1,"name":"P"}],"count":1}'
        is_criteria = request.path.endswith("criteria")
        return reply(200, body if is_criteria else page)

    async with (
        RawServer(script) as server,
        AsyncClient(base_url=server.url, api_key="k", skip_version_check=True) as client,
    ):
        batch = await client.criteria.add_many(["a?", "b?"], prompt_template=1)
    found = [None if isinstance(one, ItemError) else one.criterion_str for one in batch.outcomes]
    assert found == outcomes
    assert {error.code for error in batch.failed.values()} <= {"no_result"}


async def test_update_changes_one_thing_of_a_response() -> None:
    """Its note, by name."""
    async with local() as client:
        response = await _response(client)
        changed = await client.responses.update(response, annotation="odd")
        assert changed.annotation == "odd"
        assert (await client.responses.get(response.id)).annotation == "odd"


async def _response(client: AsyncClient) -> PromptResponse:
    template, _ = await client.prompt_templates.get_or_create("say {{x}}", "t")
    collection, _ = await client.collections.get_or_create("c")
    row = await client.template_variables.add_to_collection({"x": 1}, collection)
    experiment, _ = await client.experiments.get_or_create(
        "e", prompt_template=template, collection=collection
    )
    return await client.responses.generate(template_variables=row, experiment=experiment)


SINGLES: dict[str, Callable[[AsyncClient, Any], Awaitable[object]]] = {
    "generate": lambda c, o: c.responses.generate(template_variables=1, experiment=1, options=o),
    "add": lambda c, o: c.responses.add("a", template_variables=1, experiment=1, options=o),
    "rate": lambda c, o: c.ratings.rate(1, options=o),
    "add_to_collection": lambda c, o: c.template_variables.add_to_collection({}, 1, options=o),
    "generate a row": lambda c, o: c.template_variables.generate(
        collection=1, prompt_template=1, options=o
    ),
    "criteria": lambda c, o: c.criteria.add_many(["?"], prompt_template=1, options=o),
    "propose criteria": lambda c, o: c.criteria.get_or_generate_many(1, options=o),
}


@pytest.mark.parametrize("call", SINGLES.values(), ids=SINGLES)
async def test_a_single_call_takes_options(
    call: Callable[[AsyncClient, Any], Awaitable[object]],
) -> None:
    """What is none is refused before anything is sent, and the deadline of what is one counts."""
    sent: list[str] = []

    async def script(request: Received, connection: Connection) -> bytes:
        if request.method == "GET":
            return reply(200, b'{"items":[{"id":1,"name":"P"}],"count":1}')
        sent.append(request.path)
        return reply(429)

    async with (
        RawServer(script) as server,
        AsyncClient(base_url=server.url, api_key="k", skip_version_check=True) as client,
    ):
        with pytest.raises(ConfigurationError, match="options must be a BatchOptions"):
            await call(client, {"deadline": 1})
        assert not sent
        with pytest.raises((DeadlineError, APIError)):
            await call(client, client.options.replace(deadline=30))
    assert sent


def test_codes_are_a_closed_set() -> None:
    """Each is in the table, and a status that is not registered counts as its class's first."""
    told = (codes.__doc__ or "").split("http_<status>")[0]
    listed = {line.split("``")[1] for line in told.splitlines() if line.startswith("| ``")}
    own = {code for code in codes.ITEM_ERROR_CODES if not code.startswith("http_")}
    assert own == listed - {""}
    members = {code for part in get_args(ItemErrorCode) for code in get_args(part) or [part]}
    assert members == codes.ITEM_ERROR_CODES
    assert codes.http_code(503) == "http_503"
    assert codes.http_code(520) == "http_500"
    assert codes.http_code(499) == "http_400"
    assert codes.http_code(999) == "failed"
    later = ItemError.from_dict(
        {"text": "t", "position": 0, "code": "of_a_later_version", "operation": "add"}
    )
    assert later.code == "failed"


def test_a_batch_has_no_method_for_its_maker() -> None:
    """What a user sees of a batch is for users."""
    public = {name for name in dir(Batch) if not name.startswith("_")}
    assert public == {
        *{"count", "failed", "from_outcomes", "index", "outcomes", "raise_for_failed"},
        *{"raise_if_all_failed", "retry_failed", "succeeded", "surplus"},
        *{"to_arrow", "to_dicts", "to_pandas", "to_polars"},
        *{"write_csv", "write_jsonl", "write_junit", "write_parquet"},
    }
