"""``client.criteria``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from elluminate_async.errors import ConflictError, InputError
from elluminate_async.operations.connection import decode, decode_list, id_of, optional_id
from elluminate_async.operations.json_input import checked_input
from elluminate_async.operations.listing import Listing
from elluminate_async.resources.base import Resource
from elluminate_async.schemas.criteria import (
    AddCriteriaRequest,
    Criterion,
    CriterionIn,
    EditCriterionRequest,
)
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.prompt_templates import PromptTemplate

Criteria: TypeAlias = list[Criterion]
"""Within the class ``list`` is its method."""


class CriteriaResource(Resource):
    """Criteria: what the judge asks of every response to a template."""

    def list(
        self, prompt_template: PromptTemplate | int, *, strict: bool = False
    ) -> Listing[Criterion]:
        """The criteria of a template, in the order of their creation.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        id = id_of(prompt_template, "prompt_template")
        query = {"prompt_template_id": id}
        return Listing(self._connection, Criterion, "criteria", query=query, strict=strict)

    async def get(self, id: int) -> Criterion:
        """The criterion of that id."""
        answer = await self._connection.call("GET", "criteria", id_of(id, "id"))
        return decode(Criterion, answer)

    async def add_many(
        self,
        criteria: Sequence[str | CriterionIn],
        *,
        prompt_template: PromptTemplate | int | None = None,
        criterion_set: CriterionSet | int | None = None,
        delete_existing: bool = False,
    ) -> Criteria:
        """Add criteria to a template or to a set, in one request.

        Args:
            criteria: Texts, or texts with labels. One that exists already is not doubled.
            prompt_template: The template; exclusive with ``criterion_set``.
            criterion_set: The set; exclusive with ``prompt_template``.
            delete_existing: Replace those that exist.
        """
        if (prompt_template is None) == (criterion_set is None):
            raise InputError("pass either prompt_template= or criterion_set=")
        if isinstance(criteria, str):
            raise InputError("criteria must be a list of texts: pass [x] for one")
        with checked_input("the criteria"):
            body = AddCriteriaRequest(
                prompt_template_id=optional_id(prompt_template, "prompt_template"),
                criterion_set_id=optional_id(criterion_set, "criterion_set"),
                criteria=[
                    CriterionIn(criterion_str=c) if isinstance(c, str) else c for c in criteria
                ],
                delete_existing=delete_existing,
            )
        return decode_list(Criterion, await self._connection.call("POST", "criteria", body=body))

    async def generate_many(
        self, prompt_template: PromptTemplate | int, *, delete_existing: bool = False
    ) -> Criteria:
        """Let the service's model propose criteria for a template.

        A slow model has the time of ``BatchOptions.deadline``, and not of one attempt.

        Raises:
            ConflictError: The template has criteria and ``delete_existing`` is False.
        """
        body = AddCriteriaRequest(
            prompt_template_id=id_of(prompt_template, "prompt_template"),
            delete_existing=delete_existing,
        )
        deadline = self._connection.options.deadline
        policy = replace(self._connection.policy(deadline=deadline), attempt_timeout=deadline)
        answer = await self._connection.call("POST", "criteria", body=body, policy=policy)
        return decode_list(Criterion, answer)

    async def get_or_generate_many(
        self, prompt_template: PromptTemplate | int
    ) -> tuple[Criteria, bool]:
        """The template's criteria, and whether they were generated now."""
        try:
            return await self.generate_many(prompt_template), True
        except ConflictError:
            return await self.list(prompt_template), False

    async def edit(
        self,
        criterion: Criterion | int,
        *,
        criterion_str: str | None = None,
        label: str | None = None,
    ) -> Criterion:
        """Change a criterion's text or label; what is None stays."""
        with checked_input("the criterion"):
            body = EditCriterionRequest(criterion_str=criterion_str, label=label)
        id = id_of(criterion, "criterion")
        answer = await self._connection.call("PUT", "criteria", id, body=body, omit_nulls=True)
        return decode(Criterion, answer)

    async def delete(self, criterion: Criterion | int) -> None:
        """Delete a criterion."""
        await self._connection.call("DELETE", "criteria", id_of(criterion, "criterion"))
