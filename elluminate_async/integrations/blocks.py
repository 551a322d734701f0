"""`BlockWork`: a block of rows is generated from, or rated, or both, and gets columns for it.

A block is a table of Arrow, as frameworks hand them to a worker. Its rows are read and its columns
written in the worker's thread, and only what waits for the service is in the client's loop.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from elluminate_async import AsyncClient, Batch, Progress
from elluminate_async.engine.item_errors import FATAL, item_error
from elluminate_async.errors import ElluminateError, InputError, ItemError
from elluminate_async.schemas.ratings import Rating, RatingMode
from elluminate_async.schemas.responses import PromptResponse
from elluminate_async.tables.outcomes import (
    RATING_COLUMNS,
    RESPONSE_COLUMNS,
    names_of,
    responses_in,
    with_ratings,
    with_responses,
)
from elluminate_async.tables.values import JSON, json_cell

T = TypeVar("T")

Responses: TypeAlias = list[PromptResponse | ItemError]
Judged: TypeAlias = list[list[Rating] | ItemError]

_TOLD_EACH: Final = 50
"""Items between two words on what is in flight."""


class Counted(Protocol):
    """Is told of the items of a worker, from whatever thread."""

    def ended(self, operation: str, count: int, codes: Sequence[str]) -> None:
        """``count`` items of ``"generate"`` or ``"rate"`` ended, those that failed by ``codes``."""
        ...

    def in_flight(self, operation: str, change: int) -> None:
        """So many more have none yet, or fewer where it is below 0."""
        ...


@dataclass(frozen=True, slots=True)
class Generation:
    """Responses to the rows of a block.

    Attributes:
        experiment: Where they belong, an id.
        collection: Where the rows are added, an id.
        run: By which, with its key, an item is known again.
        key: The column of the keys.
        variables: Placeholder to column.
    """

    experiment: int
    collection: int
    run: str
    key: str
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Judging:
    """Ratings of the responses of a block.

    Attributes:
        run: In which each response is rated once.
        rating_mode: With or without reasoning.
    """

    run: str
    rating_mode: RatingMode


@dataclass(frozen=True, slots=True)
class BlockInput:
    """A block as it was read.

    Attributes:
        rows: Of those to be generated from: its index, its key, its values.
        responses: Of each row that is to be rated its response, or the error that it has instead;
            of one to be generated from None, or what is wrong with it.
    """

    rows: Sequence[tuple[int, str, Mapping[str, JSON]]]
    responses: Sequence[int | ItemError | None]


@dataclass(frozen=True, slots=True)
class BlockOutput:
    """The outcomes of a block, one for each of its rows, or None of what was not asked for."""

    responses: Responses | None
    ratings: Judged | None


@dataclass(frozen=True, slots=True)
class BlockWork:
    """The work on each block; it can be pickled.

    Attributes:
        generation: None where the block has responses.
        judging: None where they are not rated.
    """

    generation: Generation | None
    judging: Judging | None

    @property
    def needs(self) -> set[str]:
        """The columns that a block must have."""
        if self.generation is None:
            return {"response_id"}
        return {self.generation.key, *self.generation.variables.values()}

    @property
    def adds(self) -> list[str]:
        """The columns that a block gets."""
        responses = names_of(RESPONSE_COLUMNS) if self.generation is not None else []
        return responses + (names_of(RATING_COLUMNS) if self.judging is not None else [])

    def check_columns(self, present: Sequence[str]) -> None:
        """Raise `InputError` where one is lacking, or one that is added is there."""
        if lacking := sorted(self.needs - {*present}):
            raise InputError(
                f"the dataset has no column {lacking[0]!r}; it has {', '.join(present)}"
            )
        if taken := [name for name in self.adds if name in present]:
            raise InputError(
                f"the dataset has a column {taken[0]!r}, which is the name of one that is added: "
                f"rename or drop it before"
            )

    def read(self, table: Any) -> BlockInput:
        """The rows of a block.

        Raises:
            InputError: It has not the columns that are needed, or not of their types.
        """
        self.check_columns(table.column_names)
        if self.generation is None:
            return BlockInput((), responses_in(table))
        return _read_rows(self.generation, table)

    async def run(
        self, client: AsyncClient, given: BlockInput, counted: Counted | None = None
    ) -> BlockOutput:
        """Have the service do it.

        Raises:
            AuthenticationError, PermissionDeniedError, NotFoundError: True of all blocks; what else
                fails is the outcome of its rows.
        """
        if self.generation is None:
            known: Sequence[PromptResponse | int | ItemError] = [
                _without_response(i) if one is None else one
                for i, one in enumerate(given.responses)
            ]
            responses = None
        else:
            known = responses = await _generate(self.generation, client, given, counted)
        if self.judging is None:
            return BlockOutput(responses, None)
        return BlockOutput(responses, await _rate(self.judging, client, known, counted))

    def write(self, table: Any, made: BlockOutput) -> Any:
        """The block with its new columns."""
        if made.responses is not None:
            table = with_responses(table, made.responses)
        return table if made.ratings is None else with_ratings(table, made.ratings)


def key_of(value: object) -> str | None:
    """The key that a cell is; None where it is none."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _read_rows(generation: Generation, table: Any) -> BlockInput:
    names = [*generation.variables]
    columns = [table.column(column).to_pylist() for column in generation.variables.values()]
    rows: list[tuple[int, str, Mapping[str, JSON]]] = []
    known: dict[str, Mapping[str, JSON]] = {}
    wrong: list[ItemError | None] = [None] * len(table)
    for index, cell in enumerate(table.column(generation.key).to_pylist()):
        try:
            key = key_of(cell)
            if key is None:
                raise InputError(
                    f"its key, in the column {generation.key!r}, must be a whole number or a text "
                    f"that is not empty, and is {cell!r:.60}"
                )
            values = {
                name: _value(column[index], f"the column {generation.variables[name]!r}")
                for name, column in zip(names, columns, strict=True)
            }
        except InputError as error:
            wrong[index] = item_error(error, position=index, operation="generate")
            continue
        if _text_of(known.setdefault(key, values)) == _text_of(values):
            rows.append((index, key, values))
        else:
            wrong[index] = _conflict(index, key)
    return BlockInput(rows, wrong)


def _value(cell: object, place: str) -> JSON:
    if cell is None:
        # The service would put the word None into the prompt.
        raise InputError(f"{place} is missing (null): fill it in, or drop the row")
    return json_cell(cell, place)


def _text_of(values: Mapping[str, JSON]) -> str:
    # As texts, as True and 1 are equal, and no equal values of a prompt.
    return json.dumps(values, sort_keys=True)


def _conflict(position: int, key: str) -> ItemError:
    return ItemError(
        f"the key {key!r:.60} has come with other values before: each row needs one of its own",
        position=position,
        code="key_conflict",
        operation="generate",
        attempts=0,
    )


def _without_response(position: int) -> ItemError:
    return ItemError(
        "the row has no response_id and no error_code",
        position=position,
        code="bad_input",
        operation="rate",
        attempts=0,
    )


async def _generate(
    generation: Generation, client: AsyncClient, given: BlockInput, counted: Counted | None
) -> Responses:
    told = _Told(counted, "generate", len(given.rows))

    async def ask() -> Batch[PromptResponse]:
        rows = await client.template_variables.add_many(
            [values for _, _, values in given.rows], collection=generation.collection
        )
        return await client.responses.generate_many(
            template_variables=rows,
            experiment=generation.experiment,
            run=generation.run,
            item_keys=[key for _, key, _ in given.rows],
            options=client.options.replace(on_progress=told.progress),
        )

    wrong = {i: one for i, one in enumerate(given.responses) if isinstance(one, ItemError)}
    with told:
        return told.all(
            await _merged(ask, [index for index, _, _ in given.rows], wrong, "generate")
        )


async def _rate(
    judging: Judging,
    client: AsyncClient,
    known: Sequence[PromptResponse | int | ItemError],
    counted: Counted | None,
) -> Judged:
    there = {i: one for i, one in enumerate(known) if not isinstance(one, ItemError)}
    told = _Told(counted, "rate", len(there))

    async def ask() -> Batch[list[Rating]]:
        return await client.ratings.rate_many(
            [*there.values()],
            rating_mode=judging.rating_mode,
            run=judging.run,
            options=client.options.replace(on_progress=told.progress),
        )

    failed = {i: one for i, one in enumerate(known) if isinstance(one, ItemError)}
    with told:
        return told.all(await _merged(ask, [*there], failed, "rate"))


async def _merged(
    ask: Callable[[], Awaitable[Batch[T]]],
    indices: Sequence[int],
    errors: Mapping[int, ItemError],
    operation: str,
) -> list[T | ItemError]:
    """The outcomes of those at ``indices``, between the errors of the others."""
    outcomes: Sequence[T | ItemError] = ()
    if indices:
        try:
            outcomes = (await ask()).outcomes
        except FATAL as error:
            # Of this block, and large: what led here does not go to another process.
            error.partial = None
            raise
        except ElluminateError as error:
            # Such as an outage from the first request on, before there is a batch.
            outcomes = [item_error(error, position=i, operation=operation) for i in indices]
    found = {**errors, **dict(zip(indices, outcomes, strict=True))}
    return [found[i] for i in range(len(found))]


class _Told:
    """Tells of the items of one call, as they end."""

    def __init__(self, counted: Counted | None, operation: str, count: int) -> None:
        self._counted = counted
        self._operation = operation
        self._count = count
        self._left = 0

    def __enter__(self) -> None:
        self._set(self._count)

    def __exit__(self, *_: object) -> None:
        self._set(0)

    def progress(self, progress: Progress) -> None:
        """Tell of every so many."""
        if progress.done % _TOLD_EACH == 0:
            self._set(self._count - progress.done)

    def all(self, outcomes: list[T | ItemError]) -> list[T | ItemError]:
        """Tell of all of a block, those that were not asked for included."""
        if self._counted is not None:
            codes = [one.code for one in outcomes if isinstance(one, ItemError)]
            self._counted.ended(self._operation, len(outcomes), codes)
        return outcomes

    def _set(self, left: int) -> None:
        if self._counted is not None:
            self._counted.in_flight(self._operation, left - self._left)
        self._left = left
