"""What a process killed in the middle of a broadcast does to the others."""

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from oapl.errors import WeightsError
from oapl.records import Probe
from oapl.weights import base, collective
from oapl.weights._rounds import connect
from oapl.weights.base import send

PROBE = Probe(token_ids=(), logprobs=())
TENSORS, SIZE = 24, 2**18  # a megabyte each: more than sockets swallow


def named(value: float):
    return ((f"t{index}", torch.full((SIZE,), value + index)) for index in range(TENSORS))


def serve(channel):
    sender = collective.Sender(stall_s=3.0)
    channel.send(send(sender, 3, named(0.0), PROBE))
    time.sleep(600)


def take_one(channel, weights):
    arriving = collective.Receiver(timeout_s=300.0).receive(weights)
    channel.send("asking")
    channel.send(next(arriving)[0])
    time.sleep(600)


@pytest.fixture
def spawn():
    started = []

    def start(target, *arguments):
        here, there = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=target, args=(there, *arguments), daemon=True
        )
        process.start()
        started.append(process)
        return process, here

    yield start
    for process in started:
        process.kill()
        process.join(10)


def test_a_sender_killed_in_the_middle_ends_in_an_error_before_the_deadline(spawn):
    process, channel = spawn(serve)
    assert channel.poll(300)
    arriving = collective.Receiver(timeout_s=300.0).receive(channel.recv())
    assert next(arriving)[0] == "t0"
    os.kill(process.pid, signal.SIGKILL)
    started = time.monotonic()
    with pytest.raises(WeightsError, match="the sender is gone"):
        list(arriving)
    assert time.monotonic() - started < 100


def test_a_receiver_killed_in_the_middle_costs_the_others_of_its_round_nothing(spawn, monkeypatch):
    monkeypatch.setattr(collective, "GATHER_S", 1.5)  # both ask within it
    sender = collective.Sender(stall_s=3.0)
    weights = send(sender, 3, named(0.0), PROBE)
    process, channel = spawn(take_one, weights)
    assert channel.poll(300), "the other receiver did not start"
    assert channel.recv() == "asking"
    with ThreadPoolExecutor(1) as pool:
        whole = pool.submit(
            lambda: dict(collective.Receiver(timeout_s=300.0, stall_s=3.0).receive(weights))
        )
        assert channel.poll(300)
        assert channel.recv() == "t0"
        os.kill(process.pid, signal.SIGKILL)
        got = whole.result(300)
    assert all(torch.equal(got[name], tensor) for name, tensor in named(0.0))
    after = send(sender, 4, named(1.0), PROBE)
    assert len(dict(collective.Receiver(timeout_s=300.0).receive(after))) == TENSORS
    sender.close()


def test_nonsense_at_the_port_does_not_end_the_service():
    sender = collective.Sender(stall_s=3.0)
    weights = send(sender, 3, iter([("a", torch.ones(3))]), PROBE)
    place = weights.chunks[0].get(0).ticket
    stranger = connect(place.host, place.port, collective.PROMPT)
    unknown = b'{"publication": 0, "first": 0, "backend": "pigeons"}'
    unlike = b'{"publication": [0], "first": "0", "backend": 7}'
    for words in (b"not json", b'{"other": 1}', b"[1, 2]", unknown, unlike):
        stranger.set(f"ask/{stranger.add('tickets', 1)}", words)
    assert dict(collective.Receiver(timeout_s=300.0).receive(weights))["a"].tolist() == [1, 1, 1]
    sender.close()


def test_who_is_told_of_another_publication_forgets_the_one_it_had_begun(monkeypatch):
    monkeypatch.setattr(base, "SMALLEST_CHUNK", SIZE)
    sender, receiver = collective.Sender(stall_s=3.0), collective.Receiver(timeout_s=300.0)
    cut, whole = (send(sender, int(version), named(version), PROBE) for version in (3.0, 4.0))
    intake = collective.Intake()
    assert dict(intake.fetch(next(receiver.offers(cut))))["t0"][0] == 3
    got = {}
    for offer in receiver.offers(whole):
        got.update(intake.fetch(offer))
    assert all(torch.equal(got[name], tensor) for name, tensor in named(4.0))
    sender.close()
