"""The route of a request: its path without what differs from one request to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WORDS: Final = frozenset({
    "agent-results", "api", "batch", "batches", "collections", "columns", "comparison",
    "compatible", "criteria", "criterion_sets", "definition", "entries", "experiments", "fields",
    "generate", "generation", "llm_configs", "map", "preview", "projects", "prompt_templates",
    "ratings", "responses", "retry-failed", "run", "samples", "scenario-sets", "scenarios",
    "stats", "stream", "template_variables", "v0", "version",
})  # fmt: skip
"""All words of the service's paths."""


def route_of(path: Sequence[str | int]) -> str:
    """``/api/v0/projects/{id}/responses/batches/{id}/stream``, of that job's path."""
    return "/" + "/".join([str(segment) if segment in WORDS else "{id}" for segment in path])
