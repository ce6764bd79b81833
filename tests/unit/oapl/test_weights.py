"""Every transport under oapl/weights keeps the same promises, and so does `collective` where the
processes that hold the model fetch by themselves."""

import dataclasses
import json
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest
import torch

from oapl.config import RunConfig
from oapl.errors import DiedError, WeightsError
from oapl.records import Probe
from oapl.remote.promises import Resolved
from oapl.weights import base, collective, disk, local, object_store
from oapl.weights.base import (
    TRANSPORTS,
    check_specs,
    from_bytes,
    layout,
    send,
    send_chunk,
    spec_of,
    to_bytes,
)

CONFIG = RunConfig()
PROBE = Probe(token_ids=(np.arange(3, dtype=np.int32),), logprobs=(np.zeros(2, np.float32),))


@pytest.fixture
def object_store_in_memory(monkeypatch):
    """Ray's put and get, and its promise that what was put cannot be written."""
    ray = pytest.importorskip("ray")
    objects = {}

    def put(array):
        frozen = array.copy()
        frozen.flags.writeable = False
        objects[len(objects)] = frozen
        return len(objects) - 1

    monkeypatch.setattr(ray, "put", put)
    monkeypatch.setattr(ray, "get", lambda ref, timeout: objects[ref])
    return objects


DIRECT = "collective, direct"


class Direct:
    """A receiver whose chunks are fetched as in another process, which is told by plain types."""

    def __init__(self, receiver):
        self._receiver = receiver

    def receive(self, weights):
        intake = collective.Intake()
        for offer in self._receiver.offers(weights):
            yield from intake.fetch(json.loads(json.dumps(offer)))


@pytest.fixture(params=[*TRANSPORTS.names(), DIRECT])
def transport(request, object_store_in_memory, tmp_path):
    module = TRANSPORTS.load(request.param.partition(",")[0])
    config = RunConfig(run={"dir": str(tmp_path)})
    sender, receiver = module.build_sender(config), module.build_receiver(config)
    yield sender, Direct(receiver) if request.param == DIRECT else receiver
    sender.close()


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "matrix": torch.randn(7, 5, generator=generator),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "transposed": torch.randn(4, 6, generator=generator).t(),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(torch.randn(2, 2, generator=generator)),
    }


def test_what_arrives_is_bit_for_bit_what_was_sent(transport):
    sender, receiver = transport
    sent = tensors()
    weights = send(sender, 3, iter(sent.items()), PROBE)
    received = dict(receiver.receive(weights))
    assert list(received) == list(sent) == [spec.name for spec in weights.specs]
    for name, tensor in sent.items():
        assert received[name].dtype == tensor.dtype
        assert torch.equal(received[name], tensor)
    assert weights.version == 3
    assert weights.probe_ids is PROBE.token_ids
    assert weights.probe_logprobs.get(0) is PROBE.logprobs
    assert weights.num_bytes == sum(t.numel() * t.element_size() for t in sent.values())


def test_a_publication_is_a_copy(transport):
    sender, receiver = transport
    live = torch.ones(4)
    weights = send(sender, 0, iter([("a", live)]), PROBE)
    live.zero_()
    assert dict(receiver.receive(weights))["a"].tolist() == [1.0] * 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_non_finite_tensor_is_refused_by_name(transport, bad, dtype):
    sender, _ = transport
    broken = torch.ones(3, 3, dtype=dtype)
    broken[1, 2] = bad
    with pytest.raises(WeightsError, match=r"version 5: layer\.1 holds non-finite"):
        send(sender, 5, iter([("layer.0", torch.ones(2)), ("layer.1", broken)]), PROBE)


def test_the_previous_version_can_still_be_received(transport):
    sender, receiver = transport
    old = send(sender, 0, iter([("a", torch.zeros(2))]), PROBE)
    send(sender, 1, iter([("a", torch.ones(2))]), PROBE)
    assert dict(receiver.receive(old))["a"].tolist() == [0.0, 0.0]


class Aside:
    """A sender whose publications are for engines set aside."""

    def __init__(self, sender):
        self._sender, self.transport = sender, sender.transport

    def begin(self, version, specs):
        self._sender.begin(version, specs, is_aside=True)

    def put(self, number, content):
        return self._sender.put(number, content)


def test_publications_for_engines_set_aside_push_out_none_that_others_serve(transport):
    sender, receiver = transport
    old = send(sender, 0, iter([("a", torch.zeros(2))]), PROBE)
    served = send(sender, 4, iter([("a", torch.full((2,), 4.0))]), PROBE)
    for version in (5, 6, 7):
        aside = send(Aside(sender), version, iter([("a", torch.full((2,), float(version)))]), PROBE)
        for weights, value in ((old, 0.0), (served, 4.0), (aside, version)):
            assert dict(receiver.receive(weights))["a"].tolist() == [value, value]
    send(sender, 8, iter([("a", torch.full((2,), 8.0))]), PROBE)
    assert dict(receiver.receive(served))["a"].tolist() == [4.0, 4.0]
    assert dict(receiver.receive(aside))["a"].tolist() == [7.0, 7.0]


def test_a_version_that_is_being_read_stays_whole_or_fails_while_newer_ones_come(transport):
    sender, receiver = transport
    names = ("a", "b", "c")
    old = send(sender, 1, ((name, torch.full((500,), 1.0)) for name in names), PROBE)
    reading = receiver.receive(old)
    arrived = [next(reading)]
    for version in (2, 3, 4):
        newest = send(
            sender, version, ((name, torch.full((500,), float(version))) for name in names), PROBE
        )
    try:
        arrived += list(reading)
    except WeightsError:
        pass
    else:
        assert len(arrived) == len(names)
    assert all((tensor == 1.0).all() for _, tensor in arrived)
    assert all((tensor == 4.0).all() for _, tensor in receiver.receive(newest))


def test_a_late_joiner_and_two_receivers_at_once_get_the_current_version(transport):
    sender, receiver = transport
    sent = tensors()
    weights = send(sender, 2, iter(sent.items()), PROBE)
    assert len(dict(receiver.receive(weights))) == len(sent)
    with ThreadPoolExecutor(2) as pool:
        late = list(pool.map(lambda _: dict(receiver.receive(weights)), range(2)))
    assert all(torch.equal(got[name], sent[name]) for got in late for name in sent)


def test_a_publication_cut_by_an_error_leaves_the_previous_and_the_next_works(transport):
    sender, receiver = transport

    def broken():
        yield "a", torch.ones(500)
        raise RuntimeError("the learner failed here")

    before = send(sender, 0, iter([("a", torch.zeros(2))]), PROBE)
    with pytest.raises(RuntimeError, match="failed here"):
        send(sender, 1, broken(), PROBE)
    assert dict(receiver.receive(before))["a"].tolist() == [0.0, 0.0]
    after = send(sender, 2, iter([("a", torch.ones(2))]), PROBE)
    assert dict(receiver.receive(after))["a"].tolist() == [1.0, 1.0]


def test_a_receiver_that_stops_halfway_does_not_disturb_the_next_publication(transport):
    sender, receiver = transport
    reading = receiver.receive(send(sender, 0, iter(tensors().items()), PROBE))
    next(reading)
    reading.close()
    after = send(sender, 1, iter([("a", torch.ones(2))]), PROBE)
    assert dict(receiver.receive(after))["a"].tolist() == [1.0, 1.0]


def damaged(weights):
    """One bit of a digest differs, as if contents did."""
    (sent,) = [promise.get(0) for promise in weights.chunks]
    other = dataclasses.replace(sent, digest="0" * 32)
    return dataclasses.replace(weights, chunks=(Resolved(other),))


def test_a_chunk_of_another_version_is_refused(transport):
    sender, receiver = transport
    old = send(sender, 0, tensors().items(), PROBE)
    new = send(sender, 1, tensors().items(), PROBE)
    with pytest.raises(
        WeightsError, match=r"chunk 1 of 1: the contents .* not those that were sent"
    ):
        dict(receiver.receive(dataclasses.replace(new, chunks=old.chunks)))


def test_chunks_arrive_while_later_ones_are_still_to_come(transport, monkeypatch):
    monkeypatch.setattr(base, "SMALLEST_CHUNK", 2048)
    sender, receiver = transport
    tensor = torch.ones(500)
    specs = tuple(spec_of(name, tensor) for name in "abc")
    coming = [Coming() for _ in specs]
    weights = dataclasses.replace(
        send(sender, 0, [("other", tensor)], PROBE), version=1, specs=specs, chunks=tuple(coming)
    )
    sender.begin(1, specs)
    reading, chunks = receiver.receive(weights), layout(specs)
    assert len(chunks) == 3
    with ThreadPoolExecutor(1) as pool:
        for number, chunk in enumerate(chunks):
            arriving = pool.submit(next, reading)
            time.sleep(0.05)
            assert not arriving.done(), "it came before it was sent"
            coming[number].keep(send_chunk(sender, 1, number, chunk, to_bytes(tensor)))
            name, arrived = arriving.result(20)
            assert name == "abc"[number]
            assert torch.equal(arrived, tensor)
        assert next(reading, None) is None


def test_a_learner_that_fails_in_the_middle_ends_the_publication(transport, monkeypatch):
    monkeypatch.setattr(base, "SMALLEST_CHUNK", 2048)
    sender, receiver = transport
    weights = send(sender, 0, ((name, torch.ones(500)) for name in "ab"), PROBE)
    cut = dataclasses.replace(weights, chunks=(weights.chunks[0], Coming(DiedError("rank 0 died"))))
    reading = receiver.receive(cut)
    assert next(reading)[0] == "a"
    with pytest.raises(WeightsError, match="chunk 2 of 2 did not leave the learner: rank 0 died"):
        next(reading)


class Coming:
    """A promise that the test keeps, or breaks."""

    def __init__(self, error=None):
        self._future = Future()
        if error:
            self._future.set_exception(error)

    def keep(self, answer):
        self._future.set_result(answer)

    def get(self, timeout_s):
        return self._future.result(timeout_s)


def test_contents_that_changed_on_the_way_are_refused(transport):
    sender, receiver = transport
    weights = send(sender, 0, iter(tensors().items()), PROBE)
    with pytest.raises(WeightsError, match="not those that were sent"):
        dict(receiver.receive(damaged(weights)))


@pytest.mark.parametrize(
    "change",
    [
        lambda specs: (*specs, specs[0]),
        lambda specs: specs[:-1],
        lambda specs: (specs[1], specs[0], *specs[2:]),
        lambda specs: (dataclasses.replace(specs[0], name="other"), *specs[1:]),
        lambda specs: (dataclasses.replace(specs[0], shape=(5, 7)), *specs[1:]),
    ],
    ids=["one more", "one less", "swapped", "renamed", "reshaped"],
)
def test_another_list_than_the_announced_is_refused(transport, change):
    sender, receiver = transport
    weights = send(sender, 0, iter(tensors().items()), PROBE)
    with pytest.raises(WeightsError):
        dict(receiver.receive(dataclasses.replace(weights, specs=change(weights.specs))))


def test_tensors_lie_in_aligned_chunks(monkeypatch):
    monkeypatch.setattr(base, "SMALLEST_CHUNK", 256)
    sizes = {"a": 3, "b": 5, "large": 1000, "c": 1}
    chunks = layout([spec_of(name, torch.ones(size)) for name, size in sizes.items()])
    found = [([spec.name for spec in c.specs], c.starts, c.num_bytes) for c in chunks]
    assert found == [(["a", "b"], (0, 64), 84), (["large"], (0,), 4000), (["c"], (0,), 4)]


def test_the_object_store_lets_go_of_old_references(object_store_in_memory):
    sender = object_store.Sender()
    for version in range(4):
        send(sender, version, iter([("a", torch.ones(1))]), PROBE)
    assert sender._kept == [[2], [3]]
    for version in (4, 5):
        send(Aside(sender), version, iter([("a", torch.ones(1))]), PROBE)
    assert (sender._kept, sender._aside) == ([[2], [3]], [5])


def test_disk_keeps_one_version_for_engines_set_aside(tmp_path):
    sender = disk.Sender(tmp_path)
    for version in range(3):
        send(sender, version, iter([("a", torch.ones(1))]), PROBE)
        send(Aside(sender), version, iter([("a", torch.ones(1))]), PROBE)
    kinds = sorted(path.name.split("-")[1:3] for path in tmp_path.iterdir())
    assert kinds == [["aside", "2"], ["version", "1"], ["version", "2"]]
    sender.close()
    assert not tmp_path.exists()


def test_disk_keeps_two_versions_whoever_sent_them(tmp_path):
    first = disk.Sender(tmp_path / "weights")
    sent = [send(first, v, iter([("a", torch.zeros(2))]), PROBE) for v in (7, 8)]
    second = disk.Sender(tmp_path / "weights")
    again = send(second, 8, iter([("a", torch.ones(2))]), PROBE)
    assert len(list((tmp_path / "weights").iterdir())) == 2
    with pytest.raises(WeightsError, match=r"version 7 is not at .*older than the 2 versions kept"):
        dict(disk.Receiver(5).receive(sent[0]))
    assert dict(disk.Receiver(5).receive(sent[1]))["a"].tolist() == [0.0, 0.0]
    assert dict(disk.Receiver(5).receive(again))["a"].tolist() == [1.0, 1.0]
    first.close()
    second.close()
    assert not (tmp_path / "weights").exists()


KILLED_SENDER = """
import os, signal, sys
from pathlib import Path
import torch
from oapl.weights import disk
from oapl.weights.base import spec_of, to_bytes

sender, tensor = disk.Sender(Path(sys.argv[1])), torch.ones(100_000)
sender.begin(1, [spec_of("a", tensor), spec_of("b", tensor)])
sender.put(0, to_bytes(tensor))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_disk_clears_what_a_killed_sender_left(tmp_path):
    before = send(disk.Sender(tmp_path), 0, iter([("a", torch.zeros(2))]), PROBE)
    command = [sys.executable, "-c", KILLED_SENDER, str(tmp_path)]
    assert subprocess.run(command, timeout=300, check=False).returncode == -signal.SIGKILL
    assert dict(disk.Receiver(5).receive(before))["a"].tolist() == [0.0, 0.0]
    sender = disk.Sender(tmp_path)
    for version in (2, 3):
        after = send(sender, version, iter([("a", torch.ones(2))]), PROBE)
    assert dict(disk.Receiver(5).receive(after))["a"].tolist() == [1.0, 1.0]
    assert ["version-2" in p.name or "version-3" in p.name for p in tmp_path.iterdir()] == [
        True
    ] * 2


def test_disk_refuses_a_file_that_was_cut(tmp_path):
    sent = {"a": torch.ones(1), "b": torch.ones(2)}
    weights = send(disk.Sender(tmp_path), 0, iter(sent.items()), PROBE)
    with open(weights.chunks[0].get(0).ticket.path, "r+b") as file:
        file.truncate(6)
    with pytest.raises(WeightsError, match="ends within a chunk"):
        dict(disk.Receiver(5).receive(weights))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "weights").write_text("a file in the way")
    with pytest.raises(WeightsError, match=r"version 0 could not be written to .*weights"):
        send(disk.Sender(tmp_path / "weights"), 0, iter([("a", torch.ones(1))]), PROBE)


def test_receivers_can_be_sent_to_an_engines_process():
    for name in TRANSPORTS.names():
        receiver = TRANSPORTS.load(name).build_receiver(CONFIG)
        assert type(pickle.loads(pickle.dumps(receiver))) is type(receiver)


def test_bytes_of_bfloat16_survive_without_a_copy():
    tensor = torch.randn(4, 3).bfloat16()
    view = from_bytes(to_bytes(tensor), spec_of("x", tensor))
    assert torch.equal(view, tensor)
    assert view.data_ptr() == tensor.data_ptr()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"a": torch.ones(2)}, "b is missing"),
        ({"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(1)}, "c is unknown"),
        (
            {"a": torch.ones(2), "b": torch.ones(3, 1)},
            r"b has shape \[3, 1\], the model's",
        ),
    ],
)
def test_a_publication_of_another_model_is_refused(sent, message):
    sender = local.Sender()
    weights = send(sender, 0, iter(sent.items()), PROBE)
    with pytest.raises(WeightsError, match=message):
        check_specs(weights, {"a": (2,), "b": (3,)})
    sender.close()


def test_a_tensor_of_whole_numbers_is_refused():
    with pytest.raises(WeightsError, match="b has dtype int32, not one of"):
        send(local.Sender(), 0, [("a", torch.ones(2)), ("b", torch.ones(3).int())], PROBE)


def test_the_engines_dtype_may_differ_from_the_publications():
    sender = local.Sender()
    weights = send(sender, 0, iter([("a", torch.ones(2).bfloat16())]), PROBE)
    check_specs(weights, {"a": (2,)})
    sender.close()
