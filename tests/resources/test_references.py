"""Objects as arguments: one of another noun is refused, and nothing is sent for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from elluminate_async import (
    AsyncClient,
    BatchOptions,
    Collection,
    Criterion,
    CriterionSet,
    Experiment,
    InputError,
    LLMConfig,
    Project,
    Prompt,
    PromptResponse,
    PromptTemplate,
    TemplateVariables,
)
from elluminate_async.operations.references import id_of

TEMPLATE = PromptTemplate(id=1, name="t", version=1, messages=[])
COLLECTION = Collection(id=1, name="c")
ROW = TemplateVariables(id=1, input_values={})
EXPERIMENT = Experiment(id=1, name="e")
RESPONSE = PromptResponse(id=1, prompt=Prompt(id=1, template_variables=ROW))

CALLS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "responses.delete": (
        lambda c: c.responses.delete(TEMPLATE),
        "response must be PromptResponse or an id, not PromptTemplate",
    ),
    "responses.update": (
        lambda c: c.responses.update(EXPERIMENT, annotation="a"),
        "response must be PromptResponse or an id, not Experiment",
    ),
    "responses.get": (
        lambda c: c.responses.get(TEMPLATE),
        "id must be PromptResponse or an id, not PromptTemplate",
    ),
    "responses.list": (
        lambda c: c.responses.list(experiment=COLLECTION),
        "experiment must be Experiment or an id, not Collection",
    ),
    "responses.generate": (
        lambda c: c.responses.generate(template_variables=RESPONSE, experiment=1),
        r"template_variables\[0\] must be TemplateVariables or an id, not PromptResponse",
    ),
    "responses.add": (
        lambda c: c.responses.add("a", template_variables=EXPERIMENT, experiment=1),
        "template_variables must be TemplateVariables or an id, not Experiment",
    ),
    "responses.add_many": (
        lambda c: c.responses.add_many(["a"], template_variables=[RESPONSE], experiment=1),
        r"template_variables\[0\] must be TemplateVariables or an id, not PromptResponse",
    ),
    "generate_many on a collection": (
        lambda c: c.responses.generate_many(template_variables=[ROW], experiment=COLLECTION),
        "experiment must be Experiment or an id, not Collection",
    ),
    "generate_many of an experiment": (
        lambda c: c.responses.generate_many(collection=EXPERIMENT, experiment=1),
        "collection must be Collection or an id, not Experiment",
    ),
    "rate": (lambda c: c.ratings.rate(ROW), "response must be PromptResponse or an id"),
    "rate_many": (
        lambda c: c.ratings.rate_many([RESPONSE, ROW]),
        r"responses\[1\] must be PromptResponse or an id, not TemplateVariables",
    ),
    "collections.delete": (
        lambda c: c.collections.delete(EXPERIMENT),
        "collection must be Collection or an id, not Experiment",
    ),
    "template_variables.delete": (
        lambda c: c.template_variables.delete(RESPONSE, collection=COLLECTION),
        "template_variables must be TemplateVariables or an id, not PromptResponse",
    ),
    "experiments.create": (
        lambda c: c.experiments.create("e", prompt_template=COLLECTION, collection=TEMPLATE),
        "prompt_template must be PromptTemplate or an id, not Collection",
    ),
    "criteria.delete": (
        lambda c: c.criteria.delete(EXPERIMENT),
        "criterion must be Criterion or an id, not Experiment",
    ),
    "criteria.add_many": (
        lambda c: c.criteria.add_many(["a?"], criterion_set=TEMPLATE),
        "criterion_set must be CriterionSet or an id, not PromptTemplate",
    ),
    "llm_configs.delete": (
        lambda c: c.llm_configs.delete(TEMPLATE),
        "llm_config must be LLMConfig or an id, not PromptTemplate",
    ),
}


@pytest.mark.parametrize(("call", "text"), CALLS.values(), ids=CALLS)
async def test_an_object_of_another_noun_is_refused(call: Callable[[Any], Any], text: str) -> None:
    """Its id is some other object's id there; the text says what was expected and what came."""
    # Nobody listens there: what is sent ends in another error.
    options = BatchOptions(retry_for=0)
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="k", options=options)
    try:
        with pytest.raises(InputError, match=text):
            await call(client)
    finally:
        await client.close()


def test_an_object_of_the_noun_is_its_id() -> None:
    """Of a class derived from the noun's, and for ``id=`` too."""

    class Mine(Collection):
        """A program's own."""

    assert id_of(Mine(id=7, name="c"), Collection, "collection") == 7
    assert id_of(COLLECTION, Collection, "id") == 1
    objects = (
        Criterion(id=2, criterion_str="a?"),
        CriterionSet(id=2, name="s"),
        Experiment(id=2, name="e"),
        LLMConfig(id=2, name="m", llm_model_name="m"),
        Project(id=2, name="p"),
        TEMPLATE.model_copy(update={"id": 2}),
        RESPONSE.model_copy(update={"id": 2}),
        ROW.model_copy(update={"id": 2}),
    )
    assert [id_of(one, type(one), "x") for one in objects] == [2] * len(objects)


@pytest.mark.parametrize("where", ["experiments", "evaluate"])
async def test_a_configuration_that_the_service_did_not_make_is_told(where: str) -> None:
    """One that was made by hand has no id, and creates nothing by being passed."""
    made = LLMConfig(name="m", llm_model_name="m")
    options = BatchOptions(retry_for=0)
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="k", options=options)
    calls: dict[str, Callable[[], Any]] = {
        "experiments": lambda: client.experiments.create(
            "e", prompt_template=1, collection=1, llm_config=made
        ),
        "evaluate": lambda: client.evaluate([{"a": 1}], prompt="{{a}}", llm_configs=made),
    }
    try:
        with pytest.raises(InputError, match="LLMConfig and has no id, which the service gives"):
            await calls[where]()
    finally:
        await client.close()


@pytest.mark.parametrize("id", [-1, 2**63, True, False])
@pytest.mark.parametrize("method", ["generate", "generate_many", "add", "add_many"])
async def test_an_id_of_no_row_is_found_before_sending(method: str, id: Any) -> None:
    """Its position is told; True and False are no ids."""
    options = BatchOptions(retry_for=0)
    client = AsyncClient(base_url="http://127.0.0.1:9", api_key="k", options=options)
    given: dict[str, Any] = {"experiment": 1, "template_variables": id}
    if method.endswith("_many"):
        given["template_variables"] = [1, id]
    if method.startswith("add"):
        made = ["a", "b"] if method.endswith("_many") else "a"
        given["responses" if method.endswith("_many") else "response"] = made
    where = r"template_variables\[1\]" if method.endswith("_many") else "template_variables"
    try:
        with pytest.raises(InputError, match=where):
            await getattr(client.responses, method)(**given)
    finally:
        await client.close()
