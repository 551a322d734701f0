"""Rows of responses: asked for one by one, and made outcomes of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import anyio
from pydantic import ValidationError

from elluminate_async.errors import (
    GenerationError,
    InputChangedError,
    ItemError,
    OutcomeUnknownError,
)
from elluminate_async.operations.at_once import for_each
from elluminate_async.operations.listing import PAGES_AHEAD
from elluminate_async.operations.matching import ExpectedRow, NaturalKey, RowPool
from elluminate_async.operations.parts import list_responses
from elluminate_async.schemas.responses import Message, PromptResponse

if TYPE_CHECKING:
    from elluminate_async.operations.context import CallContext
    from elluminate_async.operations.listing import Query
    from elluminate_async.operations.response_items import ResponseSpec

LOOKS = (0.0, 0.5, 2.0)
"""Seconds before each look for rows of a job whose status could not be read."""


async def rows_one_by_one(
    context: CallContext, experiment_id: int, wanted: Sequence[ExpectedRow]
) -> dict[int, PromptResponse]:
    """Position to row, of a job whose result is over the cap. Of one key the latest row counts.

    That a row stays out proves nothing: it may come later.
    """
    found: dict[int, PromptResponse] = {}
    left = list(wanted)
    for wait in LOOKS:
        await anyio.sleep(context.policy.clock(wait))
        keys = [entry.key for entry in left]
        found |= RowPool(await _rows_of_keys(context, experiment_id, keys)).claim(left)
        if not (left := [entry for entry in left if entry.position not in found]):
            break
    return found


async def _rows_of_keys(
    context: CallContext, experiment_id: int, keys: Iterable[NaturalKey]
) -> list[PromptResponse]:
    """The rows that an experiment has of these keys, the latest first; one request a key."""
    rows: list[PromptResponse] = []
    room = anyio.CapacityLimiter(PAGES_AHEAD)

    async def find(key: NaturalKey) -> None:
        query: Query = {
            "experiment_id": experiment_id,
            "template_variables_id": key.template_variables_id,
            "epoch": key.epoch,
        }
        async with room:
            rows.extend(await list_responses(context.connection, query, policy=context.policy))

    await for_each(find, set(keys))
    return sorted(rows, key=lambda row: row.id, reverse=True)


def readable_rows(result: Sequence[object]) -> list[PromptResponse | None]:
    """The rows of a result; None for one that is not readable, which fails alone."""
    return [document if isinstance(document, PromptResponse) else None for document in result]


def outcome_of(
    position: int, row: PromptResponse, operation: str, blotted: Callable[[str], str]
) -> PromptResponse | ItemError:
    """The row, or what it says went wrong; a text of an error is what ``blotted`` makes of it."""
    if row.error is None and row.messages:
        return row
    return GenerationError(
        blotted(row.error or "the service has a row for this item, and no message in it"),
        position=position,
        operation=operation,
        response_id=row.id,
        output=blotted(row.response_str),
    )


def text_of(spec: ResponseSpec) -> str | None:
    """The text that a response to store will have, where that is known."""
    try:
        messages = [Message.model_validate(message) for message in spec.messages]
    except ValidationError:
        # The service may refuse it, or store it in a form of its own.
        return None
    return PromptResponse.model_construct(messages=messages).response_str


def made_from_other(position: int, row: PromptResponse, operation: str) -> InputChangedError:
    """The error of a position in whose place the service shows a row of other values."""
    return InputChangedError(
        f"the service made the response {row.id} for this item from other values than those of "
        f"the entry {row.prompt.template_variables.id} that was passed: it was edited since it "
        "was read, or is of another database. Read the entries again, and call with those",
        position=position,
        operation=operation,
        response_id=row.id,
    )


def no_row(operation: str) -> OutcomeUnknownError:
    """The error of a position whose job has ended, and whose row is not there or out of sight."""
    return OutcomeUnknownError(
        "the job has ended, and the service does not show a row that is of this item",
        position=0,
        operation=operation,
        code="no_result",
    )
