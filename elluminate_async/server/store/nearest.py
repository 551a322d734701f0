"""Stored values that readers of the protocol do not know, read as what comes nearest.

Earlier versions stored any word; one that a client does not know makes it refuse the whole listing
that the row is in. The rows stay as they are, and the log names them once.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from elluminate_async.schemas import Collection, Column
from elluminate_async.schemas.collections import COLLECTION_TYPES, COLUMN_TYPES
from elluminate_async.schemas.experiments import EVALUATION_MODES
from elluminate_async.schemas.llm_configs import SAMPLING_WORDS, LLMConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

T = TypeVar("T")

_LOG = logging.getLogger(__name__)
_NUMBERS = {"temperature": (0, 2), "top_p": (0, 1), "max_tokens": (1, None)}


def columns(stored: Sequence[dict[str, Any]], collection_id: int) -> list[Column]:
    """The columns of a collection; one of a type that is not known is of text."""
    return [
        Column.model_validate(
            {
                **column,
                "column_type": _word(
                    column.get("column_type"),
                    COLUMN_TYPES,
                    "text",
                    f"the column {column.get('name')!r} of collection {collection_id}",
                ),
            }
        )
        for column in stored
    ]


def collection_type(stored: str, collection_id: int) -> str:
    """The type of a collection."""
    return _word(stored, COLLECTION_TYPES, "STANDARD", f"the type of collection {collection_id}")


def evaluation_mode(stored: str | None, experiment_id: int) -> str:
    """The mode of an experiment; earlier versions kept none."""
    where = f"the evaluation mode of experiment {experiment_id}"
    return _word(stored, EVALUATION_MODES, "STANDARD", where)


def no_collection(experiment_id: int, time: datetime) -> Collection:
    """A stand-in for the collection of an experiment that was made without one."""
    tell(f"the collection of experiment {experiment_id}", "None", "an empty one")
    return Collection(id=0, name="(no collection)", created_at=time, updated_at=time)


def config(document: LLMConfig) -> LLMConfig:
    """A model configuration with words that are known."""
    changes: dict[str, str | None] = {}
    for field, words in SAMPLING_WORDS.items():
        value = getattr(document, field)
        if value is not None and value not in words:
            changes[field] = "openai" if field == "inference_type" else None
            where = f"{field} of the configuration {document.name or document.llm_model_name!r}"
            tell(where, repr(value), repr(changes[field]))
    return document.model_copy(update=changes) if changes else document


def params(
    stored: dict[str, Any] | None, experiment_id: int, *, whole: bool
) -> dict[str, Any] | None:
    """Generation parameters within their bounds; a word that is not known is left out.

    Args:
        stored: As they were given.
        experiment_id: Whose they are.
        whole: With what was not given, as the official clients' models have it.
    """
    if stored is None:
        return None
    result = dict(stored)
    for field, (least, most) in _NUMBERS.items():
        value: object = stored.get(field)
        if isinstance(value, int | float) and not isinstance(value, bool):
            result[field] = _within(value, least, most)
        else:
            result[field] = None
    for field in ("reasoning_effort", "verbosity"):
        value = stored.get(field)
        result[field] = value if value in SAMPLING_WORDS[field] else None
    if result["temperature"] is not None and result["reasoning_effort"] is not None:
        result["temperature"] = None
    result["max_connections"] = _at_least_one(stored.get("max_connections", 10))
    changed = {field for field, value in stored.items() if value != result[field]}
    for field in sorted(changed):
        where = f"generation_params.{field} of experiment {experiment_id}"
        tell(where, repr(stored[field]), repr(result[field]))
    return result if whole else {field: result[field] for field in stored}


def _at_least_one(value: object) -> int:
    return max(1, value) if isinstance(value, int) and not isinstance(value, bool) else 10


def _within(value: float, least: float, most: float | None) -> float:
    above = max(value, least)
    return above if most is None else min(above, most)


def _word(value: object, known: Sequence[T], nearest: T, where: str) -> T:
    if value in known:
        return cast("T", value)
    if value is not None:
        tell(where, repr(value), repr(nearest))
    return nearest


@lru_cache(maxsize=4096)
def tell(where: str, value: str, nearest: str) -> None:
    """Name in the log, once, a stored value and how it is read."""
    _LOG.warning("%s is stored as %.80s, which is not known: read as %s", where, value, nearest)
