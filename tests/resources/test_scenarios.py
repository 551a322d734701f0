"""Scenario sets and scenarios by the client."""

from __future__ import annotations

from typing import Any

import pytest

from elluminate_async import (
    ConflictError,
    InputError,
    NotFoundError,
    RejectedError,
    ScenarioIn,
)
from elluminate_async.operations import new_scenarios
from tests.resources.local import local


async def test_sets_and_their_fields() -> None:
    """Found by exact name, made once, changed, and a field is named by itself, id or name."""
    async with local() as client:
        await client.scenario_sets.create("support, long")
        made, created = await client.scenario_sets.get_or_create("support", fields=["tone"])
        again, anew = await client.scenario_sets.get_or_create("support")
        assert (again, created, anew) == (made, True, False)
        assert await client.scenario_sets.get("support") == made
        assert await client.scenario_sets.get(id=made.id) == made
        found = await client.scenario_sets.list(name_search="LONG")
        assert [one.name for one in found] == ["support, long"]
        with pytest.raises(NotFoundError, match="no scenario set of exactly the name 'supp'"):
            await client.scenario_sets.get("supp")
        await client.collections.create("taken")
        with pytest.raises(RejectedError, match="a collection named 'taken' exists"):
            await client.scenario_sets.get_or_create("taken")

        talks = await client.experiments.create(
            "talks", scenario_set=made, evaluation_mode="MULTI_TURN", persona_group=1
        )
        assert talks.collection is not None
        assert talks.collection.name == "support"
        plan = await client.scenario_sets.add_field(made, "plan", default_value="free")
        assert (await client.scenario_sets.rename_field(made, plan, "tier")).name == "tier"
        assert (await client.scenario_sets.rename_field(made, "tone", "mood")).name == "mood"
        await client.scenario_sets.delete_field(made, plan.id)
        with pytest.raises(NotFoundError, match=r"no field 'tone'; it has \['mood'\]"):
            await client.scenario_sets.delete_field(made, "tone")
        changed = await client.scenario_sets.update(made, description="d")
        assert [field.name for field in changed.fields] == ["mood"]
        await client.scenario_sets.delete(made)
        assert len(await client.scenario_sets.list()) == 1


async def test_deleting_a_set_keeps_what_was_paid_for() -> None:
    """A `ConflictError` tells of its experiments' responses; with ``cascade`` they go too."""
    async with local() as client:
        talks_of = await client.scenario_sets.create("talks")
        idle_of = await client.scenario_sets.create("idle")
        collection = await client.collections.create("c", variables=[{"goal": "g"}])
        (row,) = await client.template_variables.list(collection)
        await client.prompt_templates.create("{{goal}}", "t")
        talks, idle = [
            await client.experiments.create(
                one.name,
                prompt_template=1,
                scenario_set=one,
                evaluation_mode="MULTI_TURN",
                persona_group=1,
            )
            for one in (talks_of, idle_of)
        ]
        said = [{"role": "assistant", "content": "hello"}]
        await client.responses.add(said, template_variables=row, experiment=talks)

        with pytest.raises(ConflictError, match="1 response with 0 ratings, of the"):
            await client.scenario_sets.delete(talks_of)
        await client.scenario_sets.delete(idle_of)

        assert [one.id for one in await client.experiments.list()] == [talks.id]
        assert idle.id != talks.id
        assert len(await client.responses.list(experiment=talks)) == 1
        await client.scenario_sets.delete(talks_of, cascade=True)
        assert await client.experiments.list() == []
        assert await client.responses.list(experiment=talks) == []


async def test_every_position_has_its_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that exist and those that come twice included, over several requests."""
    monkeypatch.setattr(new_scenarios, "AT_ONCE", 2)
    async with local() as client:
        support = await client.scenario_sets.create("s", fields=["tone"])
        known = await client.scenarios.add(
            {"goal": "a", "expected_conversation_outcome": "o"}, scenario_set=support
        )
        given: list[Any] = [
            ScenarioIn(goal="b", expected_conversation_outcome="o", field_values={"tone": "x"}),
            known,
            {"goal": " a ", "expected_conversation_outcome": "o", "field_values": {"tone": "x"}},
            {"goal": "b", "expected_conversation_outcome": "o", "field_values": {"tone": "x"}},
            {"goal": "b", "expected_conversation_outcome": "o"},
        ]
        batch = await client.scenarios.add_many(given, scenario_set=support)
        assert batch[1] == known
        assert [(one.goal, one.field_values["tone"]) for one in batch] == [
            *[("b", "x"), ("a", ""), ("a", "x"), ("b", "x"), ("b", "")]
        ]
        assert batch[0].id == batch[3].id
        assert [one.id async for one in client.scenarios.list(support)] == [1, 2, 3, 4]
        doubled = await client.scenarios.add_many(given, scenario_set=support, skip_existing=False)
        assert [one.id for one in doubled] == [5, 6, 7, 8, 9]

        changed = known.model_copy(update={"field_values": {"tone": "loud"}})
        assert await client.scenarios.update(changed, scenario_set=support) == changed
        await client.scenarios.delete(known, scenario_set=support)
        with pytest.raises(NotFoundError):
            await client.scenarios.get(known.id, scenario_set=support)
        assert len(await client.scenarios.add_many([], scenario_set=support)) == 0


async def test_a_later_request_that_fails_keeps_the_earlier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error has them as its partial, and the code of each of the others."""
    monkeypatch.setattr(new_scenarios, "AT_ONCE", 1)
    async with local() as client:
        support = await client.scenario_sets.create("s")
        one = {"goal": "a", "expected_conversation_outcome": "o"}
        with pytest.raises(RejectedError, match="no field 'x'") as raised:
            await client.scenarios.add_many(
                [one, {**one, "field_values": {"x": 1}}, one], scenario_set=support
            )
        partial = raised.value.partial
        assert partial[0].goal == "a"
        assert [error.code for error in partial.failed.values()] == ["http_400", "not_sent"]


@pytest.mark.parametrize(
    ("scenarios", "text"),
    [
        ([{"goal": "a"}], r"scenarios\[0\] cannot be sent: expected_conversation_outcome"),
        ([{"goal": " ", "expected_conversation_outcome": "o"}], r"scenarios\[0\] .*goal"),
        ([{"goal": "a", "tone": "x"}], r"no key 'tone': declared fields go into field_values"),
        ({"goal": "a"}, r"pass \[x\] for one"),
        ([3], r"scenarios\[0\] must be a ScenarioIn"),
        (3, r"must be a list of scenarios, not 3"),
    ],
)
async def test_what_is_no_scenario_is_refused(scenarios: Any, text: str) -> None:
    """Before anything is sent."""
    async with local() as client:
        with pytest.raises(InputError, match=text):
            await client.scenarios.add_many(scenarios, scenario_set=1)


@pytest.mark.parametrize("fields", [["goal"], ["a", "a"], ["a b"], "ab", [3]])
async def test_fields_that_cannot_be_are_refused(fields: Any) -> None:
    """Before anything is sent."""
    async with local() as client:
        with pytest.raises(InputError):
            await client.scenario_sets.create("s", fields=fields)
        assert await client.scenario_sets.list() == []
