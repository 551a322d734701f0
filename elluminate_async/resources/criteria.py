"""``client.criteria``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

from elluminate_async.batch import Batch, BatchOptions, Outcome
from elluminate_async.errors import ConflictError, InputError, ItemError
from elluminate_async.operations.connection import decode, decode_list, id_of, optional_id
from elluminate_async.operations.context import CallContext, single_policy
from elluminate_async.operations.json_input import checked_input, criteria_of
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
        options: BatchOptions | None = None,
    ) -> Batch[Criterion]:
        """Add criteria to a template or to a set, in one request.

        Args:
            criteria: Texts, or texts with labels. One that exists already is not doubled.
            prompt_template: The template; exclusive with ``criterion_set``.
            criterion_set: The set; exclusive with ``prompt_template``.
            delete_existing: Replace those that exist.
            options: Instead of the client's; its deadline, and 300 s at most.

        Returns:
            n outcomes, outcome i the criterion of ``criteria[i]``; ``no_result`` where the
            service's answer has none of its text. They are added together or not at all, so
            that whatever else fails is raised.

        Raises:
            InputError: Both owners are given, or none, or an entry is no text.
        """
        if (prompt_template is None) == (criterion_set is None):
            raise InputError("pass either prompt_template= or criterion_set=")
        with checked_input("the criteria"):
            given = criteria_of(criteria)
            body = AddCriteriaRequest(
                prompt_template_id=optional_id(prompt_template, "prompt_template"),
                criterion_set_id=optional_id(criterion_set, "criterion_set"),
                criteria=given,
                delete_existing=delete_existing,
            )
        policy = single_policy(self._connection, options)
        answer = await self._connection.call("POST", "criteria", body=body, policy=policy)
        return _matched([one.criterion_str for one in given], decode_list(Criterion, answer))

    async def generate_many(
        self,
        prompt_template: PromptTemplate | int,
        *,
        delete_existing: bool = False,
        options: BatchOptions | None = None,
    ) -> Criteria:
        """Let the service's model propose criteria for a template.

        A slow model has the time of ``BatchOptions.deadline``, and not of one attempt.
        ``options`` stands instead of the client's.

        Raises:
            ConflictError: The template has criteria and ``delete_existing`` is False.
        """
        body = AddCriteriaRequest(
            prompt_template_id=id_of(prompt_template, "prompt_template"),
            delete_existing=delete_existing,
        )
        policy = CallContext.begin(self._connection, options).policy
        policy = replace(policy, attempt_timeout=policy.remaining())
        answer = await self._connection.call("POST", "criteria", body=body, policy=policy)
        return decode_list(Criterion, answer)

    async def get_or_generate_many(
        self, prompt_template: PromptTemplate | int, *, options: BatchOptions | None = None
    ) -> tuple[Criteria, bool]:
        """The template's criteria, and whether they were generated now, as by `generate_many`."""
        try:
            return await self.generate_many(prompt_template, options=options), True
        except ConflictError:
            return await self.list(prompt_template), False

    async def update(
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


def _matched(texts: Sequence[str], found: Sequence[Criterion]) -> Batch[Criterion]:
    """Outcome i the criterion of that text; else the i-th, as the service answers in order."""
    by_text = {one.criterion_str: one for one in found}
    in_order = found if len(found) == len(texts) else ()
    left = {one.id for one in found} - {by_text[text].id for text in texts if text in by_text}
    outcomes: dict[int, Outcome[Criterion]] = {}
    for position, text in enumerate(texts):
        one = by_text.get(text)
        if one is None and in_order and in_order[position].id in left:
            one = in_order[position]  # its text was trimmed, or the like
        outcomes[position] = one or ItemError(
            "the service's answer has no criterion of this text",
            position=position,
            code="no_result",
            operation="add",
        )
    return Batch[Criterion].from_outcomes(len(texts), outcomes, of=Criterion)
