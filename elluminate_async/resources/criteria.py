"""``client.criteria``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from elluminate_async.batch import Batch, BatchOptions
from elluminate_async.errors import ConflictError, InputError
from elluminate_async.errors.arguments import flag
from elluminate_async.operations.connection import decode, decode_list
from elluminate_async.operations.context import CallContext, single_policy
from elluminate_async.operations.json_input import checked_input
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.new_criteria import (
    NewCriteria,
    check_question,
    criteria_of,
    matched,
)
from elluminate_async.operations.references import id_of, optional_id
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource, cascading
from elluminate_async.schemas.criteria import (
    AddCriteriaRequest,
    Criterion,
    EditCriterionRequest,
)
from elluminate_async.schemas.criterion_sets import CriterionSet
from elluminate_async.schemas.prompt_templates import PromptTemplate

if TYPE_CHECKING:
    from elluminate_async.transport.retry import Policy

Criteria: TypeAlias = list[Criterion]
"""Within the class ``list`` is its method."""


class CriteriaResource(Resource):
    """Criteria: what the judge asks of every response to a template.

    ``Criteria`` is a list of `Criterion`. ``NewCriteria`` is a sequence of what can be made
    one: texts, `CriterionIn`, mappings of its fields, `Criterion`.
    """

    def list(
        self, prompt_template: PromptTemplate | int, *, strict: bool = False
    ) -> Listing[Criterion]:
        """The criteria of a template, in the order of their creation.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        id = id_of(prompt_template, PromptTemplate, "prompt_template")
        query = {"prompt_template_id": id}
        return Listing(self._connection, Criterion, "criteria", query=query, strict=strict)

    async def get(self, id: int) -> Criterion:
        """The criterion of that id."""
        answer = await self._connection.call("GET", "criteria", id_of(id, Criterion, "id"))
        return decode(Criterion, answer)

    async def add_many(
        self,
        criteria: NewCriteria,
        *,
        prompt_template: PromptTemplate | int | None = None,
        criterion_set: CriterionSet | int | None = None,
        delete_existing: bool = False,
        cascade: bool = False,
        options: BatchOptions | None = None,
    ) -> Batch[Criterion]:
        """Add criteria to a template or to a set, in one request.

        Args:
            criteria: n texts, or texts with labels: `CriterionIn`, a mapping of its fields, or
                a `Criterion` of another template. One that exists already is not doubled, and
                keeps its label; of one that comes twice the embedded server takes the last label.
            prompt_template: The template; exclusive with ``criterion_set``. Of one that is
                linked to a set it is the set that changes, for all its templates.
            criterion_set: The set; exclusive with ``prompt_template``.
            delete_existing: Replace those that exist; with n = 0 there is none then. The embedded
                server keeps those that have ratings, or that work in flight asks, for these, until
                the responses are rated again: only jobs that had begun still ask them.
            cascade: With ``delete_existing``, delete those that have ratings too, with these; not
                those that an earlier call has replaced and kept.
            options: Instead of the client's; its deadline, and 300 s at most.

        Returns:
            n outcomes, outcome i the criterion of ``criteria[i]``; ``no_result`` where the
            service's answer has none of its text. They are added together or not at all, so
            that whatever else fails is raised.

        Raises:
            OutcomeUnknownError: It was sent, and whether they were added is not known. Where the
                service has idempotency keys it is sent again instead.
            InputError: Both owners are given, or none, or an entry is no text, or blank.
        """
        if (prompt_template is None) == (criterion_set is None):
            raise InputError("pass either prompt_template= or criterion_set=")
        given = criteria_of(criteria)
        with checked_input("the criteria"):
            body = AddCriteriaRequest(
                prompt_template_id=optional_id(prompt_template, PromptTemplate, "prompt_template"),
                criterion_set_id=optional_id(criterion_set, CriterionSet, "criterion_set"),
                criteria=given,
                delete_existing=flag(delete_existing, "delete_existing"),
            )
        policy = single_policy(self._connection, options)
        made = await self._made("add criteria", body, policy, cascade=cascade)
        return matched([one.criterion_str for one in given], made)

    async def generate_many(
        self,
        prompt_template: PromptTemplate | int,
        *,
        delete_existing: bool = False,
        cascade: bool = False,
        options: BatchOptions | None = None,
    ) -> Criteria:
        """Let the service's model propose criteria for a template.

        A slow model has the time of ``BatchOptions.deadline``, and not of one attempt.
        ``options`` stands instead of the client's; ``delete_existing`` and ``cascade`` are those
        of `add_many`.

        Raises:
            ConflictError: The template has criteria and ``delete_existing`` is False.
            ServerError: 424 of the embedded server: the model failed, or proposed too little.
            OutcomeUnknownError: It was sent, and whether there are criteria is not known. With the
                code ``deadline`` the service may still be at it, and add or replace some later.
        """
        body = AddCriteriaRequest(
            prompt_template_id=id_of(prompt_template, PromptTemplate, "prompt_template"),
            delete_existing=flag(delete_existing, "delete_existing"),
        )
        policy = CallContext.begin(self._connection, options).policy
        policy = replace(policy, attempt_timeout=policy.remaining())
        return await self._made("generate criteria", body, policy, cascade=cascade)

    async def _made(
        self, operation: str, body: AddCriteriaRequest, policy: Policy, *, cascade: bool
    ) -> Criteria:
        post = Post(("criteria",), body, query=cascading(cascade))
        read = partial(decode_list, Criterion)
        return await make(self._connection, operation, post, read, policy)

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
        """Change a criterion's text or label; what is None stays.

        In the embedded server ratings by another text stay with it, on a criterion of its own that
        is asked no more, until the responses are rated again; by the new text they have none. The
        hosted service may show them under the new one.

        Raises:
            ConflictError: Work in flight asks it by the text that is to change, or it was replaced
                and is kept for its ratings.
            InputError: The text is blank.
        """
        with checked_input("the criterion"):
            body = EditCriterionRequest(criterion_str=criterion_str, label=label)
        if body.criterion_str is not None:
            check_question(body.criterion_str, "criterion_str")
        id = id_of(criterion, Criterion, "criterion")
        answer = await self._connection.call("PUT", "criteria", id, body=body, omit_nulls=True)
        return decode(Criterion, answer)

    async def delete(self, criterion: Criterion | int, *, cascade: bool = False) -> None:
        """Delete a criterion.

        Args:
            criterion: Which one.
            cascade: Delete also its ratings.

        Raises:
            ConflictError: It has ratings, or work in flight asks it; the embedded server tells how
                many.
        """
        id = id_of(criterion, Criterion, "criterion")
        await self._delete("criteria", id, query=cascading(cascade))
