"""The share of repeated 4-grams, by hand."""

import numpy as np
import pytest

from oapl.repetition import ends_in_loop, repetition_rate


@pytest.mark.parametrize(
    ("tokens", "rate"),
    [
        ([], 0.0),
        ([1, 1, 1, 1], 0.0),  # one 4-gram
        ([1, 1, 1, 1, 1], 1 / 2),
        ([1] * 10, 6 / 7),
        (range(100), 0.0),
        ([1, 2, 3, 4, 1, 2, 3, 4], 1 / 5),  # 1234 2341 3412 4123 1234
        ([1, 2, 3, 4, 4, 3, 2, 1], 0.0),
    ],
)
def test_the_rate_is_that_of_repeated_4_grams(tokens, rate: float):
    assert repetition_rate(np.array(tokens, np.int32)) == pytest.approx(rate)


def test_unlike_4_grams_are_told_apart():
    grams = np.random.default_rng(0).permutation(150_000).astype(np.int32)
    assert repetition_rate(grams) == 0.0


@pytest.mark.parametrize("size", [2, 3, 40, 4000])
@pytest.mark.parametrize("kinds", [1, 7, 100, 50_000])
def test_different_4_grams_are_counted_as_a_set_counts_them(size: int, kinds: int):
    tokens = np.random.default_rng(size).integers(kinds, size=size + 3).astype(np.int32)
    grams = {tuple(tokens[place : place + 4].tolist()) for place in range(size)}
    assert repetition_rate(tokens) == 1.0 - len(grams) / size


@pytest.mark.parametrize(
    ("tokens", "loops"),
    [
        ([], False),
        (list(range(100)), False),
        ([*range(50), *[7] * 15], False),  # an answer of a few equal digits
        ([*range(50), *[7] * 16], True),
        ([*range(50), *[1, 2, 3, 4, 5, 6] * 3], False),  # three times
        ([*range(50), *[1, 2, 3, 4, 5, 6] * 4], True),
        ([*range(50), *[1, 2, 3, 4, 5, 6] * 4, 9], False),  # it came out of it
        ([*range(32)] * 4, True),
        ([*range(33)] * 4, False),  # a block too long
        ([5] * 12, False),
    ],
)
def test_a_response_ends_in_a_loop_when_its_last_block_stands_there_four_times(tokens, loops: bool):
    assert ends_in_loop(np.array(tokens, np.int32)) is loops
