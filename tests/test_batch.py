"""`Batch`: n slots, strict on reading; and the options it is asked for with."""

from __future__ import annotations

import copy
import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, TypeVar

import pytest

from elluminate_async import (
    Batch,
    BatchError,
    BatchOptions,
    ConfigurationError,
    ElluminateError,
    ItemError,
    ItemErrorCode,
    Outcome,
    Progress,
    RateLimit,
)

T = TypeVar("T")


def pickled(value: T) -> T:
    return pickle.loads(pickle.dumps(value))


def failure(position: int, code: ItemErrorCode = "generation_failed") -> ItemError:
    return ItemError("why", position=position, code=code, operation="generate")


@pytest.fixture
def mixed() -> Batch[str]:
    return Batch(["a", failure(1), "c", failure(3, "no_result"), "e"])


def test_reading_gives_the_value_or_raises_the_items_error(mixed: Batch[str]) -> None:
    """A failed slot cannot be mistaken for a value."""
    assert mixed[0] == "a"
    assert mixed[-1] == "e"
    with pytest.raises(ItemError, match=r"generate\[1\] generation_failed: why") as caught:
        mixed[1]
    assert caught.value is mixed.failed[1]


def test_iteration_stops_at_the_first_failed_slot(mixed: Batch[str]) -> None:
    """`for`, `list` and unpacking raise; none of them hands an error out as a value."""
    values = iter(mixed)
    assert next(values) == "a"
    with pytest.raises(ItemError):
        next(values)
    with pytest.raises(ItemError):
        list(mixed)
    with pytest.raises(ItemError):
        print(*mixed)  # noqa: T201
    with pytest.raises(ItemError):
        list(reversed(mixed))


def test_iteration_of_a_good_batch() -> None:
    """All values, in input order."""
    assert list(Batch(["a", "b"])) == ["a", "b"]
    assert list(enumerate(Batch("ab"))) == [(0, "a"), (1, "b")]


def test_an_index_out_of_range(mixed: Batch[str]) -> None:
    """As any sequence."""
    with pytest.raises(IndexError):
        mixed[5]


def test_length_is_the_number_of_inputs(mixed: Batch[str]) -> None:
    """Failures do not shorten it."""
    assert len(mixed) == 5
    assert len(Batch[str]([])) == 0


def test_views_keep_positions(mixed: Batch[str]) -> None:
    """`succeeded`, `failed` and `outcomes` never raise and keep every position."""
    assert dict(mixed.succeeded) == {0: "a", 2: "c", 4: "e"}
    assert [(i, error.position) for i, error in mixed.failed.items()] == [(1, 1), (3, 3)]
    assert mixed.outcomes == ("a", mixed.failed[1], "c", mixed.failed[3], "e")


def test_views_cannot_be_changed(mixed: Batch[str]) -> None:
    """A batch is what happened."""
    with pytest.raises(TypeError):
        mixed.succeeded[0] = "x"  # type: ignore[index]
    with pytest.raises(TypeError):
        mixed[0] = "x"  # type: ignore[index]


def test_failed_is_falsy_when_all_went_well() -> None:
    """`if batch.failed:` reads as it should, for an empty batch as well."""
    assert not Batch(["a"]).failed
    assert not Batch([]).failed


def test_values_may_be_falsy_and_exceptions_of_others() -> None:
    """None, 0 and a foreign exception are values; only an `ItemError` is a failure."""
    error = ValueError("a value")
    batch: Batch[object] = Batch([None, 0, error])

    assert list(batch) == [None, 0, error]
    assert not batch.failed


def test_slices_are_batches(mixed: Batch[str]) -> None:
    """Strict as well; an error keeps the position that it had in the input."""
    part = mixed[2:]

    assert isinstance(part, Batch)
    assert part.outcomes == mixed.outcomes[2:]
    assert mixed[::-2].outcomes == ("e", "c", "a")
    assert list(mixed[:1]) == ["a"]
    assert part.failed[1].position == 3
    with pytest.raises(ItemError):
        part[1]


def test_it_is_a_sequence_and_no_list(mixed: Batch[str]) -> None:
    """`list(x)` would copy a list subclass past its strictness."""
    assert isinstance(mixed, Sequence)
    assert not isinstance(mixed, list | tuple)


def test_equality_is_identity(mixed: Batch[str]) -> None:
    """Two runs are never equal; a batch can be a key."""
    twin = Batch(mixed.outcomes)

    assert mixed == mixed
    assert mixed != twin
    assert Batch(["a"]) != ["a"]
    assert {mixed: 1}[mixed] == 1


def test_searching_raises_at_a_failed_slot(mixed: Batch[str]) -> None:
    """`in`, `index` and `count` do not claim absence over a slot that failed."""
    assert "a" in mixed
    assert mixed.index("a") == 0
    with pytest.raises(ItemError):
        assert "zzz" in mixed
    with pytest.raises(ItemError):
        mixed.index("e")
    with pytest.raises(ItemError):
        mixed.count("a")


def test_a_position_without_outcome_is_a_bug() -> None:
    """The one guard of "exactly one outcome per position"."""
    assert list(Batch[str].from_outcomes(2, {1: "b", 0: "a"})) == ["a", "b"]
    with pytest.raises(AssertionError, match=r"3 positions, 2 outcomes; without: \[1\]"):
        Batch[str].from_outcomes(3, {0: "a", 2: "c"})


@pytest.mark.parametrize("slots", [{0: "a", 1: "b"}, {1: "b"}, {-1: "a"}, {}])
def test_an_outcome_without_position_is_a_bug(slots: dict[int, str]) -> None:
    """Too many, too few, or elsewhere."""
    with pytest.raises(AssertionError):
        Batch[str].from_outcomes(1, slots)


def test_reading_a_failed_slot_again_does_not_grow_its_traceback(mixed: Batch[str]) -> None:
    """A stored exception would keep a frame for each time it was raised."""

    def depth() -> int:
        with pytest.raises(ItemError) as caught:
            mixed[1]
        return len(traceback.extract_tb(caught.value.__traceback__))

    assert [depth() for _ in range(5)] == [depth()] * 5


def test_repr_counts(mixed: Batch[str]) -> None:
    """Short, and free of values."""
    assert repr(mixed) == "<Batch 3/5 succeeded; failed: 1 generation_failed, 1 no_result>"
    assert repr(Batch(["secret"])) == "<Batch 1/1 succeeded>"
    assert str(Batch[str]([])) == "<Batch 0/0 succeeded>"


@pytest.mark.parametrize("way", [pickled, copy.copy, copy.deepcopy])
def test_a_batch_survives_pickling(
    mixed: Batch[str], way: Callable[[Batch[str]], Batch[str]]
) -> None:
    """Values and errors, in place; also after the views were read."""
    assert mixed.failed
    back = way(mixed)

    assert type(back) is Batch
    assert dict(back.succeeded) == dict(mixed.succeeded)
    assert [str(error) for error in back.failed.values()] == [
        str(error) for error in mixed.failed.values()
    ]


def test_raise_for_failed_returns_a_good_batch() -> None:
    """So that it fits in the line of the call."""
    batch = Batch(["a"])

    assert batch.raise_for_failed() is batch


def test_raise_for_failed_raises_all_failures(mixed: Batch[str]) -> None:
    """A group of every item's error that carries the whole batch."""
    with pytest.raises(BatchError, match="3/5 succeeded") as caught:
        mixed.raise_for_failed()

    assert caught.value.batch is mixed
    assert list(caught.value.exceptions) == list(mixed.failed.values())
    assert isinstance(caught.value, ElluminateError)
    assert isinstance(caught.value, ExceptionGroup)


def codes(group: BatchError) -> list[str]:
    return [error.code for error in group.exceptions if isinstance(error, ItemError)]


def test_a_batch_error_can_be_split(mixed: Batch[str]) -> None:
    """Both halves keep class and batch."""
    with pytest.raises(BatchError) as caught:
        mixed.raise_for_failed()

    found, rest = caught.value.split(lambda e: isinstance(e, ItemError) and e.code == "no_result")

    assert isinstance(found, BatchError)
    assert isinstance(rest, BatchError)
    assert found.batch is rest.batch is mixed
    assert codes(found) == ["no_result"]
    assert codes(rest) == ["generation_failed"]


def test_a_batch_error_in_except_star(mixed: Batch[str]) -> None:
    """`except*` gets a `BatchError` with the batch, and the rest goes on."""
    seen: list[BaseException] = []
    try:
        mixed.raise_for_failed()
    except* ItemError as group:
        seen.append(group)

    assert isinstance(seen[0], BatchError)
    assert seen[0].batch is mixed


def test_a_batch_error_survives_pickling(mixed: Batch[str]) -> None:
    """Group, members and batch."""
    with pytest.raises(BatchError) as caught:
        mixed.raise_for_failed()

    back = pickle.loads(pickle.dumps(caught.value))

    assert type(back) is BatchError
    assert back.message == caught.value.message
    assert [str(e) for e in back.exceptions] == [str(e) for e in caught.value.exceptions]
    assert dict(back.batch.succeeded) == dict(mixed.succeeded)


def test_outcomes_can_be_matched(mixed: Batch[str]) -> None:
    """The form for code that handles both at once."""

    def shown(outcome: Outcome[str]) -> str:
        match outcome:
            case ItemError(code=code):
                return code
            case value:
                return value.upper()

    assert [shown(outcome) for outcome in mixed.outcomes] == [
        "A",
        "generation_failed",
        "C",
        "no_result",
        "E",
    ]


def test_progress_adds_up() -> None:
    """`done` counts both kinds."""
    assert Progress("rate", 10, succeeded=3, failed=2, elapsed=1.0).done == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_concurrency", 0),
        ("max_concurrency", 2.5),
        ("max_concurrency", True),
        ("chunk_size", -1),
        ("chunk_bytes", 0),
        ("max_attempts", 0),
        ("max_attempts", "3"),
        ("deadline", 0),
        ("deadline", float("inf")),
        ("deadline", float("nan")),
        ("deadline", None),
        ("attempt_timeout", -1.0),
        ("connect_timeout", "10"),
        ("stream_silence", 0.0),
        ("job_stall", 0.0),
        ("max_retry_after", None),
        ("chunk_linger", -0.1),
        ("rate_limit", 5),
        ("rate_limit", (5, 1.0)),
        ("item_limit", 5),
        ("on_progress", 1),
    ],
)
def test_an_option_that_cannot_work(name: str, value: object) -> None:
    """Refused where it is written, by its name; no default is endless either."""
    with pytest.raises(ConfigurationError, match=f"BatchOptions.{name} must be"):
        BatchOptions(**{name: value})  # type: ignore[arg-type]


ODD = (10**400, 10**5000, float("inf"), float("nan"), -1, True, "1")
COUNTS = {"max_concurrency", "chunk_size", "chunk_bytes", "max_attempts"}
SECONDS = {field.name for field in fields(BatchOptions)} - COUNTS - {
    "rate_limit", "item_limit", "on_progress", "priority", "replay_after_settle",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(COUNTS | SECONDS))
def test_no_option_takes_an_odd_number(name: str) -> None:
    """Too large for a clock, endless, none, negative, a truth, a text; no fraction as a count."""
    odd: list[object] = [*ODD, *([1.5] if name in COUNTS else [])]
    for value in odd if name == "retry_for" else [*odd, 0]:
        with pytest.raises(ConfigurationError, match=f"BatchOptions.{name} must be"):
            BatchOptions(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_a_switch_is_true_or_false(value: Any) -> None:
    """What looks like a number of seconds is none."""
    with pytest.raises(ConfigurationError, match="replay_after_settle must be True or False"):
        BatchOptions(replay_after_settle=value)


@pytest.mark.parametrize("value", ["urgent", "BULK", "", None, 1, ["bulk"]])
def test_a_priority_is_one_of_three(value: object) -> None:
    """A misspelt one is told when the options are made, with those that there are."""
    with pytest.raises(ConfigurationError, match="priority must be one of 'interactive', 'normal'"):
        BatchOptions(priority=value)  # type: ignore[arg-type]


class _Asynchronous:
    async def __call__(self, progress: Progress) -> None:
        """Nobody would await this."""


async def _progress(progress: Progress, more: int = 0) -> None:
    """Nor this."""


@pytest.mark.parametrize(
    "callback",
    [
        _progress,
        _Asynchronous(),
        _Asynchronous().__call__,
        partial(_progress, more=1),
        partial(_Asynchronous()),
    ],
)
def test_progress_is_told_to_no_coroutine(callback: Any) -> None:
    """It would never run: refused before anything is sent, whatever it hides in."""
    with pytest.raises(ConfigurationError, match=r"on_progress must be .* no async one"):
        BatchOptions(on_progress=callback)
    told: list[Progress] = []
    assert BatchOptions(on_progress=told.append).on_progress is not None


def test_a_rate_limit_that_cannot_work() -> None:
    """Nothing and for ever are no limits, and half a request is none."""
    requests: list[Any] = [*ODD, 0, 1.5]
    for odd in requests:
        with pytest.raises(ConfigurationError, match=r"RateLimit\.requests must be a whole number"):
            RateLimit(odd, 1)
    periods: list[Any] = [*ODD, 0]
    for odd in periods:
        with pytest.raises(ConfigurationError, match=r"RateLimit\.period must be a finite number"):
            RateLimit(5, odd)


def test_options_are_derived_by_name() -> None:
    """The rest stays; the original too; the result is checked as well."""
    options = BatchOptions(chunk_size=7, rate_limit=RateLimit(5))

    changed = options.replace(max_concurrency=2)

    assert (changed.chunk_size, changed.max_concurrency) == (7, 2)
    assert changed.rate_limit == RateLimit(5, 1.0)
    assert options.max_concurrency == 10
    with pytest.raises(ConfigurationError, match="max_concurrency"):
        options.replace(max_concurrency=0)
    with pytest.raises(ConfigurationError, match="no option named 'chunksize'"):
        options.replace(chunksize=3)  # type: ignore[call-arg]


def test_every_default_is_finite() -> None:
    """Nothing waits for ever unless somebody asks for it, and nobody can."""
    options = BatchOptions()

    assert 0 < options.deadline <= 24 * 3600
    assert 0 < options.connect_timeout <= options.attempt_timeout <= options.deadline


async def test_a_batch_without_failures_has_nothing_to_retry() -> None:
    """It is given back as it is, also where it could send nothing, as one that was unpickled."""
    for batch in (Batch([1, 2]), Batch[int]([]), pickle.loads(pickle.dumps(Batch([1, 2])))[:1]):
        assert await batch.retry_failed() is batch
