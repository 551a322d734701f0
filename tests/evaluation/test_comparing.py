"""Two runs compared: pairs, tests against scipy's, and what is found in simulations."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest

from elluminate_async.errors import InputError
from elluminate_async.evaluation.comparing import (
    EXACT_PAIRS,
    EXACT_STEPS,
    Comparison,
    compare,
    holm,
    mcnemar,
    sign_flip,
)
from elluminate_async.evaluation.statistics import Verdict
from tests.evaluation import scipys
from tests.evaluation.verdicts import paired, verdicts

TABLES = [
    (0, 1), (1, 0), (1, 1), (0, 5), (1, 7), (7, 1), (2, 9), (5, 5), (3, 12), (0, 20), (10, 25),
    (19, 20), (86, 150), (40, 60), (1, 30), (200, 201), (0, 60), (300, 250), (499, 501), (480, 520),
]  # fmt: skip


@pytest.mark.parametrize(("improved", "regressed"), TABLES)
def test_the_exact_test_is_scipys_binomial(improved: int, regressed: int) -> None:
    """McNemar's exact p value on 20 tables."""
    theirs = scipys.binomial_test(improved, improved + regressed)

    assert mcnemar(improved, regressed, test="exact") == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("improved", "regressed"), TABLES)
def test_the_mid_p_is_the_exact_one_less_the_point(improved: int, regressed: int) -> None:
    """As Fagerland, Lydersen and Laake 2013 have it, of scipy's binomial."""
    changed = improved + regressed
    exact = min(1.0, 2 * scipys.binomial_up_to(min(improved, regressed), changed, 0.5))
    point = scipys.binomial(improved, changed, 0.5) * (0.5 if improved == regressed else 1)

    assert mcnemar(improved, regressed) == pytest.approx(exact - point, rel=1e-9)


@pytest.mark.parametrize(
    ("improved", "regressed"), [(501, 500), (900, 800), (3_000, 2_800), (0, 1_001), (6_000, 6_000)]
)
def test_many_changes_are_tested_by_chi_square(improved: int, regressed: int) -> None:
    """Above 1,000; scipy's tail. The exact test alone is corrected for continuity."""
    changed, apart = improved + regressed, abs(improved - regressed)

    theirs = scipys.chi_square_tail(apart**2 / changed)
    corrected = scipys.chi_square_tail(max(0, apart - 1) ** 2 / changed)

    assert mcnemar(improved, regressed) == pytest.approx(theirs, rel=1e-9)
    assert mcnemar(improved, regressed, test="exact") == pytest.approx(corrected, rel=1e-9)


def test_published_figures() -> None:
    """Airway reactivity before and after (Bentur 2009, table 1 of Fagerland et al.): 1 and 7."""
    assert round(mcnemar(1, 7, test="exact"), 4) == 0.0703
    assert round(mcnemar(1, 7), 4) == 0.0391


def test_nothing_that_changed_is_no_evidence() -> None:
    """The p value is 1, by either test."""
    assert mcnemar(0, 0) == mcnemar(0, 0, test="exact") == sign_flip({0: 12}) == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_the_permutation_test_is_scipys(seed: int) -> None:
    """Differences of several epochs, all signs tried: 20 data sets of up to ten inputs."""
    random = np.random.default_rng(seed)
    given: list[int] = random.integers(-6, 7, size=random.integers(2, 11)).tolist()
    theirs = scipys.permutation_test(given)
    flips = [
        abs(sum(sign * step for sign, step in zip(signs, given, strict=True)))
        for signs in product((1, -1), repeat=len(given))
    ]
    same = flips.count(abs(sum(given))) / len(flips)

    assert any(given)
    assert sign_flip(Counter(given), test="exact") == pytest.approx(theirs, rel=1e-9)
    assert sign_flip(Counter(given)) == pytest.approx(theirs - same / 2, rel=1e-9)


def test_the_size_of_a_step_changes_nothing() -> None:
    """Only the differences' proportions count: sixths and thirds are tested alike."""
    assert sign_flip({2: 5, -4: 3, 0: 9}) == sign_flip({1: 5, -2: 3})


def test_the_approximation_continues_the_exact_test() -> None:
    """At its border, in numbers of inputs and in fineness of differences, it is the same test."""
    fine = {EXACT_STEPS // 100 + 1: 60, -EXACT_STEPS // 100: 41}
    assert sign_flip(fine) == pytest.approx(mcnemar(60, 41), rel=0.03)
    most = mcnemar(EXACT_PAIRS // 2 - 40, EXACT_PAIRS // 2 + 40)
    assert mcnemar(EXACT_PAIRS // 2 - 40, EXACT_PAIRS // 2 + 41) == pytest.approx(most, rel=0.1)


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([None, 0.02, None, 0.03], [None, 0.04, None, 0.04]),
    ],
)
def test_holms_adjustment(given: list[float | None], adjusted: list[float | None]) -> None:
    """By hand; what was not tested costs the others nothing."""
    assert [None if p is None else round(p, 9) for p in holm(given)] == adjusted


def test_one_epoch_is_a_table_of_pairs() -> None:
    """Rates, difference and test are McNemar's; the changed inputs are named in their order."""
    found = compare(*paired(improved=3, regressed=12, both=70, neither=15)).criteria["c"]

    assert (found.n, found.unpaired) == (100, 0)
    assert (found.rate_a, found.rate_b, found.difference) == (0.82, 0.73, -0.09)
    assert found.p_value == found.p_adjusted == mcnemar(3, 12)
    assert found.improved == [0, 1, 2]
    assert found.regressed == [*range(3, 15)]
    assert found.verdict == "worse"
    assert found.interval is not None
    assert found.interval.low < -0.09 < found.interval.high < 0


def test_the_other_way_round_is_the_mirror() -> None:
    """Better where it was worse, with the same p value."""
    a, b = paired(improved=3, regressed=12, both=70, neither=15)

    there, back = compare(a, b).overall, compare(b, a).overall

    assert (there.verdict, back.verdict) == ("worse", "better")
    assert there.p_value == back.p_value
    assert there.regressed == back.improved


def test_too_few_changes_show_no_difference() -> None:
    """Which is said so, and is not "equal"."""
    assert compare(*paired(2, 5, 80, 13)).overall.verdict == "no difference shown"


def test_the_exact_test_is_a_choice() -> None:
    """1 and 7 is below 0.05 by the mid-p, and above by the exact test."""
    a, b = paired(7, 1, 40, 52)

    assert compare(a, b).overall.verdict == "better"
    assert compare(a, b, test="exact").overall.verdict == "no difference shown"


def test_runs_are_paired_by_input_and_not_by_order() -> None:
    """The second in another order is the same."""
    a, b = paired(3, 12, 70, 15)

    assert compare(a, b[::-1]) == compare(a, b)
    assert compare(iter(a), iter(b)) == compare(a, b)


def test_what_one_side_did_not_measure_is_left_out_and_counted() -> None:
    """Neither an improvement nor a regression: missing on one side, or failed there."""
    a = verdicts({"both": "Y", "failed in b": "Y", "failed in a": "-", "only a": "Y", "lost": "-"})
    b = verdicts({"both": "N", "failed in b": "-", "failed in a": "N", "only b": "N", "lost": "-"})

    found = compare(a, b).criteria["c"]

    assert (found.n, found.unpaired) == (1, 5)
    assert (found.improved, found.regressed) == ([], ["both"])
    assert (found.rate_a, found.rate_b) == (1.0, 0.0)


@pytest.mark.parametrize(("a", "b"), [("", ""), ("YN", ""), ("", "YN"), ("--", "YN"), ("-", "-")])
def test_without_a_pair_nothing_was_measured(a: str, b: str) -> None:
    """There is no rate, no interval and no p value, and the verdict says so."""
    result = compare(verdicts(a), verdicts(b))

    for found in (result.overall, *result.criteria.values()):
        assert found.n == 0
        assert found.unpaired == max(len(a), len(b))
        assert found.rate_a is found.rate_b is found.difference is found.interval is None
        assert found.p_value is found.p_adjusted is None
        assert found.verdict == "not measured"


def test_a_criterion_of_one_run_only_is_not_measured() -> None:
    """And costs the others nothing in Holm's adjustment."""
    a, b = paired(0, 7, 20, 0)

    found = compare([*a, *verdicts("YYY", "old")], [*b, *verdicts("NNN", "new")]).criteria

    assert list(found) == ["c", "old", "new"]
    assert found["old"].verdict == found["new"].verdict == "not measured"
    assert found["c"].p_adjusted == found["c"].p_value


def test_several_criteria_are_adjusted_by_holm() -> None:
    """One that alone would be flagged is not, as one of five."""
    a, b = paired(1, 8, 40, 51)
    pairs = [paired(5, 5, 40, 50, f"same {i}") for i in range(4)]

    alone = compare(a, b).criteria["c"]
    among = compare(
        [*a, *(v for first, _ in pairs for v in first)],
        [*b, *(v for _, second in pairs for v in second)],
    ).criteria["c"]

    assert (alone.verdict, among.verdict) == ("worse", "no difference shown")
    assert among.p_value == alone.p_value
    assert among.p_adjusted == pytest.approx(5 * (alone.p_value or 0))


def test_epochs_are_means_of_an_input() -> None:
    """Thirds and halves are compared exactly: 1 of 3 equals 2 of 6, and is no change."""
    a = verdicts({"same": "YNN", "up": "NNN", "down": "YYY", "part": "Y--"})
    b = verdicts({"same": "YYNNNN", "up": "YN", "down": "YYYN", "part": "YYY"})

    found = compare(a, b).overall

    assert found.n == 4
    assert (found.improved, found.regressed) == (["up"], ["down"])
    assert found.difference == pytest.approx((0 + 1 / 2 - 1 / 4 + 0) / 4)
    assert found.p_value == sign_flip({2: 1, -1: 1})


def test_epochs_are_not_taken_for_inputs() -> None:
    """Six inputs that changed in ten epochs each are six changes, not sixty."""
    a, b = verdicts(["Y" * 10] * 20), verdicts(["N" * 10] * 6 + ["Y" * 10] * 14)

    assert compare(a, b).overall.p_value == mcnemar(0, 6)


def test_over_all_criteria_an_input_counts_once() -> None:
    """Its difference is the mean over the criteria that both runs measured on it."""
    a = [*verdicts("YYYN", "x"), *verdicts("YYN-", "y")]
    b = [*verdicts("NYYN", "x"), *verdicts("NYYY", "y")]

    overall = compare(a, b).overall

    assert (overall.n, overall.unpaired) == (4, 0)
    assert overall.difference == (-1 + 0 + 0.5 + 0) / 4
    assert (overall.improved, overall.regressed) == ([2], [0])


@pytest.mark.parametrize("n", [1, 20, 400])
def test_runs_that_are_equal_have_an_interval_all_the_same(n: int) -> None:
    """Nothing that changed is no proof that nothing can: the width is not 0."""
    found = compare(*paired(0, 0, n, 0)).overall

    assert found.interval is not None
    assert found.interval.low < 0 < found.interval.high
    assert (found.difference, found.p_value) == (0, 1)


def test_an_interval_stays_within_what_can_be() -> None:
    """All that improved, from 0 to 1: the upper bound is 1, the lower near it."""
    found = compare(*paired(30, 0, 0, 0)).overall

    assert found.interval is not None
    assert 0.75 < found.interval.low < found.interval.high == 1.0


def test_the_bootstrap_repeats_by_its_seed() -> None:
    """Equal seeds have equal intervals, and another's are next to them."""
    a, b = paired(20, 40, 200, 140)

    first, again = compare(a, b, seed=7), compare(a, b, seed=7)
    other = compare(a, b, seed=8)

    assert first == again
    assert low_of(first) == pytest.approx(low_of(other), abs=0.005)


def low_of(comparison: Comparison) -> float:
    assert comparison.overall.interval is not None
    return comparison.overall.interval.low


@pytest.mark.parametrize(
    ("improved", "regressed", "same"), [(20, 40, 340), (30, 30, 140), (5, 60, 935), (150, 120, 730)]
)
def test_the_interval_is_near_scipys_bootstrap(improved: int, regressed: int, same: int) -> None:
    """Drawing counts is drawing inputs: scipy's percentiles, within a tenth of the width."""
    low, high = scipys.bootstrap([1.0] * improved + [-1.0] * regressed + [0.0] * same)

    ours = compare(*paired(improved, regressed, same, 0)).overall.interval

    assert ours is not None
    assert ours.low == pytest.approx(low, abs=(high - low) / 10)
    assert ours.high == pytest.approx(high, abs=(high - low) / 10)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("resamples", 99), ("resamples", 1e4), ("resamples", True), ("seed", -1), ("seed", None),
        ("test", "chi2"), ("confidence", 95), ("confidence", math.nan),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(option: str, value: object) -> None:
    """Each by its name."""
    with pytest.raises(InputError, match=option):
        compare([], [], **{option: value})  # pyright: ignore[reportArgumentType]


def runs(
    random: np.random.Generator, n: int, improve: float, regress: float, rate: float = 0.9
) -> tuple[list[Verdict], list[Verdict]]:
    """Two runs of which so large shares improve and regress; a's rate is ``rate``."""
    shares = [improve, regress, rate - regress, 1 - rate - improve]
    return paired(*random.multinomial(n, shares).tolist())


@pytest.mark.parametrize(("improve", "regress"), [(0.0, 0.05), (0.02, 0.07), (0.035, 0.085)])
def test_a_planted_regression_of_5_points_is_found(improve: float, regress: float) -> None:
    """At 400 inputs, from 0.9 to 0.85, in at least 80 % of 300 simulations."""
    random = np.random.default_rng(4_711)

    found = [
        compare(*runs(random, 400, improve, regress), resamples=100).overall.verdict
        for _ in range(300)
    ]

    assert found.count("worse") >= 0.8 * 300
    assert found.count("better") == 0


def test_nothing_planted_is_flagged_in_at_most_6_percent() -> None:
    """Of 1,000 simulations at 400 inputs, 6 % of which improve and 6 % regress."""
    random = np.random.default_rng(1_147)

    flagged = [
        compare(*runs(random, 400, 0.06, 0.06), resamples=100).overall.verdict
        != "no difference shown"
        for _ in range(1_000)
    ]

    assert sum(flagged) <= 60


@pytest.mark.parametrize("change", [0.005, 0.02, 0.1, 0.2])
@pytest.mark.parametrize("n", [50, 400])
def test_the_tests_level_is_kept(n: int, change: float) -> None:
    """The mid-p's, by enumeration: the chance of a p value below 0.05 is at most 5 %."""
    level = 0.0
    for changed in range(1, n + 1):
        chance = scipys.binomial(changed, n, 2 * change)
        if chance < 1e-6:
            continue
        # The largest number of improvements that is flagged; by symmetry as many regressions.
        few = changed // 2
        while few >= 0 and mcnemar(few, changed - few) >= 0.05:
            few -= 1
        level += chance * 2 * scipys.binomial_up_to(few, changed, 0.5)

    assert level <= 0.05


def differences(
    random: np.random.Generator, n: int, epochs: tuple[int, int], drop: float
) -> tuple[dict[int, int], int]:
    """Of n inputs with a probability of their own, by steps of one part of the second number."""
    scale = math.lcm(*epochs)
    rates = random.beta(0.9, 0.1, n) if drop == 0 else random.beta(1.8, 0.2, n)
    a = random.binomial(epochs[0], rates) * (scale // epochs[0])
    b = random.binomial(epochs[1], rates * (1 - drop / 0.9)) * (scale // epochs[1])
    return Counter((b - a).tolist()), scale


@pytest.mark.parametrize("epochs", [(1, 1), (3, 3), (5, 5), (1, 3)])
def test_with_epochs_too_nothing_planted_is_seldom_flagged(epochs: tuple[int, int]) -> None:
    """In at most 6 % of 1,000 simulations of 200 inputs that differ much in how hard they are."""
    random = np.random.default_rng(99)

    flagged = sum(sign_flip(differences(random, 200, epochs, 0.0)[0]) < 0.05 for _ in range(1_000))

    assert flagged <= 60


@pytest.mark.parametrize(("improve", "regress"), [(0.02, 0.07), (0.05, 0.05), (0.1, 0.2)])
def test_intervals_of_the_difference_hold_the_true_one(improve: float, regress: float) -> None:
    """95 % intervals at 400 inputs: in 94 to 97 % of 400 simulations, give or take a point."""
    random = np.random.default_rng(2_718)
    held = 0
    for _ in range(400):
        pair = runs(random, 400, improve, regress, rate=0.7)
        interval = compare(*pair, resamples=500).overall.interval
        assert interval is not None
        held += interval.low <= improve - regress <= interval.high

    assert 0.93 <= held / 400 <= 0.98
