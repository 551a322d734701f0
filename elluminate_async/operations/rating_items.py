"""The arguments of `rate_many`, checked and made into items."""

from __future__ import annotations

from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from elluminate_async.batch import Batch, Outcome
from elluminate_async.engine.chunks import Entry, Item, Passed, Source, closing
from elluminate_async.engine.stream import OutcomeStream
from elluminate_async.errors import InputError, ItemError
from elluminate_async.operations.context import check_many, first_problems
from elluminate_async.operations.echoes import Subject
from elluminate_async.operations.item_keys import ItemKeys, checked_keying
from elluminate_async.operations.references import id_of
from elluminate_async.operations.run_keys import Run
from elluminate_async.schemas.ratings import Rating, RatingMode
from elluminate_async.schemas.responses import PromptResponse

Responses: TypeAlias = (
    Batch[PromptResponse]
    | Iterable[PromptResponse | int]
    | AsyncIterable[PromptResponse | int]
    | OutcomeStream[tuple[int, Outcome[PromptResponse]]]
)
"""Responses or their ids; a `Batch` or a stream of outcomes keeps its positions."""

ResponsePairs: TypeAlias = (
    Iterable[tuple[int, Outcome[PromptResponse] | int]]
    | AsyncIterable[tuple[int, Outcome[PromptResponse] | int]]
)
"""(position, response or its error), each position once, in any order."""


@dataclass(frozen=True, slots=True)
class RatedResponse:
    """A response with its ratings, as `stream_rated_many` yields them.

    Attributes:
        position: As it was given, or the index of the response.
        response: The response, or why there is none; its id where it was given by that.
        ratings: The ratings, or why there are none.
    """

    position: int
    response: Outcome[PromptResponse] | int
    ratings: Outcome[list[Rating]]


_ID_BYTES = 12

_Place: TypeAlias = Callable[[int, object], tuple[int, object]]
"""Position and response of an entry, by its count."""


def checked_mode(rating_mode: object) -> RatingMode:
    """The mode that was asked for.

    Raises:
        InputError: It is none.
    """
    try:
        return RatingMode(cast("Any", rating_mode))
    except ValueError:
        raise InputError(
            f"rating_mode must be RatingMode.FAST or RatingMode.DETAILED, not {rating_mode!r}"
        ) from None


def source_of(responses: Responses | ResponsePairs, *, pairs: bool = False) -> Source[Subject]:
    """The entries to send. Of a sequence each response once, further positions as aliases.

    With ``pairs`` an entry may be a position and a response; those of a stream of outcomes are.
    """
    check_many(responses, "responses")
    place = _placed if pairs or isinstance(responses, OutcomeStream) else _in_order
    if isinstance(responses, AsyncIterable):
        return _async_source(cast("AsyncIterable[object]", responses), place)
    if isinstance(responses, Sequence):
        # A copy: the caller may change the list, or repair the batch, while this one runs.
        outcomes = responses.outcomes if isinstance(responses, Batch) else tuple(responses)
        return _unique(outcomes, place)
    return (entry_of(*place(count, entry)) for count, entry in enumerate(responses))


def source_of_run(
    responses: Responses | ResponsePairs,
    run: str | None,
    item_keys: ItemKeys | None,
    *,
    pairs: bool = False,
) -> tuple[Source[Subject], Run | None]:
    """`source_of` these, and the run that they are of.

    Of their keys no use is made, as a response is its own; there must be one for each.

    Raises:
        InputError: There is not, or the run has no name.
    """
    keying = checked_keying(run, item_keys)
    source = source_of(responses, pairs=pairs)
    if keying is None:
        return source, None
    if isinstance(responses, Sequence):
        outcomes = responses.outcomes if isinstance(responses, Batch) else responses
        keying.fitted([*map(_identity, outcomes)], "responses")
        return source, keying.run
    return keying.checked(source), keying.run


def _identity(entry: object) -> object:
    """Equal for equal responses; None of what failed."""
    response = cast("tuple[object, ...]", entry)[-1] if type(entry) is tuple else entry
    if isinstance(response, ItemError):
        return None
    return response.id if isinstance(response, PromptResponse) else response


def _in_order(count: int, entry: object) -> tuple[int, object]:
    return count, entry


def _placed(count: int, entry: object) -> tuple[int, object]:
    """Position and response of an entry, which may be a pair of both."""
    match cast("Any", entry):
        case (int() as position, response) if type(entry) is tuple:
            if position < 0:
                raise InputError(f"a position must not be below 0, as {position} is")
            return position, response
        case _:
            return count, entry


def _unique(responses: Sequence[object], place: _Place) -> Iterator[Entry[Subject]]:
    subjects: list[tuple[int, Subject]] = []
    for position, entry in map(place, range(len(responses)), responses):
        if isinstance(entry, ItemError):
            yield Passed(position, entry)
        else:
            subjects.append((position, _subject(entry, position)))
    yield from _items_of(subjects)


def _items_of(subjects: Iterable[tuple[int, Subject]]) -> Iterator[Item[Subject]]:
    """One item for each response, by the positions that it has."""
    positions: dict[int, tuple[Subject, list[int]]] = {}
    for position, subject in subjects:
        positions.setdefault(subject.id, (subject, []))[1].append(position)
    for subject, (first, *others) in positions.values():
        yield Item(first, subject, _ID_BYTES, tuple(others))


def repaired(responses: Mapping[int, Any], outcomes: Sequence[object]) -> Iterator[Item[Subject]]:
    """The items for responses that came after their batch had been rated, by position."""
    del outcomes
    return _items_of((position, _subject(r, position)) for position, r in responses.items())


def _subject(response: object, position: int) -> Subject:
    if isinstance(response, PromptResponse):
        return Subject(response.id, response)
    return Subject(id_of(response, PromptResponse, f"responses[{position}]"))


async def _async_source(
    responses: AsyncIterable[object], place: _Place
) -> AsyncIterator[Entry[Subject]]:
    count = 0
    async with closing(responses):
        async for entry in responses:
            yield entry_of(*place(count, entry))
            count += 1


def noted(
    source: Source[Subject], responses: dict[int, Outcome[PromptResponse] | int]
) -> Source[Subject]:
    """``source``, of which the responses are kept by position as they are read."""

    def note(entry: Entry[Subject]) -> Entry[Subject]:
        if isinstance(entry, Passed):
            responses[entry.position] = entry.error
            return entry
        subject = entry.value
        for position in (entry.position, *entry.aliases):
            if position in responses:
                raise InputError(f"the position {position} comes twice")
            responses[position] = subject.id if subject.response is None else subject.response
        return entry

    async def each() -> AsyncIterator[Entry[Subject]]:
        assert isinstance(source, AsyncIterable)
        async with closing(source):
            async for entry in source:
                yield note(entry)

    return each() if isinstance(source, AsyncIterable) else map(note, source)


def entry_of(position: int, response: object) -> Entry[Subject]:
    """The entry of a response, or of the error in its place."""
    if isinstance(response, ItemError):
        return Passed(position, response)
    return Item(position, _subject(response, position), size=_ID_BYTES)


def rated_by_id(id: int) -> Item[Subject]:
    """The item of one response, whatever the service has under its id."""
    return Item(0, Subject(id), _ID_BYTES)


def check_responses(responses: Sequence[object]) -> None:
    """Raise `InputError` when an entry is no response."""
    problems: list[str] = []
    entries = responses.outcomes if isinstance(responses, Batch) else responses
    for position, entry in enumerate(cast("Sequence[object]", entries)):
        if type(entry) is PromptResponse or isinstance(entry, ItemError):
            continue
        try:
            id_of(entry, PromptResponse, f"responses[{position}]")
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError(first_problems(problems))


def ids_of(items: Sequence[Item[Subject]], *, without: Container[int]) -> list[int]:
    """The ids of the responses, each once."""
    return list(dict.fromkeys(i.value.id for i in items if i.value.id not in without))


def those_of(items: Sequence[Item[Subject]], ids: Sequence[int]) -> Sequence[Item[Subject]]:
    """The items of these responses."""
    wanted = {*ids}
    return [item for item in items if item.value.id in wanted]
