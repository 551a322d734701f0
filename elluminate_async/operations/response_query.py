"""The filters of a listing of responses, checked and as the wire has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from elluminate_async.operations.filters import FigureRanges, figure_query
from elluminate_async.operations.json_input import optional_text
from elluminate_async.operations.references import optional_id
from elluminate_async.operations.stored_items import optional_epoch
from elluminate_async.schemas.collections import Collection
from elluminate_async.schemas.experiments import Experiment
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.responses import Prompt
from elluminate_async.schemas.template_variables import TemplateVariables

if TYPE_CHECKING:
    from elluminate_async.operations.listing import Query


def response_query(
    experiment: Experiment | int | None,
    prompt_template: PromptTemplate | int | None,
    template_variables: TemplateVariables | int | None,
    collection: Collection | int | None,
    prompt: Prompt | int | None,
    llm_model_name: str | None,
    epoch: int | None,
    figures: FigureRanges,
) -> Query:
    """The query of those responses that match every filter which is not None.

    Raises:
        InputError: One of them can match nothing.
    """
    return {
        "experiment_id": optional_id(experiment, Experiment, "experiment"),
        "prompt_template_id": optional_id(prompt_template, PromptTemplate, "prompt_template"),
        "template_variables_id": optional_id(
            template_variables, TemplateVariables, "template_variables"
        ),
        "collection_id": optional_id(collection, Collection, "collection"),
        "prompt_id": optional_id(prompt, Prompt, "prompt"),
        "llm_model_name": optional_text(llm_model_name, "llm_model_name"),
        "epoch": optional_epoch(epoch),
        **figure_query(figures),
    }
