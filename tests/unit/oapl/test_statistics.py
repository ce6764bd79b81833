"""The statistics of a comparison beside brute force: all resamples, all signs, all coins."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from statistics import fmean

import numpy as np
import pytest

from oapl.comparison import bootstrap, sign_flips
from oapl.comparison.bootstrap import interval, resampled_means
from oapl.comparison.many import adjusted
from oapl.comparison.mcnemar import Discordant, discordant
from oapl.comparison.paired import difference, paired
from oapl.comparison.power import (
    EVEN,
    Spread,
    errors_shown,
    smallest_difference,
    spread_of,
)
from oapl.comparison.seeds import (
    interquartile_mean,
    iqm_difference,
    mean_of_maxima,
    resampled_iqms,
)
from oapl.comparison.sign_flips import all_signs, sign_flip_p
from oapl.comparison.words import figures, p_told, verdict


def chance(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- the bootstrap


def test_resampled_means_are_those_of_all_draws_of_three_problems():
    values, draws = np.array([0.0, 1.0, 5.0]), 27_000
    exact = Counter(round(fmean(drawn), 9) for drawn in itertools.product(values, repeat=3))
    found = Counter(round(float(mean), 9) for mean in resampled_means(values, draws, chance()))
    assert set(found) == set(exact)
    for mean, ways in exact.items():
        expected = ways / 27 * draws
        assert abs(found[mean] - expected) < 5 * math.sqrt(expected), mean


def test_the_interval_is_that_of_all_draws_of_three_problems():
    # All three draws alike happens in 1 of 27, 3.7 %: more than the 2.5 % beyond either end.
    low, high = interval(resampled_means(np.array([0.0, 1.0, 5.0]), 27_000, chance()))
    assert (low, high) == (0.0, 5.0)
    every = np.array([fmean(d) for d in itertools.product([0.0, 1.0, 5.0], repeat=3)])
    low, high = interval(resampled_means(np.array([0.0, 1.0, 5.0]), 27_000, chance()), level=0.8)
    assert (low, high) == pytest.approx((np.quantile(every, 0.1), np.quantile(every, 0.9)))


def test_draws_in_parts_are_as_many_and_spread_as_much(monkeypatch):
    values = chance(1).normal(size=50)
    whole = resampled_means(values, 4000, chance())
    monkeypatch.setattr(bootstrap, "NUMBERS_AT_A_TIME", 130)
    parts = resampled_means(values, 4001, chance())
    assert len(parts) == 4001
    assert parts.std() == pytest.approx(whole.std(), rel=0.05)
    assert whole.std() == pytest.approx(values.std() / math.sqrt(50), rel=0.05)


def test_samples_of_a_problem_stay_together():
    # A hundred samples that all agree tell no more than one: what is drawn is problems.
    once = {number: float(number % 2) for number in range(20)}
    hundred = {number: fmean([value] * 100) for number, value in once.items()}
    zero = dict.fromkeys(once, 0.0)
    one, many = (difference("s", "m", paired(zero, side)) for side in (once, hundred))
    assert (one.low, one.high) == (many.low, many.high)
    assert one.high - one.low > 0.3


# --- the sign-flip test


@pytest.mark.parametrize(
    "values",
    [[0.5], [1, 1, 1], [0.1, 0.2, 0.3, -0.1], [1, -1], [0.3, -0.2, 0.25, 0.05, -0.4, 0.9, 0.0]],
)
def test_the_exact_p_counts_all_signs(values):
    numbers = np.array(values, np.float64)
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, numbers, strict=True)))
        for signs in itertools.product([1, -1], repeat=len(numbers))
    ]
    as_far = sum(one >= abs(numbers.sum()) - 1e-12 for one in sums)
    assert sign_flip_p(numbers, 1, chance()) == as_far / len(sums)


def test_all_signs_are_all_of_them_once():
    found = {tuple(row) for row in all_signs(4)}
    assert found == set(itertools.product([-1.0, 1.0], repeat=4))


def test_drawn_signs_come_near_the_exact_p_and_never_to_0(monkeypatch):
    numbers = chance(3).normal(1.0, size=12)
    exact = sign_flip_p(numbers, 1, chance())
    monkeypatch.setattr(sign_flips, "MOST_ENUMERATED", 0)
    drawn = sign_flip_p(numbers, 20_000, chance())
    assert 0.02 < exact < 0.5
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact / 20_000))
    assert sign_flip_p(np.ones(60), 999, chance()) == 1 / 1000


def test_without_a_difference_nothing_is_shown():
    assert sign_flip_p(np.zeros(5), 10, chance()) == 1.0
    assert sign_flip_p(np.array([0.5, -0.5]), 10, chance()) == 1.0


def test_the_test_holds_its_level_where_both_are_alike():
    draws = chance(5)
    ps = [sign_flip_p(draws.normal(size=40), 199, draws) for _ in range(600)]
    below = sum(p <= 0.05 for p in ps) / len(ps)
    assert 0.02 < below < 0.08  # 0.05 and 3 standard errors of 0.009


# --- McNemar


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (3, 0), (5, 2), (4, 4), (1, 9)])
def test_mcnemar_s_p_counts_all_ways_that_coins_fall(gained, lost):
    count = gained + lost
    ways = [sum(coins) for coins in itertools.product([0, 1], repeat=count)]
    as_far = sum(abs(2 * heads - count) >= abs(gained - lost) for heads in ways)
    expected = Fraction(as_far, 2**count)
    assert Discordant(gained=gained, lost=lost).p == pytest.approx(float(expected), abs=1e-15)


def test_mcnemar_s_is_the_sign_flip_test_of_right_and_wrong():
    before = np.array([1, 1, 0, 0, 0, 0, 0, 1, 0], bool)
    after = np.array([1, 0, 1, 1, 1, 1, 0, 1, 1], bool)
    found = discordant(before, after)
    assert (found.gained, found.lost) == (5, 1)
    changes = after.astype(float) - before.astype(float)
    assert found.p == pytest.approx(sign_flip_p(changes, 1, chance()), abs=1e-15)


def test_thousands_of_coins_are_counted_exactly():
    assert Discordant(gained=2000, lost=2000).p == 1.0
    assert 0 < Discordant(gained=2200, lost=2000).p < 0.01


# --- many sets


def rejected(ps: list[float], rate: float) -> set[int]:
    """Benjamini and Hochberg's procedure as it is written: the largest k with p_(k) <= k q / m."""
    order = sorted(range(len(ps)), key=ps.__getitem__)
    most = max((k for k, i in enumerate(order, 1) if ps[i] <= k * rate / len(ps)), default=0)
    return set(order[:most])


def test_an_adjusted_p_is_the_smallest_rate_at_which_the_procedure_rejects():
    ps = [0.01, 0.02, 0.03, 0.04, 0.5, 0.02, 1.0]
    for index, q in enumerate(adjusted(ps)):
        assert index in rejected(ps, q + 1e-12)
        assert q == 0 or index not in rejected(ps, q - 1e-9)
    assert adjusted([0.03]) == [0.03]
    assert adjusted([0.9, 0.95]) == [0.95, 0.95]


# --- seeds


def test_the_mean_of_maxima_by_hand():
    # Best 0.5, 0.7, 0.9: mean 0.7, variance 0.04, error 0.2 / sqrt(3).
    curves = [[0.1, 0.5, 0.3], [0.7], [0.9, 0.2]]
    assert mean_of_maxima(curves) == pytest.approx((0.7, 0.2 / math.sqrt(3)))
    assert math.isnan(mean_of_maxima([[0.5]])[1])


def test_the_interquartile_mean_leaves_out_a_quarter_at_either_end():
    scores = np.array([[0.0, 9.0], [1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert interquartile_mean(scores) == fmean([2, 3, 4, 5])
    assert interquartile_mean(np.array([[1.0, 2.0, 6.0]])) == 3.0  # three: none is left out
    assert interquartile_mean(np.array([[0.0], [1.0], [2.0], [3.0], [50.0]])) == 2.0


def test_runs_are_drawn_anew_within_each_set():
    scores = np.array([[0.0, 10.0], [1.0, 20.0]])
    exact = Counter(
        interquartile_mean(np.array([[a, c], [b, d]]))
        for a, b in itertools.product([0.0, 1.0], repeat=2)
        for c, d in itertools.product([10.0, 20.0], repeat=2)
    )
    found = Counter(resampled_iqms(scores, 16_000, chance()).tolist())
    assert set(found) == set(exact)
    for value, ways in exact.items():
        assert abs(found[value] - 1000 * ways) < 5 * math.sqrt(1000 * ways)


def test_the_difference_of_interquartile_means_has_an_interval_around_it():
    before = chance(1).normal(0.5, 0.02, size=(5, 3))
    after = chance(2).normal(0.6, 0.02, size=(4, 3))
    change, low, high = iqm_difference(before, after, 2000, chance())
    assert change == pytest.approx(interquartile_mean(after) - interquartile_mean(before))
    assert 0.05 < low < change < high < 0.15


# --- power


def test_two_point_eight_errors_are_shown_in_four_of_five_repetitions():
    assert errors_shown() == pytest.approx(1.959964 + 0.841621, abs=1e-5)
    by_hand = errors_shown() * math.sqrt((1 / 12 + 2 / 6 / 8) / 200)
    assert smallest_difference(200, 8) == pytest.approx(by_hand)
    assert smallest_difference(800, 8) == pytest.approx(by_hand / 2)
    assert smallest_difference(200, 10**9) == pytest.approx(errors_shown() * math.sqrt(1 / 2400))


@pytest.mark.parametrize(("problems", "samples"), [(0, 1), (1, 0)])
def test_nothing_shows_nothing(problems, samples):
    with pytest.raises(ValueError, match="show nothing"):
        smallest_difference(problems, samples)


def test_the_smallest_difference_is_found_in_four_of_five_simulated_evaluations():
    """Rates of 0.3 and 0.6 by turns, all raised by the difference: no spread of the difference."""
    draws, problems, samples, repetitions = chance(7), 120, 4, 1500
    rates = np.where(np.arange(problems) % 2, 0.3, 0.6)
    spread = Spread(within=float((rates * (1 - rates)).mean()), between=float(rates.var()))
    least = smallest_difference(problems, samples, spread, correlation=1.0)
    size = (repetitions, problems)
    a = draws.binomial(samples, rates, size=size) / samples
    b = draws.binomial(samples, rates + least, size=size) / samples
    changes = b - a
    errors = changes.std(axis=1, ddof=1) / math.sqrt(problems)
    found = float(np.mean(np.abs(changes.mean(axis=1)) > 1.98 * errors))
    assert 0.76 < found < 0.84


def test_the_spread_is_found_again_in_samples():
    draws = chance(11)
    rates = draws.uniform(size=4000)
    rewards = [draws.binomial(1, rate, size=6).astype(np.float64) for rate in rates]
    found = spread_of(rewards)
    assert found.within == pytest.approx(EVEN.within, abs=0.005)
    assert found.between == pytest.approx(EVEN.between, abs=0.005)
    single = spread_of([one[:1] for one in rewards])
    assert (single.within, single.between) == (0.0, pytest.approx(0.25, abs=0.005))


# --- pairs and words


def test_pairs_are_by_problem_and_what_one_side_has_alone_is_counted():
    pairs = paired({"a": 1.0, "b": 0.0, "c": 0.5}, {"c": 1.0, "d": 0.0, "b": 0.25, "e": 1.0})
    assert pairs.before.tolist() == [0.0, 0.5]
    assert pairs.after.tolist() == [0.25, 1.0]
    assert (pairs.only_before, pairs.only_after) == (1, 2)
    with pytest.raises(ValueError, match="no problem in common"):
        difference("s", "m", paired({"a": 1.0}, {"b": 1.0}))


def example(seed: int = 0, size: int = 60):
    before = {i: float(v) for i, v in enumerate(chance(1).uniform(size=size))}
    changes = chance(2).normal(0.05, 0.1, size)
    after = {i: value + float(changes[i]) for i, value in before.items()}
    return difference("set", "mean", paired(before, after), draws=2000, seed=seed)


def test_a_difference_says_what_it_is_made_of():
    found = example()
    assert found.change == pytest.approx(found.after - found.before)
    assert found.relative == pytest.approx(found.change / found.before)
    assert found.low < found.change < found.high
    assert found.shows == pytest.approx(2.8016 * 0.1 / math.sqrt(60), rel=0.25)


def test_two_calls_draw_the_same_and_another_seed_draws_others():
    assert example() == example()
    assert (example().low, example().p) != (example(seed=1).low, example(seed=1).p)


def test_a_verdict_in_words():
    assert figures(0.031, 0.004, 0.058, 0.0203) == (
        "+3.1 points, 95 % interval 0.4 to 5.8, p = 0.02"
    )
    found = replace(example(), before=0.5, after=0.531, low=0.004, high=0.058, p=0.0203, shows=0.04)
    assert verdict(found) == "B above A: +3.1 points, 95 % interval 0.4 to 5.8, p = 0.02"
    many = replace(found, adjusted_p=0.0812)
    assert verdict(many) == (
        "no difference shown: +3.1 points, 95 % interval 0.4 to 5.8, p = 0.02 (p = 0.081 among all "
        "tests); 60 problems like these show 4.0 points or more"
    )
    worse = replace(found, after=0.4, low=-0.2, high=-0.01, p=1e-5)
    assert verdict(worse, names=("base", "tuned")).startswith("tuned below base: -10.0 points")
    assert [p_told(p) for p in (0.00099, 0.001, 0.0499, 0.74, 1.0)] == [
        *("p < 0.001", "p = 0.001", "p = 0.05", "p = 0.74", "p = 1"),
    ]
    assert figures(-12.34, -20.0, -5.0, unit="tokens") == (
        "-12.3 tokens, 95 % interval -20.0 to -5.0"
    )


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """200 evaluations of 40 problems, whose true difference is 0.1."""
    draws, hits = chance(13), 0
    for _ in range(200):
        low, high = interval(resampled_means(draws.normal(0.1, 0.3, size=40), 500, draws))
        hits += low <= 0.1 <= high
    assert 0.89 < hits / 200 < 0.99
