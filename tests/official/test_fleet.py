"""Each version of the official client can read whatever any client has stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from elluminate_async import AsyncClient, Column, GenerationMetadata
from tests.official.test_official_clients import KEY, run, server

if TYPE_CHECKING:
    from tests.server.program import Program

__all__ = ["server"]

pytestmark = [pytest.mark.official, pytest.mark.anyio]

VERSIONS = ("0.6.12", "0.7.3", "1.0.6", "1.5.2")
COLUMN_TYPES = ("text", "json", "category", "conversation", "raw_input", "persona_goal")
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "As told."},
    {"role": "user", "content": "And then?"},
    {"role": "assistant", "content": "Nothing."},
]


async def store(client: AsyncClient) -> None:
    """One of each thing that the first clients did not know."""
    types = await client.collections.create(
        "types",
        variables=[dict.fromkeys(COLUMN_TYPES, "x")],
        columns=[Column(name=one, column_type=one) for one in COLUMN_TYPES],
    )
    await client.collections.create("personas", collection_type="PERSONA")
    template, _ = await client.prompt_templates.get_or_create("Of {{text}}.", name="of text")
    await client.criteria.add_many(["Is it told?"], prompt_template=template)
    (row,) = await client.template_variables.list(collection=types)
    experiment = await client.experiments.create(
        "talks", prompt_template=template, collection=types
    )
    response = await client.responses.add(
        TALK,
        template_variables=row,
        experiment=experiment,
        metadata=GenerationMetadata(input_tokens=3),
    )
    await client.ratings.rate(response)
    agents = await client.collections.create(
        "tasks",
        collection_type="AGENTIC",
        variables=[{"task": "sort", "instruction": "Sort it."}],
    )
    criterion_set = await client.criterion_sets.create("of agents", criteria=["Is it sorted?"])
    agentic = await client.experiments.create(
        "agents", collection=agents, criterion_set=criterion_set, evaluation_mode="AGENTIC"
    )
    await client.agent_results.upload(
        agentic,
        [{"task_name": "sort", "messages": [{"role": "assistant", "content": "Sorted."}]}],
        evaluate=False,
    )
    scenarios = await client.scenario_sets.create("calls")
    await client.experiments.create(
        "calls to come", scenario_set=scenarios, evaluation_mode="MULTI_TURN", persona_group=1
    )


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_older_client_reads_what_newer_ones_store(server: Program, version: str) -> None:
    """All listings of a project with words that came later, experiments without a template."""
    async with AsyncClient(base_url=server.url, api_key=KEY) as client:
        await store(client)

    assert json.loads(run(version, "fleet.py", server.url)) == {
        "collections": 3,
        "rows": 2,
        "experiments": 3,
        "templates": 1,
        "sets": 3,
        "responses": 2,
        "ratings": 1,
    }


async def test_each_version_reads_what_all_of_them_store(server: Program) -> None:
    """Whoever stored it."""
    for version in VERSIONS:
        assert run(version, "store.py", server.url) == "ok\n"

    read = [json.loads(run(version, "fleet.py", server.url)) for version in VERSIONS]

    assert read[0]["experiments"] == read[0]["responses"] == read[0]["ratings"] == len(VERSIONS)
    assert all(one == read[0] for one in read)
