"""A rank that writes a checkpoint beside training answers before it is taken for one that hangs."""

import pytest

from learner.trainer import Trainer
from oapl.config import RunConfig


class Writing:
    """A checkpoint that is whole, or not; remembers how long it was waited for."""

    def __init__(self, is_whole, error=None):
        self.is_whole, self.error, self.waited = is_whole, error, []

    def is_over(self, patience_s):
        self.waited.append(patience_s)
        return self.is_whole

    def check(self):
        if self.error is not None:
            raise self.error


def rank(writing):
    made = object.__new__(Trainer)
    made._config = RunConfig(sync={"timeout_s": 600.0})
    made._writing = writing
    return made


def test_it_waits_for_less_than_whoever_asks_it():
    writing = Writing(is_whole=False)
    slow = rank(writing)
    assert not slow.saved()
    assert not slow.saved(waits=True)
    assert writing.waited[0] == 0.0
    assert 300 < writing.waited[1] < 600


def test_what_is_whole_is_told_once_more_and_what_went_wrong_once():
    whole = rank(Writing(is_whole=True))
    assert whole.saved()
    assert whole.saved(waits=True)
    broken = rank(Writing(is_whole=True, error=OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        broken.saved()
    assert broken.saved()
