"""Every method of scenario sets, by both clients; it checks what comes back."""

import asyncio

from elluminate import AsyncClient, Client
from elluminate.exceptions import APIError, NotFoundError
from elluminate.schemas import ScenarioIn

import whole

whole.watch()

GIVEN = [
    {"goal": "cancel", "expected_conversation_outcome": "cancelled"},
    ScenarioIn(goal="pay", expected_conversation_outcome="paid", field_values={"tone": "rude"}),
    {"goal": "cancel", "expected_conversation_outcome": "cancelled"},
]


def blocking() -> None:
    client = Client()
    support = client.create_scenario_set("support", description="d", fields=["tone"])
    assert client.get_scenario_set(name="support") == support == client.get_scenario_set(id=1)
    for clash in ("support", client.create_collection("rows").name):
        status = None
        try:
            client.create_scenario_set(clash)
        except APIError as error:
            status = error.status_code
        assert status == 400, clash
    try:
        client.get_scenario_set(name="supp")
    except NotFoundError:
        pass
    else:
        raise AssertionError("found")
    assert client.create_scenario_set().name
    experiment = client.create_experiment(
        name="talks",
        prompt_template=None,
        scenario_set=support,
        evaluation_mode="MULTI_TURN",
        persona_group_id=1,
    )
    assert experiment.collection.name == "support"
    plan = support.add_field("plan", default_value="free")
    assert support.rename_field(plan, "tier").name == "tier"
    added = support.add_scenarios(GIVEN, skip_existing=True)
    assert [one.field_values for one in added] == [
        {"tone": "", "tier": "free"},
        {"tone": "rude", "tier": "free"},
    ]
    assert support.add_scenarios(GIVEN, skip_existing=True) == []
    assert len(support.add_scenarios(GIVEN)) == 3
    assert client.get_scenario_set(id=1).scenarios_count == support.scenarios_count == 5
    first = support.get_scenario(added[0].id)
    first.goal, first.field_values = "leave", {"tone": "calm"}
    assert support.update_scenario(first).field_values == {"tone": "calm", "tier": "free"}
    support.delete_field(support.fields[1])
    assert support.list_scenarios()[0].field_values == {"tone": "calm"}
    support.delete_scenario(first)
    single = client._scenario_sets.add_scenario(support, " g ", "o")
    assert single.goal == "g"
    assert [one.id for one in support.list_scenarios()] == [2, 3, 4, 5, 6]
    assert client._scenario_sets.update(support, name="renamed").description == "d"
    assert [one.name for one in client.list_scenario_sets("RENAMED")] == ["renamed"]
    client.delete_scenario_set(support)
    assert len(client.list_scenario_sets()) == 1


async def later() -> None:
    async with AsyncClient() as client:
        support = await client.create_scenario_set("async", fields=["tone"])
        assert await client.get_scenario_set(name="async") == support
        plan = await support.aadd_field("plan")
        await support.arename_field(plan, "tier")
        added = await support.aadd_scenarios(GIVEN, skip_existing=True)
        assert len(added) == 2
        assert await support.aget_scenario(added[1].id) == added[1]
        changed = added[0].model_copy(update={"goal": "leave"})
        assert (await support.aupdate_scenario(changed)).goal == "leave"
        await support.adelete_field(support.fields[1])
        await support.adelete_scenario(changed)
        assert [one.goal for one in await support.alist_scenarios()] == ["pay"]
        await client._scenario_sets.aadd_scenario(support, "g", "o")
        await client._scenario_sets.aupdate(support, description="x")
        assert (await client.list_scenario_sets("async"))[0].scenarios_count == 2
        await client.delete_scenario_set(support)


blocking()
asyncio.run(later())
print("ok")
