"""Publications into vLLM's own worker processes, tensor parallel 2: exact, cut off, workers killed.

`tests/unit/actors/test_into_workers.py` breaks them at every chunk, without vLLM.
"""

import asyncio
import dataclasses
import os
import signal
import threading

import psutil
import pytest

from oapl.errors import WeightsError
from oapl.remote.promises import Resolved
from oapl.weights import base, collective
from tests.support.makers import make_model
from tests.support.serving import EngineUnderTest

pytestmark = [pytest.mark.integration, pytest.mark.by_hand, pytest.mark.timeout(1800)]

EXACT = 1e-5
"""Nats between two fp32 implementations of one model."""
ENOUGH_S = 600.0
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    def refuse(self, weights):
        raise AssertionError("it went through the engine's host")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")  # tests set 0, which forbids two
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        patch.setattr(base, "SMALLEST_CHUNK", 500_000)
        patch.setattr(collective.Receiver, "receive", refuse)
        model = make_model(tmp_path_factory.mktemp("untied"), tied=False)
        served = EngineUnderTest(model, host="vllm_async", degree=2, transport="collective")
        yield served
        served.close()


def workers():
    """vLLM's processes that hold a part of the model."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "Worker" in child.name()]


async def is_exact(served):
    """A further publication is right, and is what tokens are sampled from."""
    served.train()
    report = await served.publish()
    assert report.version == served.engine.version == served.step
    assert report.max_difference < EXACT
    prompt = served.prompt()
    for rollout in await served.sample(prompt, 4):
        assert (rollout.first_version, rollout.last_version) == (served.step, served.step)
        assert served.error(prompt, rollout) < EXACT


class Held:
    """A chunk that leaves the learner when the test says so."""

    def __init__(self, sent):
        self._sent, self.is_asked, self.may_leave = sent, threading.Event(), threading.Event()

    def get(self, timeout_s):
        self.is_asked.set()
        assert self.may_leave.wait(ENOUGH_S)
        return self._sent


async def loading_up_to(served, number):
    """A load in progress that waits for this chunk."""
    served.train()
    weights = served.publication()
    held = Held(weights.chunks[number].get(0))
    chunks = (*weights.chunks[:number], held, *weights.chunks[number + 1 :])
    load = asyncio.create_task(served.engine.load(dataclasses.replace(weights, chunks=chunks)))
    assert await asyncio.to_thread(held.is_asked.wait, ENOUGH_S)
    return load, held


async def test_logprobs_equal_transformers_after_each_publication(served):
    for _ in range(3):
        await is_exact(served)


async def test_a_load_listens_on_loopback_alone_and_ends_exact(served):
    load, held = await loading_up_to(served, 2)
    found = [
        connection.laddr.ip
        for worker in workers()
        for connection in worker.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    held.may_leave.set()
    assert (await load).max_difference < EXACT
    assert len(workers()) == 2
    assert len(found) >= 2
    assert set(found) <= LOOPBACK


async def test_a_chunk_damaged_on_the_way_costs_a_rebuild_and_the_next_publication_is_exact(served):
    before = workers()
    served.train()
    weights = served.publication()
    assert len(weights.chunks) >= 4
    sent = weights.chunks[2].get(0)
    spoiled = Resolved(dataclasses.replace(sent, digest="0" * 32))
    chunks = (*weights.chunks[:2], spoiled, *weights.chunks[3:])
    with pytest.raises(WeightsError, match=r"chunk 3 of .*not those that were sent"):
        await served.engine.load(dataclasses.replace(weights, chunks=chunks))
    assert served.engine.version == -1
    assert not {p.pid for p in workers()} & {p.pid for p in before}, "a half-loaded model was kept"
    await is_exact(served)


async def test_a_worker_killed_between_two_chunks_fails_the_load_and_the_next_is_exact(served):
    load, held = await loading_up_to(served, 2)
    killed = workers()[1]
    os.kill(killed.pid, signal.SIGKILL)
    held.may_leave.set()
    with pytest.raises(WeightsError, match="could not load version"):
        await asyncio.wait_for(load, ENOUGH_S)
    assert served.engine.version == -1
    assert killed.pid not in {process.pid for process in workers()}
    await is_exact(served)
