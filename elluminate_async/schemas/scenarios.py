"""Scenarios: what simulated users want, and how their conversations should end."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import StringConstraints

from elluminate_async.schemas.base import ItemsOf, WireModel

RequiredText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Scenario(WireModel):
    """One conversation to be held.

    Attributes:
        goal: What the simulated user wants.
        expected_conversation_outcome: How the conversation should end.
        field_values: A value for each declared field, by its name.
    """

    id: int
    goal: str
    expected_conversation_outcome: str
    field_values: dict[str, Any] = {}
    created_at: datetime | None = None


class ScenarioIn(WireModel):
    """A scenario to be made, or what one is replaced by.

    Attributes:
        field_values: By the fields' names; those left out take their default.
    """

    goal: RequiredText
    expected_conversation_outcome: RequiredText
    field_values: dict[str, Any] = {}


class ScenarioBatchRequest(WireModel):
    """Body of ``POST scenario-sets/{id}/scenarios/batch``."""

    scenarios: ItemsOf[ScenarioIn]
    skip_existing: bool = False
