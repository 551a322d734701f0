"""`KeyRetries`: items of a run that failed, and that a retry has made anew under their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from elluminate_async.errors import GenerationError, ItemError

if TYPE_CHECKING:
    from elluminate_async.operations.matching import ExpectedRow
    from elluminate_async.operations.response_items import ResponsePlan, ResponseSpec


def asked_anew(spec: ResponseSpec, error: ItemError) -> ResponseSpec:
    """The item of a retry: what failed at the model has a row, which its key would give again."""
    if spec.key is None or not isinstance(error, GenerationError) or not error.response_id:
        return spec
    return replace(spec, key=spec.key._replace(attempt=spec.key.attempt + 1))


def chunk_parts(plan: ResponsePlan, specs: Sequence[ResponseSpec]) -> list[str]:
    """The parts that tell a chunk's items from those of others; none without a run.

    A service that knows no keys of items is to make those anew too that a retry asks for.
    """
    attempts = (0 if spec.key is None else spec.key.attempt for spec in specs)
    pairs = zip(plan.item_keys(specs), attempts, strict=False)
    return [f"{key} {attempt}" if attempt else key for key, attempt in pairs]


class KeyRetries:
    """Which items of a call are to be made anew where they have failed, each once a retry.

    A chunk of them that was taken, and is asked for again in parts, is looked for only: what has
    failed once more was paid for.
    """

    def __init__(self) -> None:
        self._begun = set[tuple[int, int]]()

    def has_any(self, wanted: Iterable[ExpectedRow], specs: Iterable[ResponseSpec]) -> bool:
        """Whether the request of these items is to say so."""
        return any(one not in self._begun for one in _retried(wanted, specs))

    def begun(self, wanted: Iterable[ExpectedRow], specs: Iterable[ResponseSpec]) -> None:
        """The service has taken a request of these."""
        self._begun.update(_retried(wanted, specs))


def _retried(
    wanted: Iterable[ExpectedRow], specs: Iterable[ResponseSpec]
) -> Iterator[tuple[int, int]]:
    for entry, spec in zip(wanted, specs, strict=True):
        if spec.key is not None and spec.key.attempt:
            yield entry.position, spec.key.attempt
