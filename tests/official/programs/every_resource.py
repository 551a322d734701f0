"""Every method of every resource, by any version: each does what it says, and is seen to."""

import elluminate
from elluminate.schemas import RatingMode
from elluminate.schemas.criterion import CriterionIn
from elluminate.schemas.response import PromptResponseFilter

MAJOR, MINOR = map(int, elluminate.__version__.split(".")[:2])
# Until 1.0 the resources are public, what has an id has a method of its own, jobs are streamed.
EARLY = MAJOR == 0
LATE = (MAJOR, MINOR) >= (1, 5)
POLLED = {} if EARLY else {"polling_interval": 0.1}
ROWS = [{"word": "a"}, {"word": "b"}]


def resource(client, name):
    """An attribute up to 0.7, a private one later."""
    return getattr(client, name if EARLY else f"_{name}")


def resources(client):
    """All of them, by the names of their attributes."""
    return {name: value for name, value in vars(client).items() if hasattr(value, "_client")}


def ids(found):
    return [one.id for one in found]


def by_id(call, owner, **named):
    return call(owner, "get_by_id" if EARLY else "get", **named)


def projects(client, call, tag):
    call(client, "check_version")
    here = call(client.projects, "load_project")
    made = call(client.projects, "create", f"P {tag}", description="told")
    assert (made.name, made.description) == (f"P {tag}", "told")
    assert {here.id, made.id} <= set(ids(call(client.projects, "list_projects")))
    assert call(client.projects, "select_project", made.id) == made
    assert call(client.projects, "select_project", here.id) == here


def templates(client, call, tag):
    owner = resource(client, "prompt_templates")
    made = call(owner, "create", "Say {{word}}.", name=f"T {tag}")
    template = made[0] if isinstance(made, tuple) else made
    again, created = call(owner, "get_or_create", "Say {{word}}.", name=f"T {tag}")
    assert (again.id, created) == (template.id, False)
    newer, created = call(
        owner, "get_or_create", "Tell {{word}}.", name=f"T {tag}", parent_prompt_template=template
    )
    assert (newer.version, created) == (2, True)
    assert call(owner, "get", name=f"T {tag}").id == newer.id
    assert call(owner, "get", name=f"T {tag}", version=1).id == template.id
    assert by_id(call, owner, id=template.id).placeholders == {"word"}
    assert ids(call(owner, "list", name=f"T {tag}")) == [newer.id, template.id]
    call(owner, "delete", newer)
    assert ids(call(owner, "list", name=f"T {tag}")) == [template.id]
    return template


def criteria(client, call, template):
    owner = resource(client, "criteria")
    made, created = call(owner, "get_or_generate_many", template)
    assert created
    assert ids(call(owner, "get_or_generate_many", template)[0]) == ids(made)
    assert call(owner, "generate_many", template, delete_existing=True)
    given = ["Is it said?", CriterionIn(criterion_str="Is it short?", label="short")]
    own = call(owner, "add_many", given, template, delete_existing=True)
    assert [one.criterion_str for one in own] == ["Is it said?", "Is it short?"]
    assert ids(call(owner, "list", template)) == ids(own)
    assert by_id(call, owner, id=own[1].id).label == "short"
    if LATE:
        assert call(owner, "edit", own[1].id, label="brief").criterion_str == "Is it short?"
        assert by_id(call, owner, id=own[1].id).label == "brief"
    call(owner, "delete", own[1])
    assert ids(call(owner, "list", template)) == [own[0].id]
    call(owner, "add_many", ["Is it said?", "Is it short?"], template)


def criterion_sets(client, call, tag, template):
    owner = resource(client, "criterion_sets")
    linked = "prompt_templates" if EARLY else "linked_prompt_templates"
    made = call(owner, "create", f"S {tag}", criteria=["Is it true?"])
    again, created = call(owner, "get_or_create", f"S {tag}")
    assert (again.id, created) == (made.id, False)
    assert call(owner, "get", name=f"S {tag}").id == by_id(call, owner, id=made.id).id == made.id
    assert made.id in ids(call(owner, "list"))
    found = call(owner, "add_prompt_template", made, template)
    assert ids(getattr(found, linked)) == [template.id]
    fitting = call(resource(client, "prompt_templates"), "list", criterion_set=made)
    assert ids(fitting) == [template.id]
    call(owner, "remove_prompt_template", made, template)
    assert not getattr(by_id(call, owner, id=made.id), linked)
    call(owner, "delete", made)
    assert made.id not in ids(call(owner, "list"))


def collections(client, call, tag, template):
    owner = resource(client, "collections")
    collection = call(owner, "create", f"C {tag}", variables=ROWS)
    again, created = call(owner, "get_or_create", f"C {tag}")
    assert (again.id, created, len(again.variables)) == (collection.id, False, 2)
    by_name = call(owner, "get", name=f"C {tag}")
    assert by_name.id == by_id(call, owner, id=collection.id).id == collection.id
    assert collection.id in ids(call(owner, "list", compatible_prompt_template=template))
    fitting = call(resource(client, "prompt_templates"), "list", compatible_collection=collection)
    assert template.id in ids(fitting)
    call(owner, "update", collection.id, f"C {tag}", description="told")
    assert by_id(call, owner, id=collection.id).description == "told"
    rows(client, call, call(owner, "create", f"D {tag}"), template)
    return collection


def rows(client, call, other, template):
    owner = resource(client, "template_variables")
    added = call(owner, "add_to_collection", {"word": "c"}, other)
    found = by_id(call, owner, collection_id=other.id, id=added.id)
    assert found.input_values == {"word": "c"}
    made = call(owner, "generate", other, template)
    assert set(made.input_values) == {"word"}
    more = call(owner, "add_many_to_collection", [{"word": "d"}], other)
    assert ids(call(owner, "list", other)) == [added.id, made.id, more[0].id]
    if LATE:
        changed = call(owner, "update", added.id, other, input_values={"word": "e"})
        assert (changed.id, changed.input_values) == (added.id, {"word": "e"})
    call(owner, "delete", added, other)
    assert ids(call(owner, "list", other)) == [made.id, more[0].id]
    call(owner, "delete_all", other)
    assert call(owner, "list", other) == []
    call(resource(client, "collections"), "delete", other)
    assert other.id not in ids(call(resource(client, "collections"), "list"))


def llm_configs(client, call, tag):
    owner = resource(client, "llm_configs")
    given = {"llm_model_name": "m", "api_key": "secret"}
    config = call(owner, "create", f"L {tag}", **given)
    again, created = call(owner, "get_or_create", f"L {tag}", **given)
    assert (again.id, created) == (config.id, False)
    assert call(owner, "get", name=f"L {tag}").id == by_id(call, owner, id=config.id).id
    if not EARLY:
        assert config.id in ids(call(owner, "list"))
    call(owner, "delete", config)


def experiments(client, call, tag, template, collection):
    owner = resource(client, "experiments")
    both = {"prompt_template": template, "collection": collection}
    experiment, created = call(owner, "get_or_create", f"E {tag}", **both)
    assert created
    assert call(owner, "get_or_create", f"E {tag}", **both)[0].id == experiment.id
    waiting = [(owner, "create", {"name": f"run {tag}", **both, "generate": True, "block": True})]
    if EARLY:
        run = call(owner, "create", **waiting[0][2])
    else:
        later = call(owner, "create", f"later {tag}", **both)
        run, ran = call.together(*waiting, (owner, "run", {"experiment": later, "n_epochs": 2}))
        assert ran.results.num_rated_responses == 4
        call(owner, "delete", ran)
    assert run.results.num_rated_responses == 2
    assert len(call(owner, "get", name=f"run {tag}").rated_responses) == 2
    assert by_id(call, owner, id=experiment.id).id == experiment.id
    assert ids(call(owner, "list", **both)) == [experiment.id, run.id]
    if LATE:
        assert ids(call(owner, "retry_failed", run).rated_responses) == ids(run.rated_responses)
        assert call(owner, "get_map", run).num_responses == 2
    return run, experiment


def responses(client, call, template, collection, run, experiment):
    owner = resource(client, "responses")
    first, second = call(resource(client, "template_variables"), "list", collection)
    # 0.6 names the template of a response with each call.
    to = {"experiment": experiment} | (
        {"prompt_template": template} if (MAJOR, MINOR) < (0, 7) else {}
    )
    added = call(owner, "add", "as given", template_variables=first, **to)
    assert added.messages[-1].content == "as given"
    one = call(owner, "generate", template_variables=second, **to)
    assert "Say b." in one.messages[-1].content
    batch = {"template_variables": [first, second], **to, **POLLED}
    more = call(owner, "add_many", ["x", "y"], **{**batch, **({} if EARLY else {"epoch": 2})})
    assert [found.messages[-1].content for found in more] == ["x", "y"]
    many = call(owner, "generate_many", **batch)
    # Until 1.0 all responses of the experiment come back.
    many = many if EARLY else [added, one, *more, *many]
    assert len(many) == 6
    assert ids(call(owner, "list", experiment=experiment)) == ids(many)
    epoch = PromptResponseFilter(experiment_id=experiment.id, epoch=2)
    assert len(call(owner, "list", filters=epoch)) == (0 if EARLY else 2)
    if LATE:
        assert call(owner, "get", id=added.id).messages == added.messages
    ratings(client, call, added, many)

    assert call(owner, "update_annotation", added.id, "odd").annotation == "odd"
    samples = call(owner, "list_samples", experiment, show_only_annotated_responses=True)
    assert [found.prompt_response_ids for found in samples] == [[added.id]]
    assert call(owner, "get_stats", days=7).total_responses >= 5
    if not EARLY:
        both = call(owner, "list_comparison_samples", run, experiment)
        assert {one.experiment_id for one in both} == {run.id, experiment.id}
    call(owner, "delete", added)
    assert added.id not in ids(call(owner, "list", experiment=experiment))
    call(resource(client, "experiments"), "delete", run)
    assert run.id not in ids(call(resource(client, "experiments"), "list", collection=collection))


def ratings(client, call, one, many):
    owner = resource(client, "ratings")
    assert len(call(owner, "rate", one)) == 2
    assert len(call(owner, "list", one)) == 2
    rated = call(owner, "rate_many", many, rating_mode=RatingMode.FAST, **POLLED)
    assert [len(found) for found in rated] == [2] * len(many)


def flow(client, call, tag):
    """The experiment that it leaves, of five responses."""
    projects(client, call, tag)
    template = templates(client, call, tag)
    criterion_sets(client, call, tag, template)
    criteria(client, call, template)
    collection = collections(client, call, tag, template)
    llm_configs(client, call, tag)
    run, experiment = experiments(client, call, tag, template, collection)
    responses(client, call, template, collection, run, experiment)
    return experiment
