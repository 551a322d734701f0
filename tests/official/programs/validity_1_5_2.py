"""All that 1.5.2 sends is honoured or refused, and all that it reads was made readable.

With ``poisoned`` it only reads: every listing of a database that holds words it does not know.
Prints ``ok`` at the end.
"""

import sys

from elluminate import Client
from elluminate.exceptions import APIError, ConflictError
from elluminate.schemas import CollectionColumn

import whole

whole.watch()


def refused(call, kind, *words):
    try:
        call()
    except kind as error:
        said = str(error)
    else:
        raise AssertionError(f"not refused: {words}")
    for word in words:
        assert word in said, (word, said)


def read(client):
    (collection,) = client.list_collections()
    (experiment,) = client.list_experiments()
    assert client.list_prompt_templates()
    assert client._llm_configs.list()
    assert len(client.get_experiment(id=experiment.id).rated_responses) == 2
    return collection


def make(client):
    template, _ = client.get_or_create_prompt_template("T", "Answer {{question}}.")
    template.get_or_generate_criteria()
    collection = client.create_collection(
        "C",
        variables=[{"question": "a", "answer": "one"}, {"question": "b", "answer": "two"}],
        columns=[
            CollectionColumn(name="question", column_type="text"),
            CollectionColumn(name="answer", column_type="json"),
        ],
        collection_type="AGENTIC",
        environment_config={"image": "x"},
    )
    assert (collection.collection_type, collection.environment_config) == (
        "AGENTIC",
        {"image": "x"},
    )
    updated = client._collections.update(
        collection.id, "C", columns=["question", "answer"], environment_config=None
    )
    assert updated.environment_config is None
    assert [column.column_type.value for column in updated.columns] == ["text", "json"]
    entry = client._template_variables.update(
        collection.variables[0].id,
        collection,
        input_values={"question": "a", "answer": "one"},
        environment_config={"image": "y"},
    )
    assert entry.environment_config == {"image": "y"}

    answer = next(column for column in updated.columns if column.name == "answer")
    experiment = client.run_experiment(
        "E", template, collection, response_column_id=answer.id, rating_version="of tomorrow"
    )
    assert [one.response_str for one in experiment.rated_responses] == ["one", "two"]
    assert all(one.ratings for one in experiment.rated_responses)
    assert experiment.rating_version == "local-1"
    some = client._experiments.get(id=experiment.id, categorical_filters={"question": ["b"]})
    assert some.results.num_rated_responses == 1

    persona = {"evaluation_mode": "MULTI_TURN", "persona_group_id": 1}
    conversation = client.create_experiment("M", template, collection, **persona)
    assert conversation.evaluation_mode == "MULTI_TURN"
    refused(conversation.run, APIError, "persona")
    conversation_id = conversation.id

    # What was paid for stays; what nothing refers to goes.
    for delete in (
        lambda: client.delete_prompt_template(template),
        lambda: client.delete_collection(collection),
        lambda: collection.clear(),
    ):
        refused(delete, ConflictError, "2 responses", "'E'")
    client.delete_experiment(client.get_experiment(id=conversation_id))
    other = client.create_collection("D", variables=[{"a": 1}])
    other.clear()
    client.delete_collection(other)

    # New criteria: the ratings by the old ones are there until there are newer ones.
    old = {rating.criterion.id for rating in experiment.rated_responses[0].ratings}
    new = template.generate_criteria(delete_existing=True)
    assert old.isdisjoint(one.id for one in new)
    kept = client.get_experiment(id=experiment.id).rated_responses[0].ratings
    assert {rating.criterion.id for rating in kept} == old
    rated = client.get_experiment(id=experiment.id)
    rated.rate_responses(rated.rated_responses)
    again = client.get_experiment(id=experiment.id).rated_responses[0].ratings
    assert {rating.criterion.id for rating in again} == {one.id for one in new}


with Client() as client:
    if sys.argv[1:] == ["poisoned"]:
        read(client)
    else:
        make(client)
    print("ok")
