"""The oracle names what is planted, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from elluminate_async import (
    Batch,
    Criterion,
    GenerationError,
    ItemError,
    OutcomeUnknownError,
    PromptResponse,
    Rating,
    RatingError,
)
from elluminate_async.testing import VIRTUAL_TIME, Ledger, Report, check_batch, check_ratings
from elluminate_async.testing.ledger import Made, Rated, nonce_of


@pytest.fixture(scope="module")
def anyio_backend() -> object:
    return VIRTUAL_TIME


INPUTS = [{"x": f"value {number}"} for number in range(4)]
IDS = [11, 12, 13]


def row(id: int, values: Mapping[str, Any], text: str | None = None) -> PromptResponse:
    return PromptResponse.model_validate(
        {
            "id": id,
            "prompt": {"id": id, "template_variables": {"id": id, "input_values": values}},
            "messages": [{"role": "assistant", "content": text or nonce_of(values)}],
        }
    )


def made(ledger: Ledger, id: int, values: Mapping[str, Any], error: str | None = None) -> None:
    nonce = nonce_of(values)
    ledger.response(id, Made(nonce, "" if error else nonce, error))


def ledger_of(inputs: Sequence[Mapping[str, Any]]) -> Ledger:
    ledger = Ledger()
    for id, values in enumerate(inputs):
        made(ledger, id, values)
    return ledger


def rows() -> list[object]:
    return [row(id, values) for id, values in enumerate(INPUTS)]


def failure(position: int, kind: type[ItemError] = ItemError, **details: Any) -> ItemError:
    return kind("no", position=position, operation="generate", **details)


def check(outcomes: Sequence[object] | Mapping[int, object], ledger: Ledger) -> Report:
    return check_batch(outcomes, INPUTS, ledger)


def test_a_faithful_batch_is_clean() -> None:
    """Every position with its own row is ok, as a batch, a list or a mapping."""
    ledger = ledger_of(INPUTS)

    for outcomes in (Batch(rows()), rows(), dict(enumerate(rows()))):
        report = check_batch(outcomes, INPUTS, ledger)
        assert report.clean
        assert report.ok == (0, 1, 2, 3)
        assert str(report) == "4 positions: 4 ok"


def test_lost_is_a_failure_of_what_was_done() -> None:
    """An item that was paid for and came back as failed is lost; one never made has failed."""
    ledger = ledger_of(INPUTS[:3])
    outcomes = [*rows()[:2], failure(2), failure(3, code="not_sent")]

    report = check(outcomes, ledger)

    assert (report.lost, report.failed) == ((2,), (3,))
    assert not report.clean
    assert "lost [2]" in str(report)


def test_lost_is_a_position_without_outcome() -> None:
    """A shorter list and a stream that left a position out are found."""
    report = check(dict(enumerate(rows()[:3])), ledger_of(INPUTS))

    assert report.lost == (3,)
    assert check(rows()[:3], ledger_of(INPUTS)).lost == (3,)


def test_swapped_is_another_positions_result() -> None:
    """Rows that changed places are both named."""
    first, second, *others = rows()

    report = check([second, first, *others], ledger_of(INPUTS))

    assert report.swapped == (0, 1)


def test_one_row_for_two_equal_inputs_is_swapped() -> None:
    """Of equal inputs each has a row of its own."""
    inputs = [INPUTS[0], INPUTS[0]]
    ledger = ledger_of(inputs)

    assert check_batch([row(0, inputs[0]), row(1, inputs[0])], inputs, ledger).clean
    assert check_batch([row(0, inputs[0])] * 2, inputs, ledger).swapped == (1,)


def test_foreign_is_what_no_input_asked_for() -> None:
    """A row of other values, one the service never made, and one with other text."""
    ledger = ledger_of(INPUTS)
    made(ledger, 99, {"x": "someone else's"})
    outcomes = [
        row(99, {"x": "someone else's"}),
        row(77, INPUTS[1]),
        row(2, INPUTS[2], "never said"),
        "no row at all",
    ]

    report = check(outcomes, ledger)

    assert report.foreign == (0, 1, 2, 3)


def test_duplicated_is_work_beyond_one_per_position() -> None:
    """Made twice is duplicated whatever the position holds; twice for two inputs is not."""
    ledger = ledger_of(INPUTS)
    made(ledger, 50, INPUTS[1])
    outcomes = rows()

    assert check(outcomes, ledger).duplicated == (1,)
    assert check([outcomes[0], failure(1, OutcomeUnknownError), *outcomes[2:]], ledger).duplicated
    doubled = [*INPUTS, INPUTS[1]]
    assert check_batch([*outcomes, row(50, INPUTS[1])], doubled, ledger).clean


def test_unknown_is_counted_and_no_loss() -> None:
    """What says that it does not know is honest, whether the work was done or not."""
    ledger = ledger_of(INPUTS[:1])
    outcomes = [failure(position, OutcomeUnknownError) for position in range(4)]

    report = check(outcomes, ledger)

    assert report.unknown == (0, 1, 2, 3)
    assert report.clean


def test_the_models_own_error_is_no_loss() -> None:
    """A row with the model's error failed; one that the service answered well is lost."""
    ledger = ledger_of(INPUTS[:3])
    made(ledger, 3, INPUTS[3], error="out of tokens")
    outcomes = [
        *rows()[:2],
        failure(2, GenerationError, response_id=2),
        failure(3, GenerationError, response_id=3),
    ]

    report = check(outcomes, ledger)

    assert (report.lost, report.failed) == ((2,), (3,))


def test_another_positions_error_is_swapped() -> None:
    """An error row belongs to one position too."""
    ledger = ledger_of(INPUTS[:3])
    made(ledger, 3, INPUTS[3], error="out of tokens")

    report = check([failure(0, GenerationError, response_id=3), *rows()[1:3], None], ledger)

    assert report.swapped == (0,)


def test_work_from_before_is_not_counted() -> None:
    """A snapshot separates this batch's work from an earlier one's."""
    ledger = ledger_of(INPUTS)
    since = ledger.snapshot()
    for id, values in enumerate(INPUTS, start=10):
        made(ledger, id, values)
    outcomes = [row(id, values) for id, values in enumerate(INPUTS, start=10)]

    assert check_batch(outcomes, INPUTS, ledger, since=since).clean
    assert check_batch(outcomes, INPUTS, ledger).duplicated == (0, 1, 2, 3)


def rating(id: int, criterion: int = 1) -> Rating:
    return Rating(id=id, criterion=Criterion(id=criterion, criterion_str="?"), rating="YES")


def rated_ledger() -> Ledger:
    """Two criteria: ratings 1 and 2 of response 11, 3 and 4 of 12, 5 and 6 of 13."""
    ledger = Ledger()
    for number, id in enumerate(IDS):
        for criterion in (1, 2):
            ledger.rating(2 * number + criterion, Rated(id, criterion))
    return ledger


def rated(*first: int) -> list[list[Rating]]:
    return [[rating(id, 1), rating(id + 1, 2)] for id in first]


def test_faithful_ratings_are_clean() -> None:
    """Each position holds the ratings of its own response."""
    assert check_ratings(rated(1, 3, 5), IDS, rated_ledger()).ok == (0, 1, 2)


def test_ratings_of_another_response_are_swapped() -> None:
    """Also when only one of them is."""
    mixed = [rating(1, 1), rating(4, 2)]

    report = check_ratings([mixed, *rated(1, 5)], IDS, rated_ledger())

    assert report.swapped == (0, 1)


def test_ratings_of_no_response_here_are_foreign() -> None:
    """Those the service never made, of a response of another batch, and stale ones."""
    ledger = rated_ledger()
    since = ledger.snapshot()
    ledger.rating(100, Rated(14, 1))
    for id in IDS:
        ledger.rating(200 + id, Rated(id, 1))

    report = check_ratings([[rating(999)], [rating(100)], rated(5)[0]], IDS, ledger, since=since)

    assert report.foreign == (0, 1, 2)


def test_ratings_that_were_made_and_not_given_are_lost() -> None:
    """A failure of what was rated, a criterion left out, and no outcome at all."""
    outcomes = {0: failure(0, RatingError), 1: rated(3)[0][:1]}

    assert check_ratings(outcomes, IDS, rated_ledger()).lost == (0, 1, 2)


def test_a_rating_that_was_not_made_has_failed() -> None:
    """An incomplete rating is a failure, and a failure passed on stays one."""
    ledger = rated_ledger()
    ledger.rating(7, Rated(14, 1))

    report = check_ratings(
        [*rated(1, 3, 5), failure(3, RatingError), failure(4)], [*IDS, 14, None], ledger
    )

    assert report.failed == (3, 4)
    assert report.clean


def test_a_response_rated_twice_is_duplicated() -> None:
    """By one criterion is enough; twice for two positions is not."""
    ledger = rated_ledger()
    ledger.rating(9, Rated(12, 2))

    assert check_ratings(rated(1, 3, 5), IDS, ledger).duplicated == (1,)
    assert check_ratings(rated(1, 3, 5, 3), [*IDS, 12], ledger).clean


def test_unknown_ratings_are_counted() -> None:
    """The same honesty holds for ratings."""
    outcomes = [failure(position, OutcomeUnknownError) for position in range(3)]

    assert check_ratings(outcomes, IDS, rated_ledger()).unknown == (0, 1, 2)


def test_a_ledger_of_totals_judges_nothing() -> None:
    """Rather than call everything foreign it refuses."""
    ledger = Ledger(totals_only=True)
    made(ledger, 1, INPUTS[0])

    assert ledger.generations == 1
    with pytest.raises(ValueError, match="totals only"):
        check(rows(), ledger)


def test_an_outcome_without_an_input_is_refused() -> None:
    """A longer list is no batch of these inputs."""
    with pytest.raises(ValueError, match="no input"):
        check([*rows(), rows()[0]], ledger_of(INPUTS))
