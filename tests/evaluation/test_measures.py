"""`Evaluation.summary`, `compare` and `gate`: records to statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from elluminate_async import Evaluation, InputError, RatingMode
from tests.evaluation.scene import PROMPT, Scene, evaluating, words
from tests.evaluation.scene import judging as scene_judging


def judging(scene: Scene, is_yes: Callable[[int], bool]) -> None:
    """Have the judge say YES where ``is_yes`` holds of the number of the row."""
    scene_judging(scene, lambda prompt: is_yes(int(prompt.split("echo Say word")[1].split()[0])))


async def evaluate(scene: Scene, count: int = 20, **arguments: Any) -> Evaluation:
    chosen: dict[str, Any] = {"prompt": PROMPT, "criteria": ["A?", "B?"]}
    chosen |= {"rating_mode": RatingMode.FAST} | arguments
    return await scene.client.evaluate(words(count), **chosen)


async def test_a_summary_counts_verdicts_and_never_a_failure() -> None:
    """Of a failed response and a failed judge nothing is a NO."""
    async with evaluating() as scene:
        judging(scene, lambda number: number % 2 == 0)
        scene.model.failing = lambda prompt: prompt.endswith("word3")
        evaluation = await evaluate(scene)

        rates = evaluation.summary()["default"]
        assert list(rates.criteria) == ["A?", "B?"]
        assert [(r.n, r.passed, r.not_measured) for r in rates.criteria.values()] == [
            (19, 10, 1)
        ] * 2
        assert (rates.overall.n, rates.overall.passed, rates.overall.not_measured) == (38, 20, 2)
        assert rates.overall.clusters == 19


async def test_a_summary_is_a_table_of_text() -> None:
    """A line for each configuration and criterion, and one for all."""
    async with evaluating() as scene:
        judging(scene, lambda number: number < 5)
        evaluation = await evaluate(scene)
        table = str(evaluation.summary())
        assert "90 % interval" in str(evaluation.summary(confidence=0.9))

        lines = table.splitlines()
        assert lines[0].split()[:2] == ["configuration", "criterion"]
        assert lines[1].startswith("default        A?            5 of 20   25.0 %")
        assert lines[3].split()[1:5] == ["all", "criteria", "10", "of"]


async def test_nothing_measured_is_not_measured() -> None:
    """With the judge down there is no rate, and the gate says that it could not measure."""
    async with evaluating() as scene:
        scene.model.judge_failing = lambda prompt: True
        evaluation = await evaluate(scene)

        assert evaluation.summary()["default"].overall.rate is None
        assert evaluation.gate(pass_rate=0.5).status == "not measured"
        assert "-" in str(evaluation.summary())


@pytest.mark.parametrize(("below", "status"), [(18, "passed"), (10, "failed")])
async def test_the_gate_tells_pass_from_fail(below: int, status: str) -> None:
    """By the rate of all verdicts."""
    async with evaluating() as scene:
        judging(scene, lambda number: number < below)

        gate = (await evaluate(scene)).gate(pass_rate=0.8, max_error_rate=0.02)
        assert gate.status == status
        assert bool(gate.reasons) == (status == "failed")


async def test_configurations_are_compared_row_by_row() -> None:
    """By the index of the row, whatever the order of the configurations."""
    async with evaluating() as scene:
        for name in ("small", "large"):
            await scene.client.llm_configs.create(name, f"{name}-model")
        judging(scene, lambda number: number < 10)
        evaluation = await evaluate(scene, llm_configs=["small", "large"])

        comparison = evaluation.compare("small", "large")
        assert comparison.overall.n == 20
        assert comparison.overall.difference == 0
        with pytest.raises(InputError, match="no configuration 'other'"):
            evaluation.compare("small", "other")
        with pytest.raises(InputError, match="two configurations"):
            evaluation.compare("small")


async def test_two_runs_are_paired_by_the_content_of_their_rows() -> None:
    """In another order and with other rows among them; indices are those of the later run."""
    async with evaluating() as scene:
        judging(scene, lambda number: True)
        before = await evaluate(scene, 20)
        judging(scene, lambda number: number != 12)
        rows = words(25)[::-1]
        after = await scene.client.evaluate(
            rows, prompt=PROMPT, criteria=["A?", "B?"], rating_mode=RatingMode.FAST
        )

        comparison = after.compare(before)
        assert comparison.overall.n == 20
        assert comparison.overall.unpaired == 5
        assert comparison.overall.improved == []
        assert comparison.overall.regressed == [rows.index(words(25)[12])]


async def test_the_gate_of_several_configurations_is_the_worst() -> None:
    """And its reasons name the configuration."""
    async with evaluating() as scene:
        for name in ("small", "large"):
            await scene.client.llm_configs.create(name, f"{name}-model")
        judging(scene, lambda number: number < 10)
        evaluation = await evaluate(scene, llm_configs=["small", "large"])

        gate = evaluation.gate(pass_rate=0.8)
        assert gate.status == "failed"
        assert [reason.partition(":")[0] for reason in gate.reasons] == ["small", "large"]
