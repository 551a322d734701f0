"""Criterion sets: named lists of criteria, linked to templates."""

from __future__ import annotations

from elluminate_async.schemas.base import ListOf, WireModel
from elluminate_async.schemas.criteria import Criterion, CriterionIn
from elluminate_async.schemas.prompt_templates import PromptTemplate


class CriterionSet(WireModel):
    """A named list of criteria.

    Attributes:
        linked_prompt_templates: Templates whose responses it rates. Clients up to 0.7
            read the same list under ``prompt_templates``.
    """

    id: int
    name: str
    criteria: ListOf[Criterion] | None = None
    prompt_templates: ListOf[PromptTemplate] | None = None
    linked_prompt_templates: ListOf[PromptTemplate] | None = None


class CreateCriterionSetRequest(WireModel):
    """Body of ``POST criterion_sets``."""

    name: str
    criteria: ListOf[CriterionIn] | None = None
