"""Criteria: the questions the judge answers with YES or NO."""

from __future__ import annotations

from datetime import datetime

from elluminate_async.schemas.base import ListOf, WireModel
from elluminate_async.schemas.prompt_templates import PromptTemplate
from elluminate_async.schemas.template_variables import TemplateVariables


class Criterion(WireModel):
    """One question about a response.

    Attributes:
        prompt_template: What it was made for, where the service tells; None of a set's.
        template_variables: The same.
    """

    id: int
    criterion_str: str
    label: str | None = None
    prompt_template: PromptTemplate | None = None
    template_variables: TemplateVariables | None = None
    created_at: datetime | None = None


class CriterionIn(WireModel):
    """A criterion to add."""

    criterion_str: str
    label: str | None = None


class AddCriteriaRequest(WireModel):
    """Body of ``POST criteria``; exactly one of the two owners is not null.

    ``criteria`` of null means: let the model propose them.
    """

    prompt_template_id: int | None = None
    criterion_set_id: int | None = None
    template_variables_id: int | None = None
    criteria: ListOf[CriterionIn] | None = None
    delete_existing: bool = False


class EditCriterionRequest(WireModel):
    """Body of ``PUT criteria/{id}``; nulls are not sent and change nothing."""

    criterion_str: str | None = None
    label: str | None = None
