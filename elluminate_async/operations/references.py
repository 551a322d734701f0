"""References: objects of the service, or their ids, as arguments name them."""

from __future__ import annotations

from typing import Final, TypeAlias, cast

from elluminate_async.batch.options import shown
from elluminate_async.errors import InputError
from elluminate_async.schemas.base import WireModel
from elluminate_async.schemas.collections import Collection, Column
from elluminate_async.schemas.criteria import Criterion
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.experiments import CreateExperimentRequest, Experiment
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.projects import Project
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.responses import Prompt, PromptResponse
from elluminate_async.schemas.scenario_sets import ScenarioField, ScenarioSet
from elluminate_async.schemas.scenarios import Scenario
from elluminate_async.schemas.template_variables import TemplateVariables

MAX_ID: Final = 2**63 - 1

Kind: TypeAlias = (
    type[Collection]
    | type[Column]
    | type[Criterion]
    | type[CriterionSet]
    | type[Experiment]
    | type[LLMConfig]
    | type[Project]
    | type[Prompt]
    | type[PromptResponse]
    | type[PromptTemplate]
    | type[Scenario]
    | type[ScenarioField]
    | type[ScenarioSet]
    | type[TemplateVariables]
)
"""A noun whose objects have an id."""


def id_of(reference: object, kind: Kind, what: str) -> int:
    """The id of an object of the service, or the id itself.

    Args:
        reference: The object or its id.
        kind: Whose objects it may be.
        what: Name of the argument, such as ``collection`` or ``responses[3]``.

    Raises:
        InputError: It is neither, or an object of another kind.
    """
    if isinstance(reference, int) and not isinstance(reference, bool):
        if 0 <= reference <= MAX_ID:
            return reference
        raise InputError(f"{what} must be an id, from 0 to 2**63 - 1, not {shown(reference)}")
    if isinstance(reference, kind):
        if reference.id is not None:
            return reference.id
        raise InputError(
            f"{what} is of the type {kind.__name__} and has no id, which the service gives: pass "
            "what `get`, `create` or `get_or_create` returned"
        )
    if isinstance(reference, tuple):
        raise InputError(
            f"{what} is a tuple: get_or_create returns (object, created), take the first of the two"
        )
    came = type(reference).__name__ if isinstance(reference, WireModel) else shown(reference)
    raise InputError(f"{what} must be {kind.__name__} or an id, not {came}")


def optional_id(reference: object, kind: Kind, what: str) -> int | None:
    """`id_of` of what was given; None for nothing."""
    return None if reference is None else id_of(reference, kind, what)


def check_same(existing: Experiment, wanted: CreateExperimentRequest) -> None:
    """Raise `InputError` for an experiment that is defined otherwise than ``wanted`` says.

    What that leaves to the service may be anything, and so may what the service does not tell.
    """
    for what in ("prompt_template", "collection", "llm_config", "criterion_set"):
        found: WireModel | None = getattr(existing, what)
        id, given = getattr(found, "id", None), getattr(wanted, f"{what}_id")
        if None not in (id, given) and id != given:
            raise _other(existing, what, f"id {id}, not {given}")
    for what in ("generation_params", "response_column_id"):
        given, there = _set(getattr(wanted, what)), _set(getattr(existing, what))
        if given is not None and given != there:
            name = what.removesuffix("_id")
            raise _other(existing, name, f"{shown(there)}, not {shown(given)}")


def _set(value: object) -> object:
    """``value``; of an object what is set in it."""
    if not isinstance(value, dict):
        return value
    parts = cast("dict[str, object]", value)
    return {name: part for name, part in parts.items() if part is not None}


def _other(existing: Experiment, what: str, told: str) -> InputError:
    return InputError(
        f"the experiment {existing.name!r} exists with another {what} ({told}): choose another "
        f"name, or pass that {what}"
    )
