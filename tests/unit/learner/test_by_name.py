"""Tensors by name, of any number of ranks, read by any number of others."""

import pytest
import torch

from learner.checkpoints.by_name import Pieces, key_of, write
from learner.shares import Stretch
from oapl.errors import CheckpointError

WHOLE = torch.arange(10.0)
KEY = key_of("weight", "layer.a")


def written(folder, *stretches, key=KEY):
    """One rank's file per stretch."""
    for rank, (start, end) in enumerate(stretches):
        write(folder, rank, {key: (WHOLE[start:end].clone(), start)}, {f"r{rank}": rank})
    return Pieces(folder, "model.path")


@pytest.mark.parametrize("ranks", [[(0, 10)], [(0, 4), (4, 10)], [(0, 1), (1, 8), (8, 10)]])
@pytest.mark.parametrize("wanted", [(0, 10), (0, 5), (3, 4), (7, 3), (9, 1), (4, 0)])
def test_any_stretch_is_put_together_from_any_files(tmp_path, ranks, wanted):
    found = written(tmp_path, *ranks).read(KEY, Stretch(*wanted))
    assert torch.equal(found, WHOLE[wanted[0] : sum(wanted)])


def test_what_is_not_there_from_end_to_end_is_refused_by_name(tmp_path):
    pieces = written(tmp_path, (0, 4), (5, 10))
    for wanted in (Stretch(3, 3), Stretch(8, 3)):
        with pytest.raises(
            CheckpointError, match=r"layer\.a has 10 elements in it\); set model\.path"
        ):
            pieces.read(KEY, wanted)
    with pytest.raises(CheckpointError, match=r"layer\.b has 0 elements"):
        pieces.read(key_of("weight", "layer.b"), Stretch(0, 1))


def test_other_parameters_than_were_written_are_refused(tmp_path):
    pieces = written(tmp_path, (0, 4), (4, 10))
    pieces.demand("weight", {"layer.a": 10})
    for sizes in ({"layer.a": 9}, {"layer.a": 11}, {}, {"layer.a": 10, "layer.b": 1}):
        with pytest.raises(CheckpointError, match=r"is not the one .*; set model\.path back"):
            pieces.demand("weight", sizes)


def test_steps_of_all_ranks_and_kinds_are_known(tmp_path):
    pieces = written(tmp_path, (0, 4), (4, 10))
    assert pieces.steps == {"r0": 0, "r1": 1}
    assert pieces.kinds() == ("weight",)
    assert pieces.dtype(KEY) == torch.float32


def test_a_rank_that_holds_nothing_writes_a_file_of_nothing(tmp_path):
    write(tmp_path, 0, {KEY: (WHOLE.clone(), 0)}, {})
    write(tmp_path, 1, {}, {})
    assert torch.equal(Pieces(tmp_path, "model.path").read(KEY, Stretch(2, 3)), WHOLE[2:5])
