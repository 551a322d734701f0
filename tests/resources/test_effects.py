"""The effect of each method of a noun is seen on the service afterwards, by another request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import pytest

from elluminate_async import AsyncClient, Column, NotFoundError, PromptTemplate
from elluminate_async.testing import VIRTUAL_TIME
from tests.resources.local import local


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


class Thing(Protocol):
    @property
    def id(self) -> int | None: ...


def ids(things: Iterable[Thing]) -> list[int | None]:
    return [one.id for one in things]


async def template_of(client: AsyncClient) -> PromptTemplate:
    return await client.prompt_templates.create("Say {{word}}.", "T")


async def test_projects() -> None:
    """Made, found by name and id, and listed; a client works in one of them."""
    async with local() as client:
        here = await client.projects.current()
        made = await client.projects.create("P", description="d", public_in_org=True)

        assert (made.description, made.public_in_org) == ("d", True)
        assert await client.projects.get("P") == await client.projects.get(id=made.id) == made
        assert ids(await client.projects.list()) == [here.id, made.id]
        assert (await client.projects.current()).id == here.id


async def test_templates() -> None:
    """Versions of a name, the newest first; equal ones are one, and one goes alone."""
    async with local() as client:
        first = await template_of(client)
        assert await client.prompt_templates.get_or_create("Say {{word}}.", "T") == (first, False)
        newer = await client.prompt_templates.create("Tell {{word}}.", "T")

        assert newer.version == 2
        assert await client.prompt_templates.get("T") == newer
        assert await client.prompt_templates.get("T", version=1) == first
        assert await client.prompt_templates.get(id=first.id) == first
        assert ids(await client.prompt_templates.list("T")) == [newer.id, first.id]
        assert first.render_messages(word="x")[0]["content"] == "Say x."
        await client.prompt_templates.delete(newer)
        assert ids(await client.prompt_templates.list()) == [first.id]


async def test_criteria() -> None:
    """Proposed once, proposed anew, given, changed and taken away."""
    async with local() as client:
        template, of = await template_of(client), client.criteria
        proposed, created = await of.get_or_generate_many(template)
        assert (await of.get_or_generate_many(template), created) == ((proposed, False), True)
        anew = await of.generate_many(template, delete_existing=True)
        assert ids(await of.list(template)) == ids(anew) != ids(proposed)
        (given,) = await of.add_many(["Is it?"], prompt_template=template, delete_existing=True)
        assert await of.list(template) == [given]

        changed = await of.update(given, label="brief")
        assert (changed.label, changed.criterion_str) == ("brief", "Is it?")
        assert await of.get(given.id) == changed
        await of.delete(given)
        assert await of.list(template) == []


async def test_criterion_sets() -> None:
    """Made once, filled, emptied, linked with a template, and taken away with its criteria."""
    async with local() as client:
        template, of = await template_of(client), client.criterion_sets
        made = await of.create("S", ["Is it?"])
        again, created = await of.get_or_create("S")
        assert (again.id, created) == (made.id, False)
        more = await client.criteria.add_many(["Was it?"], criterion_set=made)
        found = await of.get("S")
        assert ids(found.criteria or []) == [*ids(made.criteria or []), *ids(more)]

        await of.link_template(made, template)
        assert ids(await client.prompt_templates.list(criterion_set=made)) == [template.id]
        assert ids(await client.criteria.list(template)) == ids(found.criteria or [])
        await of.unlink_template(made, template)
        assert await client.prompt_templates.list(criterion_set=made) == []

        await client.criteria.add_many([], criterion_set=made, delete_existing=True)
        assert (await of.get(id=made.id)).criteria == []
        await of.delete(made)
        assert made.id not in ids(await of.list())


async def test_collections() -> None:
    """Made once, found by name and id, changed, listed for a template, and taken away."""
    async with local() as client:
        template, of = await template_of(client), client.collections
        made = await of.create("C", variables=[{"word": "a"}])
        again, created = await of.get_or_create("C")
        assert (again.id, created) == (made.id, False)
        other = await of.create("D", columns=["else"])
        assert ids(await of.list()) == [made.id, other.id]
        assert ids(await of.list(compatible_prompt_template=template)) == [made.id]

        await of.update(made, name="E", description="d")
        found = await of.get("E")
        assert (found.id, found.description, found.variables_count) == (made.id, "d", 1)
        assert await of.get(id=made.id) == found
        await of.delete(made)
        with pytest.raises(NotFoundError):
            await of.get(id=made.id)


async def test_rows() -> None:
    """Added singly and together, made by a model, changed, and taken away singly and together."""
    async with local() as client:
        template, of = await template_of(client), client.template_variables
        collection = await client.collections.create("C", columns=["word"])
        one = await of.add_to_collection({"word": "a"}, collection)
        two, three = await of.add_many([{"word": "b"}, {"word": "c"}], collection=collection)
        made = await of.generate(collection=collection, prompt_template=template)
        assert set(made.input_values) == {"word"}
        assert ids(await of.list(collection)) == ids([one, two, three, made])

        await of.update(two, {"word": "d"}, collection=collection)
        assert (await of.get(two.id, collection=collection)).input_values == {"word": "d"}
        await of.delete(one, collection=collection)
        assert ids(await of.list(collection)) == ids([two, three, made])
        await of.delete_all(collection)
        assert await of.list(collection) == []


async def test_llm_configs() -> None:
    """Made once, found by name and id, listed without their keys, and taken away."""
    async with local() as client:
        of = client.llm_configs
        before = ids(await of.list())
        made = await of.create("L", "m", api_key="secret", temperature=0.5)
        again, created = await of.get_or_create("L", "m")
        assert (again.id, created) == (made.id, False)

        found = await of.get("L")
        assert await of.get(id=made.id or 0) == found
        assert (found.llm_model_name, found.temperature, found.api_key) == ("m", 0.5, None)
        assert ids(await of.list()) == [*before, made.id]
        await of.delete(made)
        assert ids(await of.list()) == before


async def test_experiments() -> None:
    """Made once, run and rated, found with results, cloned, listed, and taken away."""
    async with local() as client:
        template, of = await template_of(client), client.experiments
        await client.criteria.add_many(["Is it?"], prompt_template=template)
        rows = [{"word": "a"}, {"word": "b"}]
        collection = await client.collections.create("C", variables=rows)
        made = await of.create(
            "E", prompt_template=template, collection=collection, description="d"
        )
        again, created = await of.get_or_create(
            "E", prompt_template=template, collection=collection
        )
        assert (again.id, created) == (made.id, False)

        await of.run(made, n_epochs=2)
        found = await of.get("E")
        assert found.results is not None
        assert (found.results.num_rated_responses, found.description) == (4, "d")
        assert await of.get(id=made.id) == found
        texts = [one.response_str for one in await client.responses.list(experiment=made)]
        assert sorted(set(texts)) == ["echo Say a.", "echo Say b."]

        copy = await of.clone(made, "F")
        assert (copy.description, copy.results) == ("d", None)
        assert ids([copy.collection or made]) == ids([made.collection or copy])
        assert ids(await of.list(collection=collection)) == [made.id, copy.id]
        await of.delete(made)
        assert ids(await of.list()) == [copy.id]
        assert await client.responses.list(collection=collection) == []


async def test_responses_and_ratings() -> None:
    """Generated and stored singly, found, noted, rated, and taken away with their ratings."""
    async with local() as client:
        template, of = await template_of(client), client.responses
        await client.criteria.add_many(["Is it?"], prompt_template=template)
        collection = await client.collections.create("C", variables=[{"word": "a"}])
        (row,) = await client.template_variables.list(collection)
        experiment = await client.experiments.create(
            "E", prompt_template=template, collection=collection
        )
        made = await of.generate(template_variables=row, experiment=experiment)
        stored = await of.add("as given", template_variables=row, experiment=experiment, epoch=2)
        assert (made.response_str, stored.response_str) == ("echo Say a.", "as given")
        assert ids(await of.list(experiment=experiment)) == [made.id, stored.id]
        assert ids(await of.list(experiment=experiment, epoch=2)) == [stored.id]

        await of.update(stored, annotation="odd")
        (rating,) = await client.ratings.rate(stored)
        found = await of.get(stored.id or 0)
        assert (found.annotation, ids(found.ratings)) == ("odd", [rating.id])
        assert ids(await client.ratings.list(stored)) == [rating.id]
        await of.delete(stored)
        assert ids(await of.list(experiment=experiment)) == [made.id]
        assert await client.ratings.list(stored) == []


async def test_a_conversation_is_kept_as_it_was_given() -> None:
    """A cell of a column of that type is an object, with all that it has."""
    talk = {
        "schema_version": "elluminate.uce/1",
        "input": {"messages": [{"role": "user", "content": "Hi"}], "tool_choice": "auto"},
    }
    async with local() as client:
        columns = [Column(name="talk", column_type="conversation")]
        collection = await client.collections.create("C", columns=columns)
        row = await client.template_variables.add_to_collection({"talk": talk}, collection)

        assert (await client.collections.get("C")).columns[0].column_type == "conversation"
        found = await client.template_variables.get(row.id, collection=collection)
        assert found.input_values == {"talk": talk}
