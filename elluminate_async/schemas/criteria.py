"""Criteria: the questions the judge answers with YES or NO."""

from __future__ import annotations

from datetime import datetime

from elluminate_async.schemas.base import ListOf, WireModel


class Criterion(WireModel):
    """One question about a response."""

    id: int
    criterion_str: str
    label: str | None = None
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
