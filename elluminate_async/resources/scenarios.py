"""``client.scenarios``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from elluminate_async.batch import Batch, BatchOptions
from elluminate_async.operations.connection import decode
from elluminate_async.operations.context import CallContext, single_policy
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.new_scenarios import (
    NewScenario,
    NewScenarios,
    add_scenarios,
    scenario_of,
    scenarios_of,
)
from elluminate_async.operations.references import id_of
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.resources.base import Resource
from elluminate_async.schemas.scenario_sets import ScenarioSet
from elluminate_async.schemas.scenarios import Scenario

if TYPE_CHECKING:
    from elluminate_async.schemas.scenarios import ScenarioIn


class ScenariosResource(Resource):
    """The rows of scenario sets: what a simulated user wants, and how the conversation should end.

    A ``NewScenario`` is a `ScenarioIn`, a mapping of its fields, or a `Scenario`, also one of
    another set; ``NewScenarios`` are an iterable of them.
    """

    def list(self, scenario_set: ScenarioSet | int, *, strict: bool = False) -> Listing[Scenario]:
        """All scenarios of a set, in the order of their creation.

        With ``strict`` a row that this version cannot read raises; see `Listing`.
        """
        return Listing(self._connection, Scenario, *_path(scenario_set), strict=strict)

    async def get(self, id: int, *, scenario_set: ScenarioSet | int) -> Scenario:
        """The scenario of that id."""
        path = (*_path(scenario_set), id_of(id, Scenario, "id"))
        return decode(Scenario, await self._connection.call("GET", *path))

    async def add(
        self,
        scenario: NewScenario,
        *,
        scenario_set: ScenarioSet | int,
        options: BatchOptions | None = None,
    ) -> Scenario:
        """Add one scenario, also where an equal one exists; fields left out take their default.

        The deadline is that of ``options``, and 300 s at most.

        Raises:
            RejectedError: A value is of a field that the set does not have.
            OutcomeUnknownError: It was sent, and whether it was added is not known. Where the
                service has idempotency keys it is sent again instead.
            InputError: It is no scenario, or its goal or its outcome is blank.
        """
        body = scenario_of(scenario, "scenario")
        policy = single_policy(self._connection, options)
        post = Post(_path(scenario_set), body)
        read = partial(decode, Scenario)
        return await make(self._connection, "add scenarios", post, read, policy)

    async def add_many(
        self,
        scenarios: NewScenarios,
        *,
        scenario_set: ScenarioSet | int,
        skip_existing: bool = True,
        options: BatchOptions | None = None,
    ) -> Batch[Scenario]:
        """Add scenarios to a set, in order; fields left out take their default.

        Args:
            scenarios: n of them. All are looked at before anything is sent.
            scenario_set: Where they go.
            skip_existing: Give a scenario that the set has already, or that comes twice, that one
                row. Otherwise each becomes a new row.
            options: Instead of the client's.

        Returns:
            n outcomes, outcome i the scenario of ``scenarios[i]``. With n = 0 nothing is sent.

        Raises:
            RejectedError: A value is of a field that the set does not have.
            OutcomeUnknownError: As of `add`; not with ``skip_existing``, which makes it harmless.
            InputError: Something is no scenario, or its goal or its outcome is blank.

        What is raised has as its ``partial`` the outcomes of the requests before.

        Cost: one request per 1,000, one after another; where some exist already, the set is listed
        once for each of these. Memory: O(n).
        """
        given = scenarios_of(scenarios)
        set_id = id_of(scenario_set, ScenarioSet, "scenario_set")
        policy = CallContext.begin(self._connection, options).policy
        return await add_scenarios(
            self._connection, set_id, given, skip_existing=skip_existing, policy=policy
        )

    async def update(
        self,
        scenario: Scenario | int,
        new: NewScenario | None = None,
        *,
        scenario_set: ScenarioSet | int,
    ) -> Scenario:
        """Replace all of a scenario; fields left out get their default again.

        Args:
            scenario: Which one. A changed copy of it says by itself what is new.
            new: What takes its place.
            scenario_set: Where it is.

        Raises:
            InputError: It is no scenario, or ``scenario`` is an id and ``new`` is missing.
        """
        body: ScenarioIn = scenario_of(scenario if new is None else new, "new")
        path = (*_path(scenario_set), id_of(scenario, Scenario, "scenario"))
        return decode(Scenario, await self._connection.call("PUT", *path, body=body))

    async def delete(self, scenario: Scenario | int, *, scenario_set: ScenarioSet | int) -> None:
        """Delete a scenario."""
        path = (*_path(scenario_set), id_of(scenario, Scenario, "scenario"))
        await self._delete(*path)


def _path(scenario_set: ScenarioSet | int) -> tuple[str | int, ...]:
    return ("scenario-sets", id_of(scenario_set, ScenarioSet, "scenario_set"), "scenarios")
