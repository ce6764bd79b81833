"""Tensors handed to another process through an anonymous memory file."""

import os
import subprocess
import sys

import pytest
import torch

from actors.engines._vllm import shared_memory

TENSORS = {
    "a": torch.arange(5, dtype=torch.float32),
    "b": torch.randn(3, 7).bfloat16(),
    "c": torch.ones(1, dtype=torch.float16),
    "d": torch.randn(2, 2, 2),
}


def read_back(segment):
    return {name: tensor.clone() for name, tensor in shared_memory.read(segment.address)}


def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_segment_gives_back_every_tensor_of_every_type():
    with shared_memory.write(iter(TENSORS.items())) as segment:
        back = read_back(segment)
    assert list(back) == list(TENSORS)
    for name, tensor in back.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert torch.equal(tensor, TENSORS[name])


def test_segments_end_when_they_are_full_and_miss_nothing():
    tensors, names = iter(TENSORS.items()), []
    while segment := shared_memory.write(tensors, limit_bytes=30):
        with segment:
            names.append(list(read_back(segment)))
    assert names == [["a", "b"], ["c", "d"]]  # a: 20 bytes; b begins at 64, beyond the limit


def test_another_process_reads_it_and_nothing_is_left():
    program = (
        "import sys, json\n"
        "from actors.engines._vllm import shared_memory\n"
        "tensors = dict(shared_memory.read(json.loads(sys.argv[1])))\n"
        "print(sum(t.double().sum().item() for t in tensors.values()))\n"
    )
    import json

    with shared_memory.write(iter(TENSORS.items())) as segment:
        answer = subprocess.run(
            [sys.executable, "-c", program, json.dumps(segment.address)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert is_open(segment.fd)
    assert not is_open(segment.fd)
    assert answer.returncode == 0, answer.stderr
    expected = sum(tensor.double().sum().item() for tensor in TENSORS.values())
    assert float(answer.stdout) == pytest.approx(expected)


def test_tensors_outlive_the_segment_they_came_from():
    with shared_memory.write(iter(TENSORS.items())) as segment:
        held = dict(shared_memory.read(segment.address))
    assert torch.equal(held["d"], TENSORS["d"])


def test_a_source_that_breaks_leaves_no_file_open():
    before = set(os.listdir("/proc/self/fd"))

    def broken():
        yield "a", TENSORS["a"]
        raise ValueError("the store lost it")

    with pytest.raises(ValueError, match="the store lost it"):
        shared_memory.write(broken())
    assert set(os.listdir("/proc/self/fd")) == before
