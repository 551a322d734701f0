"""A record of which the judge gave a verdict by one criterion, and none by the other."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from elluminate_async import Evaluation, ItemError, RatingError, RatingMode
from elluminate_async.evaluation.reporting import report_data
from tests.evaluation.scene import CRITERIA, PROMPT, Scene, evaluating, judging, words

ROWS = 6


def is_silent(prompt: str) -> bool:
    """Of rows 2 and 4 the judge has no verdict by the second criterion."""
    return "word2" in prompt or "word4" in prompt


def is_yes(prompt: str) -> bool:
    """By the first criterion row 2 passes and row 4 does not."""
    return "word4" not in prompt


async def evaluate(scene: Scene, **arguments: Any) -> Evaluation:
    judging(scene, is_yes, silent=is_silent)
    chosen: dict[str, Any] = {"criteria": CRITERIA, "rating_mode": RatingMode.FAST}
    return await scene.client.evaluate(words(ROWS), prompt=PROMPT, **(chosen | arguments))


def documents(evaluation: Evaluation) -> list[dict[str, Any]]:
    file = io.BytesIO()
    evaluation.write_records(file)
    return [json.loads(line) for line in file.getvalue().splitlines()]


async def test_a_record_has_the_verdicts_that_there_are() -> None:
    """With the error of the rest, and which criterion that is."""
    async with evaluating() as scene:
        evaluation = await evaluate(scene)

        assert list(evaluation.failed) == [2, 4]
        said = [[str(one.rating) for one in evaluation[i].ratings or ()] for i in (1, 2, 4)]
        assert said == [["YES", "YES"], ["YES"], ["NO"]]
        for record in (evaluation[2], evaluation[4]):
            assert isinstance(record.error, RatingError)
            assert [one.criterion_str for one in record.not_measured] == CRITERIA[1:]
            assert record.to_dict()["not_measured"][0]["criterion"] == CRITERIA[1]
        assert evaluation[1].not_measured == []


async def test_one_no_is_enough_to_fail_and_one_yes_not_to_pass() -> None:
    """A criterion that is missing could not make it pass; whether it would have is not known."""
    async with evaluating() as scene:
        evaluation = await evaluate(scene)

        assert [record.passed for record in evaluation][1:5] == [True, None, True, False]
        assert [row["passed"] for row in evaluation.to_dicts()][1:5] == [True, None, True, False]


async def test_each_criterion_is_counted_by_itself() -> None:
    """What the service has is measured; what is missing is not measured, and no NO."""
    async with evaluating() as scene:
        evaluation = await evaluate(scene)

        rates = evaluation.summary()["default"]
        first, second = rates.criteria.values()
        assert (first.n, first.passed, first.not_measured) == (6, 5, 0)
        assert (second.n, second.passed, second.not_measured) == (4, 4, 2)
        assert (rates.overall.n, rates.overall.not_measured) == (10, 2)
        assert evaluation.to_dicts()[2][f"rating.{CRITERIA[0]}"] == "YES"
        assert evaluation.to_dicts()[2][f"rating.{CRITERIA[1]}"] is None
        shown = report_data(evaluation).configurations[0]
        assert [(one.n, one.not_measured) for one in shown.criteria] == [(6, 0), (4, 2)]


async def test_a_no_is_a_failure_of_junit_and_the_rest_an_error() -> None:
    """A failure names the criterion, and why there is no verdict by the other."""
    async with evaluating() as scene:
        evaluation = await evaluate(scene)
        file = io.BytesIO()
        evaluation.write_junit(file)
        cases = ElementTree.fromstring(file.getvalue())[0]

        assert [[part.tag for part in case] for case in cases][1:5] == [
            [], ["error"], [], ["failure"],
        ]  # fmt: skip
        assert cases[4][0].attrib["message"] == f"NO: {CRITERIA[0]}"
        assert "rating_failed" in (cases[4][0].text or "")


async def test_records_are_read_back_with_what_is_missing() -> None:
    """The verdicts, the error, and the criterion."""
    async with evaluating() as scene:
        evaluation = await evaluate(scene)

        kept = documents(evaluation)
        read = Evaluation.from_records(kept)
        assert documents(read) == kept
        assert dict(read.summary()) == dict(evaluation.summary())
        assert "ratings" not in kept[2]["rating_error"]


async def test_the_error_is_plain_data() -> None:
    """It is pickled, and read back from its document, with the verdicts."""
    async with evaluating() as scene:
        error = (await evaluate(scene))[2].rated

        assert isinstance(error, RatingError)
        for twin in (pickle.loads(pickle.dumps(error)), ItemError.from_dict(error.to_dict())):
            assert twin.to_dict() == error.to_dict() == json.loads(json.dumps(error.to_dict()))
            assert isinstance(twin, RatingError)
            assert [one["rating"] for one in twin.ratings] == ["YES"]


async def test_a_retry_takes_the_place_of_what_there_was() -> None:
    """No verdict twice: the ratings are those of the second time alone."""
    async with evaluating() as scene:
        evaluation = await evaluate(scene)
        judging(scene, is_yes)
        await evaluation.retry_failed()

        assert not evaluation.failed
        assert [len(record.ratings or ()) for record in evaluation] == [2] * ROWS
        rates = evaluation.summary()["default"]
        assert (rates.overall.n, rates.overall.not_measured) == (12, 0)


async def test_a_journal_tells_them_again_without_asking(tmp_path: Path) -> None:
    """By their ids, as the service has them; no text of them is in it."""
    async with evaluating(tmp_path / "s.db") as scene:
        first = await evaluate(scene, journal=tmp_path / "run")
        scene.recorder.requests.clear()
        again = await evaluate(scene, journal=tmp_path / "run")

        assert documents(again) == documents(first)
        assert scene.recorder.count("/batches$", "POST") == 0
        text = (tmp_path / "run" / "ratings-0.journal").read_text()
        assert not any(question in text for question in CRITERIA)
        judging(scene, is_yes)
        await again.retry_failed()
        assert not again.failed


async def test_a_stream_has_them_too() -> None:
    """A record of a stream is as whole as one of a list."""
    async with evaluating() as scene:
        judging(scene, is_yes, silent=is_silent)
        async with scene.client.stream_evaluate(
            words(ROWS), prompt=PROMPT, criteria=CRITERIA, rating_mode=RatingMode.FAST
        ) as records:
            found = {record.row: record async for record in records}

        assert [len(found[row].ratings or ()) for row in range(ROWS)] == [2, 2, 1, 2, 1, 2]
        assert [one.criterion_str for one in found[2].not_measured] == CRITERIA[1:]


@pytest.mark.parametrize("is_saved", [False, True])
async def test_criteria_are_known_where_nothing_was_measured(is_saved: bool) -> None:
    """To summaries, tables and reports; of records that were saved and read back, too."""
    async with evaluating() as scene:
        scene.model.judge_failing = lambda prompt: True
        evaluation = await scene.client.evaluate(words(ROWS), prompt=PROMPT, criteria=CRITERIA)
        if is_saved:
            evaluation = Evaluation.from_records(documents(evaluation))

        assert list(evaluation.summary()["default"].criteria) == CRITERIA
        data = report_data(evaluation)
        assert [*data.criteria.values()] == CRITERIA
        assert [one.not_measured for one in data.configurations[0].criteria] == [ROWS, ROWS]
        assert f"rating.{CRITERIA[0]}" in evaluation.to_dicts()[0]
