"""Files of torch name what they like: what is no tensor, and not known, is not loaded."""

import os
import random

import numpy as np
import pytest
import torch

from learner.checkpoints import reading, shards
from oapl.errors import CheckpointError

RAN = []


def runs(*arguments):
    RAN.append(arguments)


class Runs:
    def __reduce__(self):
        return runs, (1,)


def test_tensors_and_plain_values_are_loaded(tmp_path):
    torch.save({"weight": torch.arange(3.0), "step": 3}, tmp_path / "frozen-0.pt")
    found = reading.load(tmp_path / "frozen-0.pt")
    assert found["weight"].tolist() == [0, 1, 2]


def as_deepspeed_does(path):
    with reading.without_code(path):
        return torch.load(path, weights_only=False)


@pytest.mark.parametrize("load", [reading.load, as_deepspeed_does])
def test_nothing_that_a_file_names_is_called(tmp_path, load):
    torch.save({"weight": torch.zeros(1), "state": Runs()}, tmp_path / "states.pt")
    with pytest.raises(CheckpointError, match=r"test_reading\.runs, which is neither a tensor"):
        load(tmp_path / "states.pt")
    assert not RAN
    assert reading.FORCED not in os.environ


def of_earlier_builds():
    return {**shards._random_state(), "numpy": np.random.get_state()}


@pytest.mark.parametrize("state", [shards._random_state, of_earlier_builds])
def test_random_states_come_back(tmp_path, state):
    torch.save(state(), tmp_path / "random-0.pt")
    drawn = random.random(), np.random.rand(), torch.rand(1)
    shards._restore_random_state(reading.load(tmp_path / "random-0.pt"))
    assert (random.random(), np.random.rand(), torch.rand(1)) == drawn
