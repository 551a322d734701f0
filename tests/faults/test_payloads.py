"""Documents that are JSON and not as agreed: what cannot be read is one item's, not the batch's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Send

from elluminate_async import (
    APIError,
    GenerationError,
    GenerationMetadata,
    InputError,
    OutcomeUnknownError,
    ProtocolError,
)
from elluminate_async.errors import DETAIL_LIMIT
from elluminate_async.operations import listing_matcher
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, Received, Script, replies, reply
from tests.faults.gateway import HOSTED, Choose, Gateway, behind_gateway, is_stream
from tests.flow.bench import Seen, answer
from tests.matrix import Fired
from tests.transport.wiring import POST, budget, failing, serving


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


VALUES = [f"v{i}" for i in range(10)]
Row = dict[str, Any]


def lacks_its_prompt(row: Row) -> None:
    del row["prompt"]


def has_no_id(row: Row) -> None:
    row["id"] = None


def calls_its_epoch_otherwise(row: Row) -> None:
    row["epoch"] = {"number": row["epoch"]}


def is_not_a_number(row: Row) -> None:
    row["generation_metadata"] = {"duration_seconds": float("nan")}


def has_no_messages(row: Row) -> None:
    row["outputs"] = row.pop("messages")


UNREADABLE = {
    2: lacks_its_prompt,
    3: has_no_id,
    5: calls_its_epoch_otherwise,
    7: is_not_a_number,
}
"""By the position of the row that it is done to."""


def harmless(row: Row) -> None:
    """Keys of a later version, nulls where there may be some, a role nobody has heard of."""
    row["more"] = {"deep": [1, None]}
    row["generation_metadata"] = None
    row["messages"][0] |= {"name": "x", "tool_calls": None}
    row["messages"].insert(0, {"role": "narrator", "content": None})


def position_of(row: Row) -> int:
    return int(row["prompt"]["template_variables"]["input_values"]["x"].removeprefix("v"))


def edited(row: Row, fired: Fired) -> Row:
    position = position_of(row)
    fired()
    harmless(row)
    if position in UNREADABLE:
        UNREADABLE[position](row)
    if position == 8:
        has_no_messages(row)
    return row


def rewriting(gateway: Gateway, path: str, edit: Callable[[Any], None]) -> Choose:
    """Answers to GETs of this path with their documents edited; no stream opens."""

    async def rewrite(received: Received, connection: Connection) -> bytes:
        document = json.loads((await gateway.passed(received)).partition(b"\r\n\r\n")[2])
        edit(document)
        return reply(200, json.dumps(document).encode())

    def choose(received: Received) -> Script | None:
        if is_stream(received):
            return replies(reply(404))
        return rewrite if received.method == "GET" and path in received.path else None

    return choose


@pytest.mark.row(52)
@pytest.mark.row(49)
@pytest.mark.parametrize("profile", [WireProfile(), HOSTED], ids=["result", "listing"])
async def test_rows_that_are_not_as_agreed(
    profile: WireProfile, fired: Fired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a row has too much is ignored; what it lacks is the error of its item alone."""
    monkeypatch.setattr(listing_matcher, "VISIBILITY_WAITS", (0.0, 0.1))
    listing = profile is HOSTED
    async with behind_gateway(profile) as (stage, gateway):
        variables = await stage.variables(VALUES)

        def edit(document: Any) -> None:
            for row in document.get("items" if listing else "result") or ():
                edited(row, fired)

        path = "/responses" if listing else "/responses/batches/"
        gateway.choose = rewriting(gateway, path, edit)
        responses = await stage.client.responses.generate_many(
            template_variables=variables,
            experiment=stage.experiment,
            options=stage.client.options.replace(chunk_size=10),
        )

    assert sorted(responses.failed) == sorted([*UNREADABLE, 8])
    for position in UNREADABLE:
        assert responses.failed[position].code == "no_result"
        assert isinstance(responses.failed[position], OutcomeUnknownError) or not listing
    assert isinstance(responses.failed[8], GenerationError)
    for position, response in responses.succeeded.items():
        assert response.response_str == f"echo say v{position}"
        assert response.messages[0].role == "narrator"


@pytest.mark.row(52)
async def test_a_verdict_that_nobody_knows(fired: Fired) -> None:
    """A word besides YES and NO is read as it is."""
    async with behind_gateway(WireProfile()) as (stage, gateway):
        await stage.client.ratings.rate_many(await stage.generate(VALUES))

        def edit(document: Any) -> None:
            for row in document["items"]:
                fired()
                row["ratings"][0]["rating"] = "MAYBE"

        gateway.choose = rewriting(gateway, "/responses", edit)
        rows = await stage.client.responses.list(experiment=stage.experiment)

    assert [row.ratings[0].rating for row in rows] == ["MAYBE"] * 10


@pytest.mark.row(52)
@pytest.mark.parametrize(
    "page",
    [b'{"items": [{"name": "x"}], "count": 1}', b'{"items": null, "count": 0}', b'{"rows": []}'],
)
async def test_a_listing_that_is_not_as_agreed(page: bytes, fired: Fired) -> None:
    """Whoever asked for the whole of it, by ``strict``, is told: nothing is left out in silence."""

    async def odd(received: Received, connection: Connection) -> bytes:
        fired()
        return reply(200, page)

    async with behind_gateway() as (stage, gateway):
        gateway.choose = lambda received: odd
        with pytest.raises(ProtocolError, match="not what the protocol says") as caught:
            await stage.client.collections.list(strict=True)
        assert "pydantic" not in str(caught.value)


@pytest.mark.row(130)
async def test_one_row_of_another_version(fired: Fired, caplog: pytest.LogCaptureFixture) -> None:
    """It is left out of the listing and counted, with one warning; strictly, it raises."""
    async with behind_gateway(WireProfile()) as (stage, gateway):
        await stage.generate(VALUES)

        def edit(document: Any) -> None:
            for row in document["items"]:
                if position_of(row) == 3:
                    fired()
                    lacks_its_prompt(row)

        gateway.choose = rewriting(gateway, "/responses", edit)
        listing = stage.client.responses.list(experiment=stage.experiment)
        with caplog.at_level("WARNING", logger="elluminate_async"):
            rows = await listing
        strict = stage.client.responses.list(experiment=stage.experiment, strict=True)
        with pytest.raises(ProtocolError, match="prompt: Field required"):
            await strict

    assert sorted(row.response_str for row in rows) == [
        f"echo say {value}" for value in VALUES if value != "v3"
    ]
    assert listing.unreadable == 1
    assert [record.message for record in caplog.records] == [
        "1 rows of the listing of responses cannot be read by this version, and were left out; "
        "of the first: prompt: Field required"
    ]


HALF = "half \ud83d"


@pytest.mark.row(130)
async def test_half_a_character_in_a_row_to_upload(fired: Fired) -> None:
    """That row alone fails, before it is sent, and the error names where it is."""
    rows = [{"x": "a"}, {"x": HALF}, {"x": "b"}, {"x": ["c", {"y": HALF}]}, {HALF: "d"}]
    async with behind_gateway(WireProfile()) as (stage, _):
        collection = await stage.client.collections.create("halves")
        added = await stage.client.template_variables.add_many(rows, collection=collection)
        fired(times=len(added.failed))
        listed = await stage.client.template_variables.list(collection)

    assert [added[0].input_values, added[2].input_values] == [{"x": "a"}, {"x": "b"}]
    assert [row.input_values for row in listed] == [{"x": "a"}, {"x": "b"}]
    assert [(p, e.code, e.attempts) for p, e in added.failed.items()] == [
        (position, "bad_input", 0) for position in (1, 3, 4)
    ]
    assert "values[1]['x'] has half a character (U+D83D) at index 5" in added.failed[1].text
    assert "values[3]['x'][1]['y'] has half a character" in added.failed[3].text
    assert "a name in values[4] has half a character" in added.failed[4].text
    json.dumps([error.to_dict() for error in added.failed.values()]).encode()


@pytest.mark.row(130)
async def test_half_a_character_in_a_response_to_store(fired: Fired) -> None:
    """That response alone fails, in a text, in messages or in its metadata."""
    texts = ["a", HALF, [{"role": "assistant", "content": HALF}], "d", "e"]
    metadata = [None, None, None, GenerationMetadata(custom_api_info={"id": HALF}), None]
    async with behind_gateway(WireProfile()) as (stage, _):
        variables = await stage.variables(VALUES[:5])
        added = await stage.client.responses.add_many(
            texts, template_variables=variables, experiment=stage.experiment, metadata=metadata
        )
        fired(times=len(added.failed))

    assert {p: r.response_str for p, r in added.succeeded.items()} == {0: "a", 4: "e"}
    assert {error.code for error in added.failed.values()} == {"bad_input"}
    assert "responses[1] has half a character" in added.failed[1].text
    assert "responses[2][0]['content'] has half a character" in added.failed[2].text
    assert "metadata[3].custom_api_info['id'] has half a character" in added.failed[3].text


@pytest.mark.row(130)
async def test_half_a_character_elsewhere(fired: Fired) -> None:
    """In a name, or in one response or row by itself, it is the argument's error."""
    async with behind_gateway(WireProfile()) as (stage, gateway):
        entry = (await stage.variables(["v"]))[0]
        gateway.requests.clear()
        calls = [
            lambda: stage.client.collections.get_or_create(HALF),
            lambda: stage.client.collections.get(HALF),
            lambda: stage.client.responses.add(
                HALF, template_variables=entry, experiment=stage.experiment
            ),
            lambda: stage.client.template_variables.add_to_collection({"x": HALF}, collection=1),
        ]
        for call in calls:
            fired()
            with pytest.raises(InputError, match="half a character"):
                await call()
        assert gateway.requests == []


@pytest.mark.row(53)
@pytest.mark.parametrize("status", [422, 500])
@pytest.mark.parametrize("shape", ["text", "list", "page"])
async def test_an_error_of_megabytes(status: int, shape: str, fired: Fired) -> None:
    """5 MB of detail: the error keeps 4,000 characters of it, and no more of it anywhere."""
    text = "é" * 2_500_000
    detail = text if shape == "text" else [{"loc": ["x"], "msg": text}]
    body = text if shape == "page" else json.dumps({"detail": detail}, ensure_ascii=False)
    async with serving(replies(reply(status, body.encode()))) as (_, transport):
        error = await failing(transport.send(POST, budget()))
        fired()

    assert isinstance(error, APIError)
    assert len(error.detail) <= DETAIL_LIMIT
    assert len(str(error)) < DETAIL_LIMIT + 200
    assert len(repr(vars(error))) < 3 * DETAIL_LIMIT


@pytest.mark.row(49)
@pytest.mark.parametrize(
    "detail", ['"\\ud800"', "[" * 100_000, "9" * 5000, "NaN", '"a", "detail": "b"', '"cut']
)
async def test_an_error_whose_body_is_hostile(detail: str, fired: Fired) -> None:
    """Still the error of its status, with a text that any log can take."""
    body = f'{{"detail": {detail}}}'.encode()
    async with serving(replies(reply(422, body))) as (_, transport):
        error = await failing(transport.send(POST, budget()))
        fired()

    assert isinstance(error, APIError)
    assert error.status == 422
    str(error).encode()


@pytest.mark.parametrize("shares", [False, True])
async def test_one_id_for_several_rows_is_a_row_of_one_of_them(shares: bool) -> None:
    """An upload whose answer gives an id again leaves the other positions without a row."""
    async with behind_gateway(WireProfile()) as (stage, _):
        collection = await stage.client.collections.create("ids")

        async def one_id(seen: Seen, send: Send) -> bool:
            if not seen.path.endswith("/entries/batches"):
                return False
            rows = [{"id": 1, "input_values": {"x": x}} for x in ("a", "b", "a")]
            await answer(send, 200, json.dumps(rows).encode())
            return True

        stage.recorder.before = one_id
        added = await stage.client.template_variables.add_many(
            [{"x": x} for x in ("a", "b", "a")], collection=collection, skip_existing=shares
        )

    assert [*added.succeeded] == ([0, 2] if shares else [0])
    assert {error.code for error in added.failed.values()} == {"no_result"}
