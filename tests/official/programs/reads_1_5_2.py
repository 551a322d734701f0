"""Samples, comparisons, statistics, maps and filters with the client 1.5.2. Prints ``ok``."""

import asyncio
import sys

from elluminate import AsyncClient
from elluminate.schemas import RatingMode, RatingValue
from elluminate.schemas.response import (
    PromptResponseFilter,
    ResponsesSampleFilter,
    ResponsesSampleSortBy,
)

import whole

whole.watch()

ROWS = [{"word": f"w{number}", "kind": "AB"[number % 2]} for number in range(6)]


async def setup(client):
    template, _ = await client.get_or_create_prompt_template("T", "Spell {{word}}.")
    collection, _ = await client.get_or_create_collection("C", {"variables": ROWS})
    own = await client.create_criterion_set("S", criteria=["Is it long?", "Is it a word?"])
    return [
        await client.run_experiment(
            name, template, collection, criterion_set=own, n_epochs=2, rating_mode=RatingMode.FAST
        )
        for name in ("A", "B")
    ]


def ids_of(samples):
    return [one.prompt_response_ids for one in samples]


async def main():
    async with AsyncClient() as client:
        a, b = await setup(client)
        responses = client._responses
        by_id = {one.id: one for one in a.rated_responses}
        verdicts = {one.id: [rating.rating for rating in one.ratings] for one in a.rated_responses}
        perfect = {id for id, one in verdicts.items() if set(one) == {RatingValue.YES}}

        samples = await responses.alist_samples(a)
        assert [len(ids) for ids in ids_of(samples)] == [2] * 6
        assert {id for ids in ids_of(samples) for id in ids} == set(verdicts)
        left = await responses.alist_samples(a, exclude_perfect_responses=True)
        assert {id for ids in ids_of(left) for id in ids} == set(verdicts) - perfect

        criterion = a.criterion_set.criteria[0].id
        filters = ResponsesSampleFilter(
            experiment_id=a.id, criteria_filter_by={criterion: RatingValue.YES}
        )
        found = await responses.alist_samples(a, filters=filters)
        assert {id for ids in ids_of(found) for id in ids} == {
            id for id, one in verdicts.items() if one[0] is RatingValue.YES
        }
        one_id = a.rated_responses[3].id
        noted = await responses.aupdate_annotation(one_id, "odd")
        assert noted.annotation == "odd"
        found = await responses.alist_samples(a, show_only_annotated_responses=True)
        assert ids_of(found) == [[one_id]]
        for order in ResponsesSampleSortBy:
            found = await responses.alist_samples(a, sort_by=order)
            assert sorted(ids_of(found)) == sorted(ids_of(samples)), order

        pairs = await responses.alist_comparison_samples(a, b)
        assert [one.experiment_id for one in pairs] == [a.id, b.id] * 6
        for only in ("improved", "regressed"):
            assert len(await responses.alist_comparison_samples(a, b, only, [criterion])) % 2 == 0
        kinds = {"kind": ["A"]}
        pairs = await responses.alist_comparison_samples(a, b, categorical_filters=kinds)
        assert len(pairs) == 6

        stats = await responses.aget_stats(a.llm_config, days=7)
        assert (stats.total_responses, len(stats.daily_usage)) == (24, 7)
        assert stats.daily_usage[-1].requests == 24

        first = await client._experiments.aget_map(a, page=1, limit=4)
        second = await client._experiments.aget_map(a, page=2, limit=4)
        assert (first.num_samples, first.num_responses) == (6, 12)
        assert [len(first.samples), len(second.samples)] == [4, 2]
        for sample in (*first.samples, *second.samples):
            for one in sample.responses:
                passed = verdicts[one.response_id].count(RatingValue.YES)
                assert (one.num_criteria_passed, one.num_criteria_failed) == (passed, 2 - passed)

        some = await client._experiments.aget(id=a.id, categorical_filters=kinds)
        assert some.results.num_rated_responses == 6
        assert a.results.num_rated_responses == 12
        assert a.results.completed_epochs == 2
        assert a.results.estimated_total_cost_usd == 0.0
        assert a.results.experiment_duration_seconds > 0

        filters = PromptResponseFilter(epoch=2, experiment_id=a.id, duration_seconds_min=0)
        found = await responses.alist(filters=filters)
        assert {one.id for one in found} == {one.id for one in by_id.values() if one.epoch == 2}
    print("ok")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
