"""Large uploads: let in where they are ordinary, looked at beside the loop, answered as stored."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from elluminate_async.schemas import RatingBatchRequest, ResponseBatchRequest
from elluminate_async.schemas.base import MOST_ITEMS
from elluminate_async.server import aside
from elluminate_async.server.acceptance import MOST_PLACEHOLDERS, check_body
from tests.server.test_server_resources import jsonl

if TYPE_CHECKING:
    from tests.matrix import Fired
    from tests.server.api import Api

BATCHES = "/collections/1/entries/batches"


def lines(rows: list[dict[str, Any]]) -> str:
    return "\n".join(map(json.dumps, rows))


def test_many_short_rows_are_no_attack() -> None:
    """As many rows as one upload may have, each of one word, are let in."""
    check_body(b"\n".join(b'{"word":"a%d"}' % number for number in range(MOST_ITEMS)))
    rows = [{"word": str(number)} for number in range(MOST_ITEMS)]
    check_body(json.dumps({"name": "C", "variables": rows}, separators=(",", ":")).encode())


@pytest.mark.row(135)
@pytest.mark.parametrize(
    ("model", "key"),
    [(ResponseBatchRequest, "prompt_response_ins"), (RatingBatchRequest, "prompt_response_ids")],
)
def test_items_are_counted_before_they_are_validated(model: Any, key: str, fired: Fired) -> None:
    """One item too many is told before the first, which is none, was looked at."""
    with pytest.raises(ValidationError, match="100001 are too many: 100000 are the most"):
        model.model_validate({key: [None] * (MOST_ITEMS + 1)})
    fired()


async def test_a_large_body_is_looked_at_beside_the_loop() -> None:
    """The loop's own thread looks at small ones only."""

    def where(_body: bytes) -> int:
        return threading.get_ident()

    assert await aside.of_body(b"x" * 1_000, where) == threading.get_ident()
    assert await aside.of_body(b"x" * 2_000_000, where) != threading.get_ident()


@pytest.mark.row(135)
async def test_placeholders_are_counted_until_there_are_too_many(api: Api, fired: Fired) -> None:
    """A bound of names, not of the times that one is used."""
    often = "{{a}}" * 10 * MOST_PLACEHOLDERS
    many = "".join(f"{{{{a{number}}}}}" for number in range(MOST_PLACEHOLDERS + 1))
    fired()
    for text, status in ((often, 201), (many, 422)):
        messages = [{"role": "user", "content": text}]
        answer = await api("POST", "/prompt_templates", {"name": "T", "messages": messages})
        assert answer.status == status


async def test_what_was_uploaded_is_answered_as_it_is_listed(api: Api) -> None:
    """The answer is written from what was sent; reading the rows again gives the same."""
    await api.post("/collections", {"name": "C"})
    rows = [{"word": 'ä\n"\\'}, {"word": None, "deep": [{"a": 1.5}]}, {}, {"word": 'ä\n"\\'}]
    made = await api.post(BATCHES, data=jsonl(lines(rows)))
    assert [one["input_values"] for one in made] == rows
    listed = await api.items("/collections/1/entries")
    # Only the count of the collection's rows may be of the moment at which it was told.
    assert made == listed


async def test_repetitions_are_left_out_in_order(api: Api) -> None:
    """Of equal rows the first stays where it is."""
    await api.post("/collections", {"name": "C", "variables": [{"word": "b"}]})
    rows = [{"word": word} for word in "cabacb"]
    made = await api.post(f"{BATCHES}?skip_existing=true", data=jsonl(lines(rows)))
    assert [one["input_values"]["word"] for one in made] == ["c", "a"]


WHOLE = f"{BATCHES}?skip_existing=true&return_existing=true"


async def test_each_row_that_is_sent_is_answered(api: Api) -> None:
    """With return_existing: those that are there as they are, also twice, in the order sent."""
    values: list[dict[str, Any]] = [{"word": 'é\n"'}, {"word": None, "deep": [1.5]}]
    await api.post("/collections", {"name": "C", "variables": [*values, values[1]]})
    rows = [{"word": "new"}, values[1], values[0], {"word": "new"}, {"word": "last"}]
    made = await api.post(WHOLE, data=jsonl(lines(rows)))
    listed = {row["id"]: row for row in await api.items("/collections/1/entries")}

    assert [row["id"] for row in made] == [4, 2, 1, 4, 5]
    assert made == [listed[row["id"]] for row in made]
    assert await api.post(WHOLE, data=jsonl(lines(rows))) == made
    without = f"{BATCHES}?return_existing=true"
    assert [row["id"] for row in await api.post(without, data=jsonl(lines(values)))] == [6, 7]


@pytest.mark.parametrize("path", [f"{BATCHES}?skip_existing=true", WHOLE])
async def test_an_upload_that_skips_keeps_its_ids_under_its_key(api: Api, path: str) -> None:
    """And no more: the answer is told again of them, of the rows as they are then."""
    await api.post("/collections", {"name": "C", "variables": [{"word": "w7"}]})
    content = lines([{"word": f"w{number}"} for number in range(500)])
    key = {"Idempotency-Key": "k"}
    first = await api("POST", path, data=jsonl(content), headers=key)
    again = await api("POST", path, data=jsonl(content), headers=key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.body == first.body
    other = path.replace("skip_existing=true", "skip_existing=false")
    assert (await api("POST", other, data=jsonl(content), headers=key)).status == 422

    changed = {"input_values": {"word": "changed"}}
    await api("PUT", f"/collections/1/entries/{first.body[1]['id']}", changed)
    await api("DELETE", f"/collections/1/entries/{first.body[0]['id']}")
    last = await api("POST", path, data=jsonl(content), headers=key)
    assert last.headers["Idempotency-Replayed"] == "true"
    assert last.body[0]["input_values"] == {"word": "changed"}
    assert [row["id"] for row in last.body[1:]] == [row["id"] for row in first.body[2:]]

    assert len(await _kept(api)) < 30


async def test_a_large_collection_keeps_its_id_under_its_key(api: Api) -> None:
    """The answer to its creation is told again as the collection is then."""
    body = {"name": "C", "variables": [{"word": f"w{number}"} for number in range(101)]}
    key = {"Idempotency-Key": "k"}
    first = await api("POST", "/collections", body, headers=key)
    again = await api("POST", "/collections", body, headers=key)
    assert (again.body, again.headers["Idempotency-Replayed"]) == (first.body, "true")
    assert await _kept(api) == "ids 1+1"
    await api("DELETE", "/collections/1")
    assert (await api("POST", "/collections", body, headers=key)).status == 404


async def _kept(api: Api) -> str:
    """The answer that is kept under the only key."""
    assert api.server._service is not None
    return await api.server._service.database.read(
        lambda connection: connection.exec_driver_sql("SELECT answer FROM idempotency").scalar_one()
    )


@pytest.mark.parametrize("line", ['{"x": NaN}', '{"x": 1e999}', '{"x": "\\ud83d"}'])
async def test_a_row_that_cannot_be_stored(api: Api, line: str) -> None:
    """None of its upload is, and the error says so."""
    await api.post("/collections", {"name": "C"})
    answer = await api("POST", BATCHES, data=jsonl(f'{{"x": 1}}\n{line}'))
    assert answer.status == 422
    assert await api.items("/collections/1/entries") == []
