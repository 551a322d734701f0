"""Rows to positions by what the rows echo, never by where they stand."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from elluminate_async.operations.echoes import Echo
from elluminate_async.operations.matching import (
    ExpectedRow,
    NaturalKey,
    RowPool,
    key_of,
    match_result,
)
from elluminate_async.schemas.llm_configs import LLMConfig
from elluminate_async.schemas.responses import GenerationMetadata, Prompt, PromptResponse
from elluminate_async.schemas.template_variables import TemplateVariables


def row(
    number: int,
    variables: int,
    epoch: int = 1,
    config: int | None = None,
    error: str | None = None,
) -> PromptResponse:
    entry = TemplateVariables(id=variables, input_values={})
    made_by = GenerationMetadata(llm_model_config=LLMConfig(id=config)) if config else None
    return PromptResponse(
        id=number,
        prompt=Prompt(id=number, template_variables=entry),
        generation_metadata=made_by,
        error=error,
        epoch=epoch,
    )


def wanted(position: int, variables: int, epoch: int = 1, config: int | None = None) -> ExpectedRow:
    return ExpectedRow(position, NaturalKey(variables, epoch), Echo(config_id=config))


def pool(*rows: PromptResponse) -> RowPool:
    """A pool that knows which configurations the service names."""
    found = RowPool(rows)
    found.learn(rows)
    return found


def ids(found: dict[int, PromptResponse]) -> dict[int, int]:
    return {position: row.id for position, row in found.items()}


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(1, 6), max_size=25), st.randoms(use_true_random=False))
def test_shuffled_rows_find_their_positions(variables: list[int], rand: random.Random) -> None:
    """With repeated inputs in distinct epochs: any order, with strangers, some rows missing."""
    seen = Counter[int]()
    asked: list[ExpectedRow] = []
    for position, entry in enumerate(variables):
        seen[entry] += 1
        asked.append(wanted(position, entry, seen[entry]))
    rows = [row(100 + w.position, *w.key) for w in asked if rand.random() < 0.8]
    there = {row.id for row in rows}
    rows += [row(900 + number, 77, number) for number in range(3)]
    rand.shuffle(rows)

    found = RowPool(rows).claim(asked)

    assert ids(found) == {w.position: 100 + w.position for w in asked if 100 + w.position in there}


def test_the_key_of_a_row() -> None:
    """What it echoes of its request."""
    assert key_of(row(1, 5, 3)) == NaturalKey(5, 3) == (5, 3)


def test_a_row_is_claimed_once() -> None:
    """Of one key the first added goes first, and then there is none."""
    pool = RowPool([row(1, 5)])
    pool.add([row(2, 5)])

    assert ids(pool.claim([wanted(0, 5)])) == {0: 1}
    assert ids(pool.claim([wanted(1, 5)])) == {1: 2}
    assert pool.claim([wanted(2, 5)]) == {}


def test_a_result_in_the_requests_order() -> None:
    """Taken as it stands, whatever epochs the service has set, when the variables agree."""
    asked = [wanted(7, 1), wanted(8, 2), wanted(9, 1, 2)]

    found = match_result(asked, [row(1, 1, 1), row(2, 2, 1), row(3, 1, 1)])

    assert ids(found) == {7: 1, 8: 2, 9: 3}


def test_a_result_in_another_order() -> None:
    """Matched by key: never a shifted value."""
    found = match_result([wanted(0, 1), wanted(1, 2)], [row(20, 2), row(10, 1)])

    assert ids(found) == {0: 10, 1: 20}


def test_a_result_that_is_too_short_or_too_long() -> None:
    """What is missing has no row; what is too much belongs to nobody."""
    asked = [wanted(0, 1), wanted(1, 2), wanted(2, 3)]

    assert ids(match_result(asked, [row(10, 1), row(30, 3)])) == {0: 10, 2: 30}
    assert ids(match_result(asked[:1], [row(40, 4), row(10, 1)])) == {0: 10}
    assert match_result(asked, []) == {}
    assert match_result([], [row(1, 1)]) == {}


@settings(max_examples=300, deadline=None)
@given(st.permutations(range(8)), st.integers(0, 8))
def test_a_mangled_result_never_shifts(order: list[int], cut: int) -> None:
    """Any permutation and any cut: a position has its own row or none."""
    asked = [wanted(position, 10 + position) for position in range(8)]
    rows = [row(100 + position, 10 + position) for position in order][:cut]

    found = match_result(asked, rows)

    assert ids(found) == {position: 100 + position for position in order[:cut]}


def test_a_service_that_sets_epochs_itself() -> None:
    """By the variables alone, each row once; rows of a key that somebody asked for are theirs."""
    asked = Counter({NaturalKey(5, 1): 1, NaturalKey(5, 2): 1})
    pool = RowPool([row(1, 5, 2), row(2, 5, 9), row(3, 6, 9)])

    found = pool.claim_any_epoch([wanted(0, 5, 1)], reserved=asked)

    assert ids(found) == {0: 2}
    assert pool.claim_any_epoch([wanted(0, 5, 1)], reserved=asked) == {}
    assert ids(pool.claim([wanted(1, 5, 2)])) == {1: 1}
    assert ids(pool.claim([wanted(3, 6, 9)])) == {3: 3}


def test_repeats_of_a_service_that_sets_one_epoch_for_all() -> None:
    """Rows of a key beyond those that were asked for go to the repeats; others' rows do not."""
    pool = RowPool([row(1, 5, 1), row(2, 5, 1), row(3, 5, 1), row(9, 5, 1)])
    asked = Counter({NaturalKey(5, 1): 1})

    found = pool.claim([wanted(0, 5, 1)])
    asked.subtract([NaturalKey(5, 1)])
    others = pool.claim_any_epoch(
        [wanted(1, 5, 2), wanted(2, 5, 3), wanted(3, 5, 4)], reserved=asked, not_among={9}
    )

    assert ids(found) == {0: 1}
    assert ids(others) == {1: 2, 2: 3}


def test_rows_of_a_short_result_may_have_epochs_of_the_services_own() -> None:
    """Generated rows of equal variables are as good as each other; stored ones are not."""
    asked = [wanted(0, 5, 1), wanted(1, 5, 2), wanted(2, 6, 1)]
    rows = [row(10, 5, 7), row(11, 5, 8)]

    assert ids(match_result(asked, rows, interchangeable=True)) == {0: 10, 1: 11}
    assert match_result(asked, rows) == {}


def test_a_row_of_another_configuration_is_never_claimed() -> None:
    """Of one key the row of the own configuration goes, wherever it stands; else none."""
    rows = pool(row(1, 5, config=7), row(2, 5, config=8), row(3, 6, config=7))

    assert ids(rows.claim([wanted(0, 5, config=8), wanted(1, 6, config=8)])) == {0: 2}
    others = rows.claim_any_epoch([wanted(1, 5, 2, config=8)], reserved={})
    assert others == {}


def test_a_row_without_a_configuration() -> None:
    """Any service's that names none; else only a failure, and after the named ones."""
    named, failed = row(1, 5, config=7), row(2, 5, error="out of memory")

    assert ids(pool(row(3, 5)).claim([wanted(0, 5, config=7)])) == {0: 3}
    assert ids(pool(named, row(3, 6)).claim([wanted(0, 6, config=7)])) == {}
    assert ids(pool(failed, named).claim([wanted(0, 5, config=7)])) == {0: 1}
    assert ids(pool(failed, row(9, 9, config=7)).claim([wanted(0, 5, config=7)])) == {0: 2}


def test_rows_of_several_configurations_where_nobody_knows_which_is_meant() -> None:
    """One of them at least is somebody else's: none is claimed."""
    both = pool(row(1, 5, config=7), row(2, 5, config=8), row(3, 6, config=7))

    assert ids(both.claim([wanted(0, 5), wanted(1, 6)])) == {1: 3}


def test_surplus_rows_are_of_the_own_configuration() -> None:
    """Another client's rows of the same key are no surplus of this one."""
    rows = pool(row(1, 5, config=7), row(2, 5, config=8))
    entry = wanted(0, 5, config=8)

    assert list(rows.ids_of({entry.key: entry})) == [2]
