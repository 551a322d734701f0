"""``client.criterion_sets``."""

from __future__ import annotations

from functools import partial

from elluminate_async.operations.connection import decode
from elluminate_async.operations.json_input import (
    check_lookup,
    check_name,
    checked_input,
)
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.new_criteria import NewCriteria, criteria_of
from elluminate_async.operations.references import id_of
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource, cascading, got_or_created
from elluminate_async.schemas.criterion_sets import CreateCriterionSetRequest, CriterionSet
from elluminate_async.schemas.prompt_templates import PromptTemplate


class CriterionSetsResource(Resource):
    """Named sets of criteria that can be linked to several templates.

    ``NewCriteria`` is a sequence of texts, `CriterionIn`, mappings of its fields, `Criterion`.
    """

    def list(self, *, strict: bool = False) -> Listing[CriterionSet]:
        """All sets.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        return Listing(self._connection, CriterionSet, "criterion_sets", strict=strict)

    async def get(self, name: str | None = None, *, id: int | None = None) -> CriterionSet:
        """The set of that id or name.

        Raises:
            NotFoundError: There is none.
            InputError: Neither is given, or both, or the name is no text.
        """
        check_lookup(name, id, "a criterion set")
        if id is not None:
            return decode(
                CriterionSet,
                await self._connection.call("GET", "criterion_sets", id_of(id, CriterionSet, "id")),
            )
        query = {"name": name}
        listing = Listing(self._connection, CriterionSet, "criterion_sets", query=query)
        return await listing.named("criterion set", name)

    async def create(self, name: str, criteria: NewCriteria | None = None) -> CriterionSet:
        """Create a set.

        Raises:
            ConflictError: The name is taken.
            OutcomeUnknownError: It was sent, and whether it was created is not known.
        """
        return await self._created(name, criteria)

    async def _created(
        self, name: str, criteria: NewCriteria | None, *, harmless: bool = False
    ) -> CriterionSet:
        check_name(name, "a criterion set")
        members = None if criteria is None else criteria_of(criteria)
        with checked_input("the criterion set"):
            body = CreateCriterionSetRequest(name=name, criteria=members)
        post = Post(("criterion_sets",), body, omit_nulls=True, harmless=harmless)
        read = partial(decode, CriterionSet)
        return await make(self._connection, "create a criterion set", post, read)

    async def get_or_create(
        self, name: str, criteria: NewCriteria | None = None
    ) -> tuple[CriterionSet, bool]:
        """The set of that name as it is, or a new one; and whether it was created now."""
        creation = self._created(name, criteria, harmless=True)
        return await got_or_created(creation, lambda _: self.get(name))

    async def delete(self, criterion_set: CriterionSet | int, *, cascade: bool = False) -> None:
        """Delete a set and its criteria, and its experiments without responses.

        Args:
            criterion_set: Which one.
            cascade: Delete also the experiments that have responses, these, and all ratings by
                the set's criteria.

        Raises:
            ConflictError: There are such responses or ratings, or work in flight refers to it; the
                embedded server tells how much, and in which experiments.
        """
        id = id_of(criterion_set, CriterionSet, "criterion_set")
        await self._delete("criterion_sets", id, query=cascading(cascade))

    async def link_template(
        self, criterion_set: CriterionSet | int, prompt_template: PromptTemplate | int
    ) -> CriterionSet:
        """Have the set rate a template's responses, in place of the criteria that it has.

        These rate it no more, and `unlink_template` does not bring them back. From then on
        `client.criteria.add_many` for the template changes the set, for all its templates.
        """
        answer = await self._connection.call("PUT", *_link(criterion_set, prompt_template))
        return decode(CriterionSet, answer)

    async def unlink_template(
        self, criterion_set: CriterionSet | int, prompt_template: PromptTemplate | int
    ) -> None:
        """Take the set from a template, which has no criteria then."""
        await self._delete(*_link(criterion_set, prompt_template))


def _link(
    criterion_set: CriterionSet | int, prompt_template: PromptTemplate | int
) -> tuple[str | int, ...]:
    return (
        "criterion_sets",
        id_of(criterion_set, CriterionSet, "criterion_set"),
        "prompt_templates",
        id_of(prompt_template, PromptTemplate, "prompt_template"),
    )
