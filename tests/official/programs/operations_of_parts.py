"""Operations on what experiments are made of, by the official client."""

from operations import ids, of, operation

WORDS = [{"word": "c"}, {"word": "x"}]


@operation("open a client")
async def _(client, at):
    return client.current_project.id


@operation("list projects")
async def _(client, at):
    return ids(await client.projects.alist_projects())


@operation("get a project")
async def _(client, at):
    return (await client.projects.aselect_project(1)).name


@operation("create a project")
async def _(client, at):
    return (await client.projects.acreate("P", "d", public_in_org=True)).id


@operation("create a template")
async def _(client, at):
    made = await client.create_prompt_template("V", "Spell {{word}}.")
    return [made.id, made.version]


@operation("get a template by name")
async def _(client, at):
    return (await client._prompt_templates.aget(name="T")).id


@operation("get or create a template that exists")
async def _(client, at):
    found, created = await client.get_or_create_prompt_template("T", "Say {{word}}.")
    return [found.id, created]


@operation("create the next version of a template")
async def _(client, at):
    made = await of(client, at.template).anew_version("Shout {{word}}.")
    return [made.id, made.version]


@operation("list templates")
async def _(client, at):
    return ids(await client.list_prompt_templates("T"))


@operation("delete a template")
async def _(client, at):
    await client.delete_prompt_template(at.unused)


@operation("generate criteria")
async def _(client, at):
    return ids(await of(client, at.unused).agenerate_criteria())


@operation("get or generate criteria that exist")
async def _(client, at):
    found, created = await of(client, at.template).aget_or_generate_criteria()
    return [ids(found), created]


@operation("add criteria to a template")
async def _(client, at):
    return ids(await client._criteria.aadd_many(["Is it kind?"], at.template))


@operation("list criteria")
async def _(client, at):
    return ids(await of(client, at.template).alist_criteria())


@operation("get a criterion")
async def _(client, at):
    return (await client._criteria.aget(id=at.criterion.id)).criterion_str


@operation("update a criterion")
async def _(client, at):
    return (await client._criteria.aedit(at.criterion.id, label="brief")).label


@operation("delete a criterion")
async def _(client, at):
    await client._criteria.adelete(at.loose.criteria[0])


@operation("create a criterion set")
async def _(client, at):
    made = await client.create_criterion_set("R", ["Is it round?", "Is it red?"])
    return [made.id, ids(made.criteria)]


@operation("get or create a criterion set that exists")
async def _(client, at):
    found, created = await client.get_or_create_criterion_set("S")
    return [found.id, created]


@operation("list criterion sets")
async def _(client, at):
    return ids(await client.list_criterion_sets())


@operation("link a template with a criterion set")
async def _(client, at):
    return (await of(client, at.loose).alink_template(at.unused)).id


@operation("empty a criterion set")
async def _(client, at):
    await of(client, at.loose).aclear()
    return []


@operation("delete a criterion set")
async def _(client, at):
    await client.delete_criterion_set(at.loose)


@operation("create a collection")
async def _(client, at):
    made = await client.create_collection("F", "d", variables=WORDS)
    return [made.id, len(made.variables)]


@operation("get a collection by name")
async def _(client, at):
    return (await client.get_collection(name="C")).id


@operation("get or create a collection that exists")
async def _(client, at):
    found, created = await client.get_or_create_collection("C")
    return [found.id, created]


@operation("list collections that fit a template")
async def _(client, at):
    return ids(await client.list_collections(at.template))


@operation("update a collection")
async def _(client, at):
    return (await client._collections.aupdate(at.spare.id, "D", description="d")).description


@operation("delete a collection")
async def _(client, at):
    await client.delete_collection(at.spare)


@operation("add a row")
async def _(client, at):
    return (await client._template_variables.aadd_to_collection({"word": "c"}, at.spare)).id


@operation("add rows that are new")
async def _(client, at):
    return ids(await of(client, at.spare).aadd_many(WORDS[:1], skip_existing=True))


@operation("list rows")
async def _(client, at):
    return ids(await client._template_variables.alist(at.spare))


@operation("generate a row")
async def _(client, at):
    return (await of(client, at.spare).agenerate_variables(at.template)).input_values


@operation("update a row")
async def _(client, at):
    row = at.spare_rows[0]
    changed = await client._template_variables.aupdate(row.id, at.spare, input_values={"word": "z"})
    return changed.input_values


@operation("delete a row")
async def _(client, at):
    await client._template_variables.adelete(at.spare_rows[0], at.spare)


@operation("delete all rows")
async def _(client, at):
    await client._template_variables.adelete_all(at.spare)


@operation("create a configuration")
async def _(client, at):
    made = await client.create_llm_config("M", "m", "k", temperature=0.5, max_tokens=9)
    return made.id


@operation("get or create a configuration that exists")
async def _(client, at):
    found, created = await client.get_or_create_llm_config(
        "L", {"llm_model_name": "m", "api_key": "k"}
    )
    return [found.id, created]


@operation("list configurations")
async def _(client, at):
    return ids(await client._llm_configs.alist())


@operation("delete a configuration")
async def _(client, at):
    await client.delete_llm_config(at.config)
