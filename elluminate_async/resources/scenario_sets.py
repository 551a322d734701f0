"""``client.scenario_sets``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import partial

from elluminate_async.errors import InputError, NotFoundError, RejectedError
from elluminate_async.operations.connection import decode
from elluminate_async.operations.json_input import (
    check_json,
    check_lookup,
    check_name,
    checked_input,
    optional_text,
    several,
)
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.references import id_of
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource, cascading
from elluminate_async.schemas.scenario_sets import (
    FIELD_NAME,
    OWN_FIELDS,
    CreateScenarioSetRequest,
    ScenarioField,
    ScenarioFieldRequest,
    ScenarioSet,
    UpdateScenarioSetRequest,
)


class ScenarioSetsResource(Resource):
    """Sets of scenarios for simulated users, and their fields. Their rows are ``client.scenarios``.

    A field is declared by its name: letters, digits and underscores, no digit first, at most 100.
    Each scenario has a value for it, usable as a placeholder.
    """

    def list(self, *, name_search: str | None = None, strict: bool = False) -> Listing[ScenarioSet]:
        """All sets, or those with ``name_search`` in their names, in the order of their creation.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        query = {"name_search": optional_text(name_search, "name_search") or None}
        return Listing(self._connection, ScenarioSet, "scenario-sets", query=query, strict=strict)

    async def get(self, name: str | None = None, *, id: int | None = None) -> ScenarioSet:
        """The set of that id or name, without its scenarios.

        Raises:
            NotFoundError: There is none.
            InputError: Neither is given, or both, or the name is no text.
        """
        check_lookup(name, id, "a scenario set")
        if id is not None:
            path = ("scenario-sets", id_of(id, ScenarioSet, "id"))
            return decode(ScenarioSet, await self._connection.call("GET", *path))
        # The service only knows of a search, which finds longer names too.
        for found in await self.list(name_search=name):
            if found.name == name:
                return found
        raise NotFoundError(
            f"no scenario set of exactly the name {name!r:.60}",
            status=404,
            method="GET",
            path="scenario-sets",
        )

    async def create(
        self,
        name: str | None = None,
        *,
        description: str = "",
        fields: Sequence[str] | None = None,
    ) -> ScenarioSet:
        """Create a set; without a name the service invents one.

        Args:
            name: Unique in the project, among collections too.
            description: For people.
            fields: Names of the fields that scenarios have besides the goal and the outcome; None
                for none.

        Raises:
            RejectedError: The name is taken, by a set or by a collection.
            OutcomeUnknownError: It was sent, and whether it was created is not known.
            InputError: The name is empty, or one of a field is none, or comes twice.
        """
        return await self._created(_creation(name, description, fields))

    async def _created(
        self, body: CreateScenarioSetRequest, *, harmless: bool = False
    ) -> ScenarioSet:
        post = Post(("scenario-sets",), body, omit_nulls=True, harmless=harmless)
        read = partial(decode, ScenarioSet)
        return await make(self._connection, "create a scenario set", post, read)

    async def get_or_create(
        self, name: str, *, description: str = "", fields: Sequence[str] | None = None
    ) -> tuple[ScenarioSet, bool]:
        """The set of that name as it is, or a new one; and whether it was created now.

        The other arguments are for a new one only.

        Raises:
            RejectedError: A collection has the name.
        """
        check_name(name, "a scenario set")
        body = _creation(name, description, fields)
        try:
            return await self._created(body, harmless=True), True
        except RejectedError:
            # A name that is taken is a plain 400 here; of whom, only a look tells.
            try:
                return await self.get(name), False
            except NotFoundError:
                pass
            raise

    async def update(
        self,
        scenario_set: ScenarioSet | int,
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> ScenarioSet:
        """Change a set's name or description; what is None stays.

        Raises:
            RejectedError: The name is taken.
            InputError: It is empty.
        """
        if name is not None:
            check_name(name, "a scenario set")
        with checked_input("the scenario set"):
            body = UpdateScenarioSetRequest(name=name, description=description)
        path = _path(scenario_set)
        answer = await self._connection.call("PUT", *path, body=body, omit_nulls=True)
        return decode(ScenarioSet, answer)

    async def delete(self, scenario_set: ScenarioSet | int, *, cascade: bool = False) -> None:
        """Delete a set with its scenarios, and its experiments without responses.

        Args:
            scenario_set: Which one.
            cascade: Delete also the experiments that have responses, and these.

        Raises:
            ConflictError: There are such responses, or work in flight refers to it; the embedded
                server tells how much, and in which experiments.
        """
        await self._delete(*_path(scenario_set), query=cascading(cascade))

    async def add_field(
        self, scenario_set: ScenarioSet | int, name: str, *, default_value: str = ""
    ) -> ScenarioField:
        """Declare a field; the scenarios that are there get the default.

        Raises:
            RejectedError: The set has such a field.
            OutcomeUnknownError: It was sent, and whether it was declared is not known.
            InputError: It is no name for a field.
        """
        _check_fields([name])
        with checked_input("the field"):
            body = ScenarioFieldRequest(name=name, default_value=default_value)
        post = Post((*_path(scenario_set), "fields"), body)
        return await make(self._connection, "add a field", post, partial(decode, ScenarioField))

    async def rename_field(
        self, scenario_set: ScenarioSet | int, field: ScenarioField | int | str, name: str
    ) -> ScenarioField:
        """Rename a field, which is named by itself, its id or its name; values stay.

        Raises:
            NotFoundError: The set has no such field.
            RejectedError: It has one of the new name.
            InputError: It is no name for a field.
        """
        _check_fields([name])
        path = await self._field(scenario_set, field)
        body = ScenarioFieldRequest(name=name)
        answer = await self._connection.call("PUT", *path, body=body, omit_nulls=True)
        return decode(ScenarioField, answer)

    async def delete_field(
        self, scenario_set: ScenarioSet | int, field: ScenarioField | int | str
    ) -> None:
        """Delete a field, with the values that scenarios have for it.

        Raises:
            NotFoundError: The set has no such field.
        """
        await self._delete(*await self._field(scenario_set, field))

    async def _field(
        self, scenario_set: ScenarioSet | int, field: ScenarioField | int | str
    ) -> tuple[str | int, ...]:
        set_id = id_of(scenario_set, ScenarioSet, "scenario_set")
        if isinstance(field, str):
            found = {one.name: one for one in (await self.get(id=set_id)).fields}
            if field not in found:
                raise NotFoundError(
                    f"the scenario set has no field {field!r:.60}; it has {[*found]}",
                    status=404,
                    method="GET",
                    path="scenario-sets",
                )
            field = found[field]
        return ("scenario-sets", set_id, "fields", id_of(field, ScenarioField, "field"))


def _path(scenario_set: ScenarioSet | int) -> tuple[str | int, ...]:
    return ("scenario-sets", id_of(scenario_set, ScenarioSet, "scenario_set"))


def _creation(
    name: str | None, description: str, fields: Sequence[str] | None
) -> CreateScenarioSetRequest:
    if name is not None:
        check_name(name, "a scenario set")
    given = () if fields is None else several(fields, "fields", "names")
    names = _check_fields(given)
    with checked_input("the scenario set"):
        return CreateScenarioSetRequest(name=name, description=description, fields=names)


def _check_fields(names: Iterable[object]) -> list[str]:
    """The names of fields, each of which is one, and comes once."""
    seen = dict[str, None]()
    for name in names:
        if not isinstance(name, str) or re.fullmatch(FIELD_NAME, name) is None:
            raise InputError(
                f"{name!r:.60} is no name of a field: it is of letters, digits and underscores, no "
                "digit first, and of 100 characters at most"
            )
        check_json(name, "the name of a field")
        if name in OWN_FIELDS:
            raise InputError(f"every scenario has {name!r}: it is no field to be declared")
        if name in seen:
            raise InputError(f"the field {name!r} comes twice")
        seen[name] = None
    return [*seen]
