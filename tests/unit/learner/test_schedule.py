"""The learning rate, by hand."""

import pytest

from learner.schedule import learning_rate
from oapl.config.sections import OptimizerSection


def rates(max_steps: int, steps: list[int], **options: object) -> list[float]:
    optimizer = OptimizerSection(lr=1.0, **options)
    return [learning_rate(step, max_steps, optimizer) for step in steps]


def test_constant_stays():
    assert rates(10, [0, 5, 9, 50]) == [1.0] * 4


def test_warm_up_rises_from_the_first_update_to_the_full_rate():
    assert rates(10, [0, 1, 2, 3, 4, 9], warmup_ratio=0.4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_falls_to_the_floor():
    # floor 0.2: 0.2 + 0.8 * (1 + cos(pi * s / 4)) / 2 at s = 0, 1, 2, 3, 4 and beyond.
    expected = [1.0, 0.2 + 0.8 * 0.8535534, 0.6, 0.2 + 0.8 * 0.1464466, 0.2, 0.2]
    found = rates(4, [0, 1, 2, 3, 4, 100], schedule="cosine", min_lr=0.2)
    assert found == pytest.approx(expected)


def test_cosine_starts_after_the_warm_up():
    found = rates(6, [0, 1, 2, 4], schedule="cosine", warmup_ratio=1 / 3)
    assert found == pytest.approx([0.5, 1.0, 1.0, 0.5])


def test_a_floor_above_the_rate_does_not_raise_it():
    assert rates(4, [0, 3], schedule="cosine", min_lr=2.0) == [1.0, 1.0]
