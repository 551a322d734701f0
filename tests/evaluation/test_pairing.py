"""Which rows of two evaluations are the same: those with the values that the prompt asks for."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from elluminate_async import Evaluation, PairingWarning, RatingMode
from elluminate_async.evaluation.pairing import RunRows, twins_of
from elluminate_async.evaluation.reporting import report_data
from tests.evaluation.scene import Scene, evaluating, judging


def answered(count: int, answer: str) -> list[dict[str, Any]]:
    """Rows with answers that were made elsewhere, and with a note that nobody asks for."""
    return [
        {"word": f"word{n}", "answer": f"{answer} {n}", "note": f"{answer} of {n}"}
        for n in range(count)
    ]


async def rated(
    scene: Scene, rows: list[dict[str, Any]], prompt: str = "Say {{word}}"
) -> Evaluation:
    """An evaluation of these answers, by a judge that dislikes those that say "poor"."""
    judging(scene, lambda prompt: "poor" not in prompt)
    return await scene.client.evaluate(
        rows, prompt=prompt, criteria=["A?"], responses="answer", rating_mode=RatingMode.FAST
    )


def read_back(evaluation: Evaluation) -> Evaluation:
    file = io.BytesIO()
    evaluation.write_records(file)
    return Evaluation.from_records(json.loads(line) for line in file.getvalue().splitlines())


@pytest.mark.parametrize("prompt", ["Say {{word}}", "Say something"])
async def test_answers_of_a_column_do_not_tell_rows_apart(prompt: str) -> None:
    """Nor do columns that the prompt does not ask for; without placeholders only the answers."""
    async with evaluating() as scene:
        notes = {} if "{{" in prompt else {"note": ""}
        before = await rated(scene, [row | notes for row in answered(6, "good")], prompt)
        after = await rated(scene, [row | notes for row in answered(6, "poor")[::-1]], prompt)

        comparison = after.compare(before)
        assert (comparison.overall.n, comparison.overall.unpaired) == (6, 0)
        assert comparison.overall.regressed == [5, 4, 3, 2, 1, 0]
        assert report_data(after, compare_with=before).comparisons[0].overall.n == 6


async def test_records_that_are_read_back_are_paired_alike() -> None:
    """They know the columns of the prompt; those of before take them from the other side."""
    async with evaluating() as scene:
        before = await rated(scene, answered(6, "good"))
        after = await rated(scene, answered(6, "poor"))
        old = [{k: v for k, v in r.to_dict().items() if k != "paired_by"} for r in before]

        assert read_back(after).compare(read_back(before)).overall.n == 6
        assert after.compare(Evaluation.from_records(old)).overall.n == 6
        assert Evaluation.from_records(old).compare(after).overall.n == 6


async def test_a_stream_tells_how_its_records_are_paired() -> None:
    """So that what was kept of it can be compared."""
    async with evaluating() as scene:
        rows = answered(6, "good")
        before = await rated(scene, rows)
        async with scene.client.stream_evaluate(
            answered(6, "poor"), prompt="Say {{word}}", criteria=["A?"], responses="answer"
        ) as records:
            kept = [record.to_dict() async for record in records]

        assert Evaluation.from_records(kept).compare(before).overall.n == 6


async def test_rows_in_memory_are_paired_with_their_file() -> None:
    """Dates, a Decimal and tuples are in the file as JSON has them."""
    at = datetime(2026, 1, 1, 9, 30, tzinfo=UTC)
    rows = [
        {"word": f"w{n}", "at": at + n * timedelta(days=1), "sum": Decimal("1.10") + n, "part": (n,
         {"on": date(2026, 1, 1 + n)})}
        for n in range(3)
    ]  # fmt: skip
    async with evaluating() as scene:
        judging(scene, lambda prompt: True)
        result = await scene.client.evaluate(
            rows, prompt="{{word}} {{at}} {{sum}} {{part}}", criteria=["A?"]
        )

    kept = read_back(result)
    for a, b in ((result, kept), (kept, result), (result, result)):
        comparison = a.compare(b)
        assert (comparison.overall.n, comparison.overall.unpaired) == (3, 0)
        assert comparison.reason is None
    assert report_data(result, compare_with=kept).comparisons[0].overall.n == 3


async def test_a_comparison_without_a_pair_says_why() -> None:
    """A warning, the comparison, the report and its document: nothing was measured."""
    async with evaluating() as scene:
        before, after = [await rated(scene, answered(n, "good")) for n in (1, 2)]
        other = await scene.client.evaluate(
            [{"word": "other", "answer": "x"}], prompt="Say {{word}}", criteria=["A?"]
        )

    assert after.compare(before).reason is None  # one of the two is paired
    told = "no row of the one is a row of the other; rows are paired by their values of 'word'"
    with pytest.warns(PairingWarning, match=f"nothing is compared: {told}"):
        comparison = other.compare(before)
    assert (comparison.overall.verdict, comparison.reason) == ("not measured", told)
    assert comparison.to_dict()["reason"] == told
    assert told in report_data(other, compare_with=before).notes[0]


@pytest.mark.parametrize(
    ("before", "now", "twins"),
    [
        pytest.param(("q",), ("q", "lang"), [1, 0], id="either asks for it"),
        pytest.param(("q",), ("q", "context"), [0, 1], id="one side lacks it"),
        pytest.param((), (), [1, 0], id="nobody knows"),
        pytest.param(("x",), ("y",), [1, 0], id="nothing in common"),
    ],
)
def test_rows_are_paired_by_what_both_have(
    before: tuple[str, ...], now: tuple[str, ...], twins: list[int]
) -> None:
    """Of the columns of either prompt; equal rows in their order."""
    rows = [{"q": "a", "lang": "en"}, {"q": "a", "lang": "de"}]
    assert twins_of(RunRows(rows, before), RunRows(rows[::-1], now)) == twins
