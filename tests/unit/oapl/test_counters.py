"""Counters and moments against NumPy, by hand, and from several threads."""

import copy
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oapl.counters import STATISTICS, Counters, Moments

streams = st.lists(st.floats(-1e3, 1e3), max_size=20)


def moments(*parts):
    whole = Moments()
    for part in parts:
        whole.add(part)
    return whole


def test_moments_by_hand():
    # 1, 2, 6: mean 3, squared deviations 4 + 1 + 9 = 14.
    seen = moments([1.0], np.array([[2.0, 6.0]], np.float32))
    assert (seen.count, seen.mean, seen.min, seen.max) == (3, 3.0, 1.0, 6.0)
    assert seen.squares == pytest.approx(14)
    assert seen.std == pytest.approx((14 / 3) ** 0.5)


@given(streams, streams)
def test_two_accumulators_together_are_one_that_has_seen_everything(first, second):
    apart, whole = moments(first), moments(first + second)
    apart.merge(moments(second))
    assert apart.count == len(first + second)
    for which in STATISTICS:
        assert getattr(apart, which) == pytest.approx(getattr(whole, which), abs=1e-7)
    if first + second:
        assert whole.std == pytest.approx(float(np.std(first + second)), abs=1e-7)


def test_a_small_spread_about_a_large_mean_is_not_lost():
    seen = moments(*([1e9 + value] for value in (1.0, 2.0, 3.0)))
    assert seen.std == pytest.approx((2 / 3) ** 0.5, rel=1e-6)


def test_a_plain_name_is_the_mean_and_a_star_stands_for_each_statistic():
    seen = moments([1.0, 3.0])
    assert seen.report("a/b") == {"a/b": 2.0}
    assert seen.report("a/b_*") == {"a/b_mean": 2, "a/b_std": 1, "a/b_min": 1, "a/b_max": 3}
    assert seen.report("a/*", ("mean", "max")) == {"a/mean": 2.0, "a/max": 3.0}


def test_what_was_not_observed_is_absent():
    assert moments([], np.zeros(0)).report("a/b_*") == {}
    assert Counters().take() == {}


def test_what_was_taken_starts_again():
    counters = Counters()
    counters.add({"a": 1, "b": 0.5})
    counters.add({"a": 2})
    assert counters.take() == {"a": 3.0, "b": 0.5}
    counters.add({"b": 1})
    assert counters.take() == {"b": 1.0}


def test_nothing_is_lost_between_threads():
    counters, taken = Counters(), []

    def add():
        for _ in range(2000):
            counters.add({"a": 1})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        taken.append(counters.take().get("a", 0))
    taken.append(counters.take().get("a", 0))
    assert sum(taken) == 8000


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))])
@pytest.mark.parametrize("held", [{}, {"a": 2.0}])
def test_a_copy_holds_the_same_and_lives_its_own_life(copied, held):
    counters = Counters()
    counters.add(held)
    other = copied(counters)
    other.add({"b": 1})
    assert counters.take() == held
    assert other.take() == {**held, "b": 1.0}
