"""Every method of a client of 1.0.6 or 1.5.2 and of what it answers, but for those of resources."""

import elluminate
from elluminate.schemas import (
    CriterionSet,
    Experiment,
    PromptTemplate,
    RatingMode,
    TemplateVariablesCollectionWithEntries,
)

from every_resource import LATE, ROWS, ids

MODELS = (CriterionSet, Experiment, PromptTemplate, TemplateVariablesCollectionWithEntries)


def templates(client, call, tag):
    template = call(client, "create_prompt_template", f"MT {tag}", "Say {{word}}.")
    again, created = call(client, "get_or_create_prompt_template", f"MT {tag}", "Say {{word}}.")
    assert (again.id, created) == (template.id, False)
    newer = call(template, "new_version", "Tell {{word}}.")
    assert newer.version == 2
    assert call(client, "get_prompt_template", name=f"MT {tag}").id == newer.id
    assert call(client, "get_prompt_template", id=template.id).id == template.id
    assert ids(call(client, "list_prompt_templates", f"MT {tag}")) == [newer.id, template.id]
    call(client, "delete_prompt_template", newer)
    assert call(client, "get_prompt_template", name=f"MT {tag}", version=1).id == template.id
    assert call(template, "render_messages", word="x")[0]["content"] == "Say x."

    made, created = call(template, "get_or_generate_criteria")
    assert created
    assert ids(call(template, "list_criteria")) == ids(made)
    new = call(template, "generate_criteria", delete_existing=True)
    assert ids(call(template, "list_criteria")) == ids(new)
    return template


def collections(client, call, tag, template):
    collection = call(client, "create_collection", f"MC {tag}", variables=ROWS)
    again, created = call(client, "get_or_create_collection", f"MC {tag}")
    assert (again.id, created) == (collection.id, False)
    other = call(client, "create_collection", f"MD {tag}", columns=["word"])
    added = call(other, "add_many", ROWS)
    if LATE:
        assert call(other, "add_many", ROWS, skip_existing=True) == []
    made = call(other, "generate_variables", template)
    found = call(client, "get_collection", name=f"MD {tag}")
    assert ids(call(found, "items")) == [*ids(added), made.id]
    assert list(call(call(other, "clear"), "items")) == []
    assert call(client, "get_collection", id=other.id).variables == []
    call(client, "delete_collection", other)
    fitting = ids(call(client, "list_collections", template))
    assert (collection.id in fitting, other.id in fitting) == (True, False)
    return collection


def criterion_sets(client, call, tag, template):
    own = call(client, "create_criterion_set", f"MS {tag}", ["Is it true?"])
    again, created = call(client, "get_or_create_criterion_set", f"MS {tag}")
    assert (again.id, created) == (own.id, False)
    assert call(own, "add_criterion", "Is it long?").criterion_str == "Is it long?"
    assert len(call(own, "add_criteria", ["Is it brief?", "Is it kind?"])) == 2
    assert len(call(client, "get_criterion_set", name=f"MS {tag}").criteria) == 4
    call(own, "clear")
    assert call(client, "get_criterion_set", id=own.id).criteria == []
    call(own, "add_criteria", ["Is it short?", "Is it a word?"])
    before = call(client, "get_prompt_template", id=template.id).criterion_set_id
    call(own, "link_template", template)
    assert call(client, "get_prompt_template", id=template.id).criterion_set_id == own.id
    call(own, "unlink_template", template)
    assert call(client, "get_prompt_template", id=template.id).criterion_set_id != own.id
    call(client, "delete_criterion_set", call(client, "get_criterion_set", id=before))
    assert {own.id, before} & set(ids(call(client, "list_criterion_sets"))) == {own.id}
    return own


def llm_configs(client, call, tag):
    given = {"llm_model_name": "m", "api_key": "secret"}
    config = call(client, "create_llm_config", f"ML {tag}", **given)
    again, created = call(client, "get_or_create_llm_config", f"ML {tag}", given)
    assert (again.id, created) == (config.id, False)
    assert call(client, "get_llm_config", name=f"ML {tag}").id == config.id
    assert call(client, "get_llm_config", id=config.id).llm_model_name == "m"
    call(client, "delete_llm_config", config)


def run_all(client, call, tag, parts, own, made):
    """Make all calls that wait three seconds between two looks, at once."""
    drawn = call(client, "create_experiment", f"drawn {tag}", **parts, criterion_set=own)
    filled = call(drawn, "clone", f"filled {tag}")
    assert filled.criterion_set.id == own.id
    rows = list(call(call(client, "get_collection", id=parts["collection"].id), "items"))
    named = {**parts, "criterion_set": own}
    made = call(client, "get_experiment", id=made.id)
    waiting = [
        (made, "rate_responses", {"rating_mode": RatingMode.FAST}),
        (client, "run_experiment", {"name": f"whole {tag}", **named}),
        (drawn, "run", {"rating_mode": RatingMode.FAST}),
        (filled, "add_responses", {"responses": ["x", "y"], "template_variables": rows}),
    ]
    if call.awaits:
        waiting.append((client, "stream_experiment", {"name": f"streamed {tag}", **named}))
    else:
        told = {"name": f"told {tag}", "client": client, **named}
        waiting.append((elluminate, "evaluate", told))
    rated, whole, _, added, last = call.together(*waiting)
    assert [one.response_str for one in added] == ["x", "y"]
    last = last[-1].result if call.awaits else last
    assert [one.results.num_rated_responses for one in (whole, drawn, last)] == [2, 2, 2]

    assert [len(one) for one in rated] == [2] * 5
    if LATE:
        # Nothing has failed.
        before = ids(drawn.rated_responses)
        call(drawn, "retry_failed")
        assert ids(drawn.rated_responses) == before
    return whole, filled


def experiments(client, call, tag, parts, own, made):
    whole, filled = run_all(client, call, tag, parts, own, made)
    found = call(client, "get_experiment", name=f"filled {tag}", fetch_responses=False)
    loaded = call(call(found, "fetch_responses"), "responses")
    assert [one.response_str for one in loaded] == ["x", "y"]
    call(found, "print_results_summary")
    both = call(client, "list_comparison_samples", whole, filled)
    assert {one.experiment_id for one in both} == {whole.id, filled.id}
    if call.awaits:
        events = call(client, "stream_batch_rate", found.rated_responses)
        assert [len(one) for one in events[-1].result] == [2, 2]
    call(client, "delete_experiment", whole)
    left = ids(call(client, "list_experiments", **parts))
    assert (whole.id in left, filled.id in left) == (False, True)


def flow(client, call, tag, made):
    """Beside what the resources' flow left."""
    assert call(client, "get_info")
    template = templates(client, call, tag)
    collection = collections(client, call, tag, template)
    own = criterion_sets(client, call, tag, template)
    llm_configs(client, call, tag)
    parts = {"prompt_template": template, "collection": collection}
    experiments(client, call, tag, parts, own, made)
