"""What a rank does beside the sending when it announces a publication."""

from types import SimpleNamespace

import pytest

from learner.trainer import Trainer


@pytest.mark.parametrize("is_aside", [False, True])
def test_the_policy_that_samples_is_kept_of_what_engines_sample_with_alone(is_aside):
    """A publication for evaluations would push out a set that groups are still trained on by."""
    kept, announced = [], []
    rank = object.__new__(Trainer)
    rank._preparation = SimpleNamespace(published=kept.append)
    rank._last_batch = None
    rank.publisher = SimpleNamespace(announce=lambda *given: announced.append(given))
    rank.announce(5, is_aside)
    assert announced == [(5, None, is_aside)]
    assert kept == ([] if is_aside else [5])
