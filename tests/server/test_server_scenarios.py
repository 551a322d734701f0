"""Scenario sets over plain HTTP: names, fields, scenarios, and what survives a restart."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async.server import LocalServer
from elluminate_async.testing import VIRTUAL_TIME
from tests.server.api import Api
from tests.server.earlier import to_version_4

if TYPE_CHECKING:
    from pathlib import Path

    import aiohttp


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


def scenario(goal: str = "cancel", outcome: str = "it is cancelled", **values: Any) -> Any:
    return {"goal": goal, "expected_conversation_outcome": outcome, "field_values": values}


async def test_names_of_sets(api: Api) -> None:
    """A set and a collection have no name in common, a name left out is invented, 400 tells."""
    first = await api.post("/scenario-sets", {"name": "S", "description": "d"})
    assert {key: first[key] for key in ("name", "description", "fields", "scenarios_count")} == {
        "name": "S",
        "description": "d",
        "fields": [],
        "scenarios_count": 0,
    }
    assert (first["read_only"], first["is_platform_builtin"], first["version"]) == (
        False,
        False,
        None,
    )
    invented = await api.post("/scenario-sets", {})
    assert invented["name"]
    await api.post("/collections", {"name": "C"})
    for path, name in [("/scenario-sets", "S"), ("/scenario-sets", "C"), ("/collections", "S")]:
        refused = await api("POST", path, {"name": name})
        assert refused.status == 400
        assert "exists already" in refused.body["detail"]
    assert (await api("PUT", "/scenario-sets/2", {"name": "S"})).status == 400
    changed = await api("PUT", "/scenario-sets/2", {"name": "T", "description": "x"})
    assert (changed.body["name"], changed.body["description"]) == ("T", "x")
    assert [one["name"] for one in await api.items("/scenario-sets?name_search=s")] == ["S"]
    assert (await api("DELETE", "/scenario-sets/1")).status == 204
    assert (await api("GET", "/scenario-sets/1")).status == 404


async def test_sets_come_in_pages(api: Api) -> None:
    """A hundred a page, in order of creation, also of a search."""
    for number in range(101):
        await api.post("/scenario-sets", {"name": f"n{number}"})
    page = await api.get("/scenario-sets?name_search=N&page=2")
    assert ([one["name"] for one in page["items"]], page["count"]) == (["n100"], 101)


@pytest.mark.parametrize(
    "name", ["goal", "expected_conversation_outcome", "1a", "a b", "", "a" * 101, "known"]
)
async def test_names_that_no_field_may_have(api: Api, name: str) -> None:
    """Neither at the set's creation nor later: the own ones, those that are none, doubles."""
    assert (await api("POST", "/scenario-sets", {"fields": ["known", name]})).status == 400
    assert await api.items("/scenario-sets") == []
    await api.post("/scenario-sets", {"name": "S", "fields": ["known", "other"]})
    assert (await api("POST", "/scenario-sets/1/fields", {"name": name})).status == 400
    renamed = await api("PUT", "/scenario-sets/1/fields/2", {"name": name})
    assert renamed.status == 400


async def test_fields_and_their_values(api: Api) -> None:
    """Added with its default, renamed with its values, deleted with them; others stay."""
    await api.post("/scenario-sets", {"name": "S", "fields": ["tone"]})
    await api.post("/scenario-sets/1/scenarios", scenario(tone="rude"))
    added = await api.post("/scenario-sets/1/fields", {"name": "plan", "default_value": "free"})
    assert added == {"id": 2, "name": "plan", "field_type": "text", "default_value": "free"}
    made = await api.post("/scenario-sets/1/scenarios", scenario("b"))
    assert made["field_values"] == {"tone": "", "plan": "free"}
    renamed = await api("PUT", "/scenario-sets/1/fields/1", {"name": "mood"})
    assert renamed.body["name"] == "mood"
    values = [one["field_values"] for one in await api.items("/scenario-sets/1/scenarios")]
    assert values == [{"mood": "rude", "plan": "free"}, {"mood": "", "plan": "free"}]
    changed = {"name": "plan", "default_value": "paid"}
    assert (await api("PUT", "/scenario-sets/1/fields/2", changed)).body["default_value"] == "paid"
    assert (await api("DELETE", "/scenario-sets/1/fields/1")).status == 204
    assert (await api("DELETE", "/scenario-sets/1/fields/1")).status == 404
    await api.post("/scenario-sets/1/fields", {"name": "mood", "default_value": "calm"})
    values = [one["field_values"] for one in await api.items("/scenario-sets/1/scenarios")]
    assert values == [{"plan": "free", "mood": "calm"}] * 2
    undeclared = await api("POST", "/scenario-sets/1/scenarios", scenario(tone="x"))
    assert (undeclared.status, "no field 'tone'" in undeclared.body["detail"]) == (400, True)


async def test_scenarios_one_by_one(api: Api) -> None:
    """Replaced as a whole, with defaults for what is left out; blank ones are refused."""
    await api.post("/scenario-sets", {"name": "S", "fields": ["tone"]})
    await api.post("/scenario-sets", {"name": "other"})
    made = await api.post("/scenario-sets/1/scenarios", scenario(" a ", tone={"deep": [1]}))
    assert (made["goal"], made["field_values"]) == ("a", {"tone": {"deep": [1]}})
    changed = await api("PUT", "/scenario-sets/1/scenarios/1", scenario("b"))
    assert changed.body == {**made, "goal": "b", "field_values": {"tone": ""}}
    assert await api.get("/scenario-sets/1/scenarios/1") == changed.body
    assert (await api("GET", "/scenario-sets/2/scenarios/1")).status == 404
    assert (await api("POST", "/scenario-sets/1/scenarios", scenario("  "))).status == 422
    assert (await api.get("/scenario-sets/1"))["scenarios_count"] == 1
    assert (await api("DELETE", "/scenario-sets/1/scenarios/1")).status == 204
    assert (await api.get("/scenario-sets/1"))["scenarios_count"] == 0


async def test_equal_scenarios_are_skipped(api: Api) -> None:
    """Those that the set has and those within one list, defaults filled in; else all are made."""
    await api.post("/scenario-sets", {"name": "S", "fields": ["tone"]})
    some = [scenario("a"), scenario("b"), scenario("a", tone=""), scenario("a", tone="rude")]
    path = "/scenario-sets/1/scenarios/batch"
    made = await api.post(path, {"scenarios": some, "skip_existing": True})
    assert [(one["goal"], one["field_values"]["tone"]) for one in made] == [
        ("a", ""),
        ("b", ""),
        ("a", "rude"),
    ]
    again = {"scenarios": [*some, scenario("c")], "skip_existing": True}
    assert [one["goal"] for one in await api.post(path, again)] == ["c"]
    assert len(await api.post(path, {"scenarios": some})) == 4
    key = {"Idempotency-Key": "k"}
    first = await api("POST", path, {"scenarios": some}, headers=key)
    assert (await api("POST", path, {"scenarios": some}, headers=key)).body == first.body
    assert (await api.get("/scenario-sets/1"))["scenarios_count"] == 12


async def test_an_experiment_on_a_set(api: Api) -> None:
    """It shows the set as its collection, which no client reads an experiment without."""
    body = {
        "name": "E",
        "scenario_set_id": 1,
        "persona_group_id": 7,
        "evaluation_mode": "MULTI_TURN",
    }
    assert (await api("POST", "/experiments", body)).status == 404
    await api.post("/scenario-sets", {"name": "S", "fields": ["tone"]})
    await api.post("/scenario-sets/1/scenarios", scenario())
    both = await api("POST", "/experiments", {**body, "collection_id": 1})
    assert (both.status, "not both" in str(both.body)) == (422, True)
    made = await api.post("/experiments", body)
    shown = made["collection"]
    assert (shown["name"], shown["collection_type"]) == ("S", "PERSONA")
    assert shown["variables_count"] == 1
    names = [column["name"] for column in shown["columns"]]
    assert names == ["goal", "expected_conversation_outcome", "tone"]
    assert (await api("DELETE", "/scenario-sets/1")).status == 204
    assert (await api("GET", "/experiments/1")).status == 404


async def test_sets_survive_restarts_and_upgrades(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """A database of before there were any has them after its upgrade, and keeps them."""
    path = tmp_path / "s.db"
    async with LocalServer(db=path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        to_version_4(raw)
    async with LocalServer(db=path) as server:
        api = Api(session, server)
        await api.post("/scenario-sets", {"name": "S", "fields": ["tone"]})
        made = await api.post("/scenario-sets/1/scenarios", scenario(tone="ä"))
    async with LocalServer(db=path) as server:
        assert await Api(session, server).items("/scenario-sets/1/scenarios") == [made]
