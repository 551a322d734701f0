"""Scenarios to add: made of what a caller passes, and found again in the service's answers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

from elluminate_async.batch import Batch, Outcome
from elluminate_async.engine.item_errors import item_error
from elluminate_async.errors import ElluminateError, InputError, ItemError
from elluminate_async.errors.arguments import flag
from elluminate_async.operations.connection import decode, decode_list
from elluminate_async.operations.json_input import check_json, made_of, several
from elluminate_async.operations.listing import Listing
from elluminate_async.operations.replaying import Post
from elluminate_async.operations.singles import make
from elluminate_async.schemas.scenario_sets import ScenarioSet
from elluminate_async.schemas.scenarios import Scenario, ScenarioBatchRequest, ScenarioIn

if TYPE_CHECKING:
    from elluminate_async.operations.connection import Connection
    from elluminate_async.transport.retry import Policy

NewScenario: TypeAlias = ScenarioIn | Scenario | Mapping[str, Any]
"""A `ScenarioIn`, a mapping of its fields, or a `Scenario`, also one of another set."""

NewScenarios: TypeAlias = Iterable[NewScenario]

AT_ONCE = 1_000
"""Scenarios of one request."""


def scenario_of(entry: object, where: str) -> ScenarioIn:
    """A scenario as it is sent.

    Raises:
        InputError: It is none, or its goal or its outcome is blank.
    """
    if isinstance(entry, Scenario):
        entry = entry.model_dump(include=set(ScenarioIn.model_fields))
    if isinstance(entry, Mapping):
        fields = cast("Mapping[object, object]", entry)
        entry = made_of(ScenarioIn, fields, where, "declared fields go into field_values")
    if not isinstance(entry, ScenarioIn):
        raise InputError(
            f"{where} must be a ScenarioIn, or a mapping with goal and "
            f"expected_conversation_outcome, not {entry!r:.60}"
        )
    check_json(entry.model_dump(), where)
    return entry


def scenarios_of(scenarios: NewScenarios) -> list[ScenarioIn]:
    """The same of many.

    Raises:
        InputError: It is no list of them, or one of them is none.
    """
    given = several(scenarios, "scenarios", "scenarios", ScenarioIn, Scenario)
    return [scenario_of(entry, f"scenarios[{index}]") for index, entry in enumerate(given)]


async def add_scenarios(
    connection: Connection,
    set_id: int,
    items: Sequence[ScenarioIn],
    *,
    skip_existing: bool,
    policy: Policy,
) -> Batch[Scenario]:
    """Outcome i the scenario of item i, `AT_ONCE` of them in a request.

    Raises:
        InputError: ``skip_existing`` is neither True nor False.
        ElluminateError: A request failed; its ``partial`` has those before it.
    """
    skip_existing = flag(skip_existing, "skip_existing")
    outcomes: dict[int, Outcome[Scenario]] = {}
    for start in range(0, len(items), AT_ONCE):
        some = items[start : start + AT_ONCE]
        try:
            found = await _add_some(
                connection, set_id, some, skip_existing=skip_existing, policy=policy
            )
        except ElluminateError as error:
            error.partial = _batch(len(items), _with_the_rest(outcomes, error, start, len(items)))
            raise
        outcomes.update(enumerate(found, start))
    return _batch(len(items), outcomes)


async def _add_some(
    connection: Connection,
    set_id: int,
    items: Sequence[ScenarioIn],
    *,
    skip_existing: bool,
    policy: Policy,
) -> Sequence[Outcome[Scenario]]:
    path = ("scenario-sets", set_id, "scenarios", "batch")
    body = ScenarioBatchRequest(scenarios=list(items), skip_existing=skip_existing)
    post = Post(path, body, harmless=skip_existing)
    rows = await make(connection, "add scenarios", post, partial(decode_list, Scenario), policy)
    made = _in_order(items, rows)
    return await _looked_up(connection, set_id, items, policy) if made is None else made


def _with_the_rest(
    outcomes: Mapping[int, Outcome[Scenario]], error: ElluminateError, start: int, length: int
) -> dict[int, Outcome[Scenario]]:
    """The outcomes, those of the request from ``start`` on that failed, and of what is unsent."""
    whole = dict(outcomes)
    for position in range(start, length):
        whole[position] = (
            item_error(error, position=position, operation="add")
            if position < start + AT_ONCE
            else ItemError(
                "not sent, as an earlier request of the call failed",
                position=position,
                code="not_sent",
                operation="add",
                attempts=0,
            )
        )
    return whole


def _in_order(items: Sequence[ScenarioIn], made: Sequence[Scenario]) -> list[Scenario] | None:
    """The rows of an answer in which each item was made; None where some exist already."""
    if len(made) != len(items):
        return None
    pairs = zip(items, made, strict=True)
    return list(made) if all(_head(item) == _head(row) for item, row in pairs) else None


async def _looked_up(
    connection: Connection, set_id: int, items: Sequence[ScenarioIn], policy: Policy
) -> list[Outcome[Scenario]]:
    """Each item's scenario, the first of several that are equal."""
    answer = await connection.call("GET", "scenario-sets", set_id, policy=policy)
    defaults = {field.name: field.default_value for field in decode(ScenarioSet, answer).fields}
    wanted = [_content(item, {**defaults, **item.field_values}) for item in items]
    rows: defaultdict[str, list[Scenario]] = defaultdict(list)
    async for row in Listing(connection, Scenario, "scenario-sets", set_id, "scenarios"):
        rows[_content(row, row.field_values)].append(row)
    missing = ItemError(
        "the service has no such scenario after it was added",
        position=0,
        code="no_result",
        operation="add",
    )
    return [rows[content][0] if rows[content] else missing for content in wanted]


def _head(one: ScenarioIn | Scenario) -> tuple[str, str]:
    return one.goal.strip(), one.expected_conversation_outcome.strip()


def _content(one: ScenarioIn | Scenario, values: dict[str, Any]) -> str:
    return json.dumps([*_head(one), values], sort_keys=True)


def _batch(length: int, outcomes: Mapping[int, Outcome[Scenario]]) -> Batch[Scenario]:
    return Batch[Scenario].from_outcomes(
        length,
        {
            position: one.at(position) if isinstance(one, ItemError) else one
            for position, one in outcomes.items()
        },
        resend=_refuse_to_resend,
        of=Scenario,
    )


async def _refuse_to_resend(*_: object) -> NoReturn:
    raise InputError(
        "scenarios are not sent again one by one: call scenarios.add_many again with all of them; "
        "with skip_existing=True those that exist are not doubled"
    )
