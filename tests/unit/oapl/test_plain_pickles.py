"""Files of records come back as they were, and name nothing that could run."""

import datetime
import decimal
import pickle
from collections import Counter, defaultdict, deque

import numpy as np
import pytest

from oapl import records
from oapl.counters import Counters, Moments
from oapl.records import Fate, WorkerId
from oapl.remote import plain_pickles
from oapl.replay.counts import ReplayCounts
from tests.support.makers import make_group

RAN = []


def runs(*arguments):
    RAN.append(arguments)


class Runs:
    """Its pickle asks whoever reads it to call a function."""

    def __init__(self, function, *arguments):
        self._asks = function, arguments

    def __reduce__(self):
        return self._asks


@pytest.mark.parametrize(
    "value",
    [
        {("trained", ""): 3, "nested": [(1, 2.5), {4}, b"5", None]},
        {"stamp": datetime.datetime(2026, 1, 2, 3), "price": decimal.Decimal("0.1")},
        [WorkerId(index=1, incarnation=2), Counter(a=1), deque([1]), defaultdict(Moments)],
        np.float32(0.5),
    ],
)
def test_what_was_written_comes_back(value):
    assert plain_pickles.loads(plain_pickles.dumps(value)) == value
    assert plain_pickles.loads(pickle.dumps(value)) == value, "what earlier builds wrote"


def test_arrays_groups_and_counters_come_back():
    group = make_group([3, 5])
    found = plain_pickles.loads(plain_pickles.dumps([group, ReplayCounts(), Counters()]))[0]
    for ours, theirs in zip(group.group.rollouts, found.group.rollouts, strict=True):
        assert np.array_equal(ours.token_ids, theirs.token_ids)
        assert ours.text == theirs.text
    assert np.array_equal(group.rewards, found.rewards)
    texts = plain_pickles.loads(plain_pickles.dumps(np.array(["a", "bc"])))
    assert texts.tolist() == ["a", "bc"]


@pytest.mark.parametrize(
    "function", [runs, print, eval, pickle.loads, getattr], ids=lambda function: function.__name__
)
def test_nothing_that_a_file_names_is_called(function):
    content = pickle.dumps({"queue": [Runs(function, "RAN.append(1)")]})
    with pytest.raises(plain_pickles.Refused, match="no record of this version"):
        plain_pickles.loads(content)
    assert not RAN


@pytest.mark.parametrize("name", ["compact_pickle", "Mapping", "np", "annotations"])
def test_of_the_module_of_records_only_records_are_named(name):
    assert hasattr(records, name)
    content = b"\x80\x04\x8c\x0coapl.records\x8c" + bytes([len(name)]) + name.encode() + b"\x93."
    with pytest.raises(plain_pickles.Refused, match="no record"):
        plain_pickles.loads(content)


@pytest.mark.parametrize("value", [runs, Runs(runs), print, np.random.default_rng(0), lambda: 0])
def test_what_would_not_be_read_again_is_not_written(value):
    with pytest.raises(plain_pickles.Refused, match="neither text, number, nor a record"):
        plain_pickles.dumps([Fate, value])
