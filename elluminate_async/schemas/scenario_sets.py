"""Scenario sets: names and fields of the scenarios in them."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from pydantic import Field

from elluminate_async.schemas.base import ListOf, WireModel

GOAL: Final = "goal"
OUTCOME: Final = "expected_conversation_outcome"
OWN_FIELDS: Final = frozenset({GOAL, OUTCOME})
"""Of every scenario, so that no declared field may have one of these names."""

FIELD_NAME: Final = r"^[^\W\d]\w{0,99}$"
"""Letters, digits and underscores, no digit first: it is used as a placeholder."""


class ScenarioField(WireModel):
    """A field that every scenario of a set has, besides the goal and the expected outcome.

    Attributes:
        field_type: ``text``, ``category`` or ``json``.
        default_value: Of scenarios that leave the field out.
    """

    id: int
    name: str
    field_type: str = "text"
    default_value: str = ""


class ScenarioSet(WireModel):
    """A set of scenarios, without them.

    Attributes:
        fields: The declared ones, in order of their declaration.
        scenarios_count: Scenarios it had when this was read.
        is_platform_builtin: Whether the service brought it along.
    """

    id: int
    name: str
    description: str = ""
    fields: ListOf[ScenarioField] = Field(default_factory=list[ScenarioField])
    scenarios_count: int = 0
    version: str | None = None
    read_only: bool = False
    is_platform_builtin: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None


class CreateScenarioSetRequest(WireModel):
    """Body of ``POST scenario-sets``; nulls are not sent. Without a name the service makes one."""

    name: str | None = None
    description: str = ""
    fields: ListOf[str] = []


class UpdateScenarioSetRequest(WireModel):
    """Body of ``PUT scenario-sets/{id}``; nulls are not sent and change nothing."""

    name: str | None = None
    description: str | None = None


class ScenarioFieldRequest(WireModel):
    """Body of ``POST scenario-sets/{id}/fields``, and of ``PUT``, where a null changes nothing."""

    name: str
    default_value: str | None = None
