"""The route of a request: its path without what differs from one request to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

WORDS: Final = frozenset({
    "api", "batches", "collections", "columns", "compatible", "criteria", "criterion_sets",
    "entries", "experiments", "generate", "generation", "llm_configs", "projects",
    "prompt_templates", "ratings", "responses", "run", "stream", "template_variables", "v0",
    "version",
})  # fmt: skip
"""All words of the service's paths."""


def route_of(path: Sequence[str | int]) -> str:
    """``/api/v0/projects/{id}/responses/batches/{id}/stream``, of that job's path."""
    return "/" + "/".join([str(segment) if segment in WORDS else "{id}" for segment in path])
