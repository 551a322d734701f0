"""Operations on what experiments are made of, by this SDK."""

from __future__ import annotations

from typing import Any

from elluminate_async import AsyncClient
from tests.official.differential.given import Given
from tests.official.differential.registry import ids, operation

WORDS = [{"word": "c"}, {"word": "x"}]


@operation("open a client")
async def _(client: AsyncClient, at: Given) -> Any:
    assert await client.compatibility() is not None
    return (await client.projects.current()).id


@operation("list projects")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.projects.list())


@operation("get a project")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.projects.get(id=1)).name


@operation("create a project")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.projects.create("P", description="d", public_in_org=True)).id


@operation("create a template")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.prompt_templates.create("Spell {{word}}.", "V")
    return [made.id, made.version]


@operation("get a template by name")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.prompt_templates.get("T")).id


@operation("get or create a template that exists")
async def _(client: AsyncClient, at: Given) -> Any:
    found, created = await client.prompt_templates.get_or_create("Say {{word}}.", "T")
    return [found.id, created]


@operation("create the next version of a template")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.prompt_templates.create(
        "Shout {{word}}.", "T", parent_prompt_template=at.template
    )
    return [made.id, made.version]


@operation("list templates")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.prompt_templates.list("T"))


@operation("delete a template")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.prompt_templates.delete(at.unused)


@operation("generate criteria")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.criteria.generate_many(at.unused))


@operation("get or generate criteria that exist")
async def _(client: AsyncClient, at: Given) -> Any:
    found, created = await client.criteria.get_or_generate_many(at.template)
    return [ids(found), created]


@operation("add criteria to a template")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.criteria.add_many(["Is it kind?"], prompt_template=at.template))


@operation("list criteria")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.criteria.list(at.template))


@operation("get a criterion")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.criteria.get(at.criterion.id)).criterion_str


@operation("update a criterion")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.criteria.update(at.criterion, label="brief")).label


@operation("delete a criterion")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.criteria.delete((at.loose.criteria or [])[0])


@operation("create a criterion set")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.criterion_sets.create("R", ["Is it round?", "Is it red?"])
    return [made.id, ids(made.criteria or [])]


@operation("get or create a criterion set that exists")
async def _(client: AsyncClient, at: Given) -> Any:
    found, created = await client.criterion_sets.get_or_create("S")
    return [found.id, created]


@operation("list criterion sets")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.criterion_sets.list())


@operation("link a template with a criterion set")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.criterion_sets.link_template(at.loose, at.unused)).id


@operation("empty a criterion set")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.criteria.add_many([], criterion_set=at.loose, delete_existing=True))


@operation("delete a criterion set")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.criterion_sets.delete(at.loose)


@operation("create a collection")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.collections.create("F", description="d", variables=WORDS)
    return [made.id, made.variables_count]


@operation("get a collection by name")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.collections.get("C")).id


@operation("get or create a collection that exists")
async def _(client: AsyncClient, at: Given) -> Any:
    found, created = await client.collections.get_or_create("C")
    return [found.id, created]


@operation("list collections that fit a template")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.collections.list(compatible_prompt_template=at.template))


@operation("update a collection")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.collections.update(at.spare, name="D", description="d")).description


@operation("delete a collection")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.collections.delete(at.spare)


@operation("add a row")
async def _(client: AsyncClient, at: Given) -> Any:
    return (await client.template_variables.add_to_collection({"word": "c"}, at.spare)).id


@operation("add rows that are new")
async def _(client: AsyncClient, at: Given) -> Any:
    added = await client.template_variables.add_many(WORDS[:1], collection=at.spare)
    return ids(added)


@operation("list rows")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.template_variables.list(at.spare))


@operation("generate a row")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.template_variables.generate(
        collection=at.spare, prompt_template=at.template
    )
    return made.input_values


@operation("update a row")
async def _(client: AsyncClient, at: Given) -> Any:
    row = at.spare_rows[0]
    changed = await client.template_variables.update(row, {"word": "z"}, collection=at.spare)
    return changed.input_values


@operation("delete a row")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.template_variables.delete(at.spare_rows[0], collection=at.spare)


@operation("delete all rows")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.template_variables.delete_all(at.spare)


@operation("create a configuration")
async def _(client: AsyncClient, at: Given) -> Any:
    made = await client.llm_configs.create("M", "m", api_key="k", temperature=0.5, max_tokens=9)
    return made.id


@operation("get or create a configuration that exists")
async def _(client: AsyncClient, at: Given) -> Any:
    found, created = await client.llm_configs.get_or_create("L", "m", api_key="k")
    return [found.id, created]


@operation("list configurations")
async def _(client: AsyncClient, at: Given) -> Any:
    return ids(await client.llm_configs.list())


@operation("delete a configuration")
async def _(client: AsyncClient, at: Given) -> Any:
    await client.llm_configs.delete(at.config)
