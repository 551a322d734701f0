"""The settings of a run as the client takes them: its options and its criteria."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from elluminate_async import BatchOptions, CriterionIn, RateLimit
from elluminate_async.cli.shares import share_of_environment

if TYPE_CHECKING:
    from elluminate_async.cli.runs import RunFile
    from elluminate_async.cli.spec import Spec

CHUNK_SIZE: Final = 25
"""Items in one request to the embedded server: its requests cost nothing, and progress comes as
chunks end."""


def options_of(file: RunFile) -> BatchOptions:
    """The options of a run; at a service elsewhere with the share of the environment.

    Raises:
        ConfigurationError, MissingExtraError: The environment names a share that is none.
    """
    spec, given = file.spec.options, dict[str, Any]()
    if file.where.is_embedded:
        given["chunk_size"] = CHUNK_SIZE
    else:
        given["share"] = share_of_environment()
    if spec.concurrency is not None:
        given["max_concurrency"] = spec.concurrency
    if spec.requests_per_second is not None:
        given["rate_limit"] = RateLimit(spec.requests_per_second, 1.0)
    if spec.items_per_minute is not None:
        given["item_limit"] = RateLimit(spec.items_per_minute, 60.0)
    if spec.deadline is not None:
        given["deadline"] = spec.deadline
    return BatchOptions(**given)


def criteria_of(spec: Spec) -> list[CriterionIn] | None:
    """The judge's questions; None where they are to be proposed."""
    if spec.criteria is None:
        return None
    return [
        CriterionIn(criterion_str=one)
        if isinstance(one, str)
        else CriterionIn(criterion_str=one.criterion, label=one.label)
        for one in spec.criteria
    ]
