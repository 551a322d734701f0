"""Hashes of the objects that a call with a journal works with: a change of one ends it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from elluminate_async.errors import NotFoundError
from elluminate_async.operations.echoes import hash_of
from elluminate_async.operations.listing import read_one
from elluminate_async.schemas.base import WireModel
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.prompt_templates import PromptTemplate

if TYPE_CHECKING:
    from elluminate_async.operations.context import CallContext
    from elluminate_async.operations.response_items import ResponsePlan
    from elluminate_async.schemas.experiments import Experiment

T = TypeVar("T", bound=WireModel)

_NOT_ASKED_WITH = {
    "id", "name", "description", "api_key", "max_connections", "max_retries", "timeout",
    "input_price_per_mtok", "output_price_per_mtok",
}  # fmt: skip
"""Fields of a configuration that have no influence on its answers."""


async def pins_of_call(
    context: CallContext, plan: ResponsePlan, experiment: Experiment, *, generates: bool
) -> dict[str, dict[str, Any]]:
    """Of a call on an experiment; what the experiment does not hold is read."""
    pins = {"experiment": pins_of_experiment(experiment)}
    template, config = experiment.prompt_template, experiment.llm_config
    if plan.template_id is not None and (template is None or template.id != plan.template_id):
        template = await _read(context, PromptTemplate, "prompt_templates", plan.template_id)
    if template is not None:
        pins["prompt_template"] = pins_of_template(template)
    if not generates:
        return pins
    if plan.llm_config_id is not None:
        found = await _read(context, LLMConfig, "llm_configs", plan.llm_config_id)
        config = found or LLMConfig(id=plan.llm_config_id)
    if config is not None:
        pins["llm_config"] = pins_of_config(config)
    return pins


async def _read(context: CallContext, kind: type[T], noun: str, id: int) -> T | None:
    """None where there is no such object: where it is asked to work with it the service says so."""
    with suppress(NotFoundError):
        return await read_one(context.connection, kind, noun, id, policy=context.policy)
    return None


def pins_of_experiment(experiment: Experiment) -> dict[str, Any]:
    """The parts of an experiment that must stay the same for its rows to be of one call."""
    created = experiment.created_at
    return {
        "id": experiment.id,
        "created_at": created and created.isoformat(),
        "collection": experiment.collection and experiment.collection.id,
        "generation_params": f"#{hash_of(experiment.generation_params)}",
    }


def pins_of_template(template: PromptTemplate) -> dict[str, Any]:
    """The same of a template."""
    content = [
        template.messages,
        template.response_format_json_schema,
        template.tools,
        template.tool_choice,
    ]
    return {"id": template.id, "version": template.version, "content": f"#{hash_of(content)}"}


def pins_of_config(config: LLMConfig) -> dict[str, Any]:
    """The same of a configuration; what a later version may add counts once it is set."""
    content = config.model_dump(mode="json", exclude=_NOT_ASKED_WITH, exclude_none=True)
    return {"id": config.id, "content": f"#{hash_of(content)}"}


def pins_of_criteria(criteria: Mapping[int, str]) -> dict[str, Any]:
    """The same of criteria, by id."""
    return {f"criterion {id}": f"#{hash_of(text)}" for id, text in sorted(criteria.items())}
