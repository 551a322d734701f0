"""Documents that are JSON and not as agreed: what cannot be read is one item's, not the batch's."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from elluminate_async import (
    APIError,
    GenerationError,
    OutcomeUnknownError,
    ProtocolError,
)
from elluminate_async.errors import DETAIL_LIMIT
from elluminate_async.resources import matching
from elluminate_async.server import WireProfile
from elluminate_async.testing import VIRTUAL_TIME
from elluminate_async.testing.raw import Connection, Received, Script, replies, reply
from tests.faults.gateway import HOSTED, Choose, Gateway, behind_gateway, is_stream
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
    monkeypatch.setattr(matching, "VISIBILITY_WAITS", (0.0, 0.1))
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
