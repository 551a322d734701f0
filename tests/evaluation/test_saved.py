"""An evaluation that is read back from its own records, and what its progress tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from elluminate_async import Evaluation, InputError, LLMConfigFields, Progress, RatingMode
from tests.evaluation.scene import CRITERIA, PROMPT, evaluating, words

Records: TypeAlias = list[dict[str, Any]]
PRICES: LLMConfigFields = {"input_price_per_mtok": 2.0, "output_price_per_mtok": 8.0}


async def evaluated() -> Evaluation:
    """Two models, two epochs, and one row whose answer fails and one whose rating does."""
    async with evaluating() as scene:
        configs = [await scene.client.llm_configs.create(n, n, **PRICES) for n in ("a", "b")]
        scene.model.failing = lambda prompt: "word1" in prompt
        scene.model.judge_failing = lambda prompt: "word2" in prompt
        return await scene.client.evaluate(
            words(4),
            prompt=PROMPT,
            criteria=CRITERIA,
            llm_configs=configs,
            epochs=2,
            rating_mode=RatingMode.FAST,
        )


async def test_records_are_read_back_as_they_were() -> None:
    """Responses, ratings, errors, costs and rates are the same, whatever the order of lines."""
    evaluation = await evaluated()
    documents = [json.loads(json.dumps(record.to_dict())) for record in evaluation]
    configs = {one.config: one.llm_config for one in evaluation if one.llm_config}
    read = Evaluation.from_records(reversed(documents), name="x", llm_configs=configs)

    assert set(read.configs) == {"a", "b"}
    by_place = {(one.row, one.config, one.epoch): one for one in read}
    for record in evaluation:
        twin = by_place[record.row, record.config, record.epoch].to_dict()
        place = {"position": record.position}
        for name in ("error", "rating_error"):
            if twin[name] is not None:
                twin[name] |= place
        assert twin | place == record.to_dict()
    assert dict(read.summary()) == dict(evaluation.summary())
    assert read.cost == evaluation.cost
    assert not read.compare(evaluation, "a").overall.regressed


def _one_less(records: Records) -> Records:
    return records[:-1]


def _without_input(records: Records) -> Records:
    return [{**records[0], "input": None}]


def _others(_: Records) -> Records:
    return [{}]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_one_less, "records are missing: there are 15"),
        (_without_input, "record 0 is none"),
        (_others, "record 0 is none"),
    ],
)
async def test_what_is_no_evaluation_is_refused(
    change: Callable[[Records], Records], text: str
) -> None:
    """Missing records would be missing rates."""
    documents = [record.to_dict() for record in await evaluated()]

    with pytest.raises(InputError, match=text):
        Evaluation.from_records(change(documents))


async def test_progress_tells_tokens_and_costs() -> None:
    """Those of the responses that have come; in the end they are the evaluation's own."""
    told: list[Progress] = []
    async with evaluating() as scene:
        config = await scene.client.llm_configs.create("a", "a", **PRICES)
        evaluation = await scene.client.evaluate(
            words(5),
            prompt=PROMPT,
            criteria=CRITERIA,
            llm_configs=config,
            options=scene.client.options.replace(on_progress=told.append),
        )

    assert [one.tokens for one in told] == sorted(one.tokens for one in told)
    assert told[-1].tokens == 10
    assert told[-1].cost == pytest.approx(evaluation.cost)
