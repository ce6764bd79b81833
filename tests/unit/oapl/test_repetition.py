"""The share of repeated 4-grams, by hand."""

import numpy as np
import pytest

from oapl.repetition import repetition_rate


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
