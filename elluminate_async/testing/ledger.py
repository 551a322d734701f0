"""The oracle of batch tests: compares what a service did with what a client says came of it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, cast

from elluminate_async import Batch
from elluminate_async.errors import GenerationError, ItemError, OutcomeUnknownError
from elluminate_async.schemas.ratings import Rating
from elluminate_async.schemas.responses import PromptResponse

Outcomes: TypeAlias = Batch[Any] | Sequence[object] | Mapping[int, object]
"""A batch, its outcomes, or position to outcome as a stream gave them."""


def nonce_of(values: Mapping[str, Any]) -> str:
    """The identity of an input: its content, whatever the order of its names."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False)


class Made(NamedTuple):
    """One response that the service made.

    Attributes:
        nonce: The `nonce_of` the values that it was made from.
        text: What the model answered; empty when it gave an error.
        error: The model's own error.
    """

    nonce: str
    text: str
    error: str | None


class Rated(NamedTuple):
    """One rating that the service made."""

    response_id: int
    criterion_id: int


class Ledger:
    """Kept by a service of the work it did, each time it did it.

    Args:
        totals_only: Count without remembering what, for runs of a million items. The
            oracles cannot judge by such a ledger.

    Attributes:
        generations: Responses made, errors of the model included.
        verdicts: Ratings made.
        generated: How often a response was made, by nonce.
        rated: How often a rating was made, by (response, criterion).
        by_key: How often a request was processed, by idempotency key.
        responses: Every response made, by id.
        ratings: Every rating made, by id.
    """

    def __init__(self, *, totals_only: bool = False) -> None:
        self.totals_only = totals_only
        self.generations = 0
        self.verdicts = 0
        self.generated = Counter[str]()
        self.rated = Counter[Rated]()
        self.by_key = Counter[str]()
        self.responses: dict[int, Made] = {}
        self.ratings: dict[int, Rated] = {}

    def response(self, id: int, made: Made) -> None:
        """Note that a model was called, and what it gave."""
        self.generations += 1
        if not self.totals_only:
            self.generated[made.nonce] += 1
            self.responses[id] = made

    def rating(self, id: int, rated: Rated) -> None:
        """Note that a judge was called."""
        self.verdicts += 1
        if not self.totals_only:
            self.rated[rated] += 1
            self.ratings[id] = rated

    def request(self, key: str) -> None:
        """Note that a request of that idempotency key was processed, not merely answered."""
        self.by_key[key] += 1

    def snapshot(self) -> Ledger:
        """A copy, to pass as ``since`` when several batches share a service."""
        copy = Ledger(totals_only=self.totals_only)
        copy.generations, copy.verdicts = self.generations, self.verdicts
        copy.generated, copy.rated = self.generated.copy(), self.rated.copy()
        copy.by_key = self.by_key.copy()
        copy.responses, copy.ratings = dict(self.responses), dict(self.ratings)
        return copy


@dataclass(frozen=True, slots=True)
class Report:
    """The findings of the oracle; positions in ascending order.

    Attributes:
        positions: Inputs of the batch.
        ok: Hold their own result.
        failed: Hold an error of their own that leaves nothing unknown.
        unknown: Hold an `OutcomeUnknownError`.
        lost: Have no outcome, or count as failed although the work was done and paid for.
        swapped: Hold what belongs to another position.
        foreign: Hold what belongs to no position of this batch.
        duplicated: The work was done more than once, whatever the position holds.
    """

    positions: int
    ok: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    swapped: tuple[int, ...] = ()
    foreign: tuple[int, ...] = ()
    duplicated: tuple[int, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, swapped, foreign or duplicated."""
        return not (self.lost or self.swapped or self.foreign or self.duplicated)

    def counts(self) -> dict[str, int]:
        """Name to number of positions."""
        return {name: len(getattr(self, name)) for name in _NAMES}

    def __str__(self) -> str:
        parts = [f"{count} {name}" for name, count in self.counts().items() if count]
        bad = [
            f"{name} {list(found[:5])}"
            for name in ("lost", "swapped", "foreign", "duplicated")
            if (found := cast("tuple[int, ...]", getattr(self, name)))
        ]
        return "; ".join([f"{self.positions} positions: {', '.join(parts)}", *bad])


_NAMES = ("ok", "failed", "unknown", "lost", "swapped", "foreign", "duplicated")


@dataclass(slots=True)
class _Findings:
    ok: list[int] = field(default_factory=list[int])
    failed: list[int] = field(default_factory=list[int])
    unknown: list[int] = field(default_factory=list[int])
    lost: list[int] = field(default_factory=list[int])
    swapped: list[int] = field(default_factory=list[int])
    foreign: list[int] = field(default_factory=list[int])
    duplicated: list[int] = field(default_factory=list[int])

    def report(self, positions: int) -> Report:
        found = {name: tuple(sorted(getattr(self, name))) for name in _NAMES}
        return Report(positions, **found)


def check_batch(
    outcomes: Outcomes,
    inputs: Sequence[Mapping[str, Any]],
    ledger: Ledger,
    *,
    since: Ledger | None = None,
) -> Report:
    """Hold the outcomes of a `generate_many` against its inputs and the service's ledger.

    Args:
        outcomes: What the client gave.
        inputs: The values that each position was to be generated from, repetitions allowed.
        ledger: Of the service, after the batch.
        since: A `Ledger.snapshot` from before the batch; None when it was the first work.

    Raises:
        ValueError: The ledger has totals only.
    """
    done = _work_since(ledger.generated, since and since.generated, ledger)
    nonces = [nonce_of(values) for values in inputs]
    known, found = Counter(nonces), _Findings()
    # Of the work on a nonce, what some position accounts for.
    accounted, suspects = Counter[str](), defaultdict[str, list[int]](list)
    claimed: set[int] = set()
    for position, outcome in _by_position(outcomes, len(inputs)):
        nonce = nonces[position]
        match outcome:
            case OutcomeUnknownError():
                found.unknown.append(position)
                accounted[nonce] += 1
            case GenerationError(response_id=int(id)) if _is_models_error(ledger, id):
                _place(found, found.failed, position, nonce, ledger.responses[id].nonce, known)
                accounted[nonce] += 1
            case ItemError():
                suspects[nonce].append(position)
            case PromptResponse():
                echoed = _echoed(outcome, ledger)
                if outcome.id in claimed and echoed == nonce:
                    # Equal inputs are told apart by their rows.
                    found.swapped.append(position)
                else:
                    _place(found, found.ok, position, nonce, echoed, known)
                    accounted[nonce] += 1
                claimed.add(outcome.id)
            case None:
                found.lost.append(position)
            case _:
                found.foreign.append(position)
    for nonce, positions in suspects.items():
        unaccounted = max(0, done[nonce] - accounted[nonce])
        found.lost += positions[:unaccounted]
        found.failed += positions[unaccounted:]
    found.duplicated += [p for p, nonce in enumerate(nonces) if done[nonce] > known[nonce]]
    return found.report(len(inputs))


def check_ratings(
    outcomes: Outcomes,
    response_ids: Sequence[int | None],
    ledger: Ledger,
    *,
    since: Ledger | None = None,
) -> Report:
    """Hold the outcomes of a `rate_many` against its responses and the service's ledger.

    Args:
        outcomes: What the client gave.
        response_ids: What each position was to rate; None where a failure was passed on.
        ledger: Of the service, after the batch.
        since: A `Ledger.snapshot` from before the batch.

    Raises:
        ValueError: The ledger has totals only.
    """
    done = _work_since(ledger.rated, since and since.rated, ledger)
    criteria: defaultdict[int, set[int]] = defaultdict(set)
    for rated in done:
        criteria[rated.response_id].add(rated.criterion_id)
    every = max((len(found) for found in criteria.values()), default=0)
    times, found = Counter(response_ids), _Findings()
    old = since.ratings if since else {}
    for position, outcome in _by_position(outcomes, len(response_ids)):
        id = response_ids[position]
        if id is None:
            (found.failed if isinstance(outcome, ItemError) else found.foreign).append(position)
            continue
        match outcome:
            case OutcomeUnknownError():
                found.unknown.append(position)
            case ItemError():
                complete = every > 0 and len(criteria[id]) == every
                (found.lost if complete else found.failed).append(position)
            case list() if rated := _rating_ids(cast("list[object]", outcome)):
                _place_ratings(found, position, id, rated, (ledger, old), times)
                if position in found.ok and len(rated) < len(criteria[id]):
                    found.ok.remove(position)
                    found.lost.append(position)
            case None:
                found.lost.append(position)
            case _:
                found.foreign.append(position)
    surplus = {rated.response_id for rated, n in done.items() if n > times[rated.response_id]}
    found.duplicated += [p for p, id in enumerate(response_ids) if id in surplus]
    return found.report(len(response_ids))


def _work_since(now: Counter[Any], before: Counter[Any] | None, ledger: Ledger) -> Counter[Any]:
    if ledger.totals_only:
        raise ValueError("a ledger of totals only cannot tell what was done for which item")
    return now - before if before else now


def _by_position(outcomes: Outcomes, length: int) -> Iterator[tuple[int, object]]:
    """Position and outcome; None for a position without one, and what is beyond is refused."""
    if isinstance(outcomes, Batch):
        outcomes = outcomes.outcomes
    if not isinstance(outcomes, Mapping):
        outcomes = dict(enumerate(outcomes))
    if beyond := sorted(set(outcomes) - set(range(length))):
        raise ValueError(f"outcomes for positions that have no input: {beyond[:5]}")
    for position in range(length):
        yield position, outcomes.get(position)


def _is_models_error(ledger: Ledger, id: int) -> bool:
    made = ledger.responses.get(id)
    return made is not None and made.error is not None


def _echoed(row: PromptResponse, ledger: Ledger) -> str | None:
    """The nonce that a row shows, if its content is what the service made under its id."""
    made = ledger.responses.get(row.id)
    shown = nonce_of(row.prompt.template_variables.input_values)
    if made is None or (made.nonce, made.text) != (shown, row.response_str):
        return None
    return shown


def _place(
    found: _Findings,
    own: list[int],
    position: int,
    nonce: str,
    echoed: str | None,
    known: Mapping[str, int],
) -> None:
    if echoed == nonce:
        own.append(position)
    elif echoed is not None and known.get(echoed):
        found.swapped.append(position)
    else:
        found.foreign.append(position)


def _rating_ids(ratings: list[object]) -> set[int]:
    """Their ids; empty unless all are ratings."""
    ids = {rating.id for rating in ratings if isinstance(rating, Rating)}
    return ids if len(ids) == len(ratings) else set()


def _place_ratings(
    found: _Findings,
    position: int,
    id: int,
    ratings: set[int],
    ledger: tuple[Ledger, Mapping[int, Rated]],
    times: Mapping[int | None, int],
) -> None:
    now, old = ledger
    owners = {now.ratings[r].response_id if r in now.ratings else None for r in ratings}
    if owners == {id} and not ratings & old.keys():
        found.ok.append(position)
    elif owners <= times.keys() and None not in owners and owners != {id}:
        found.swapped.append(position)
    else:
        # Of another batch, of none, or of an earlier rating of the same response.
        found.foreign.append(position)
