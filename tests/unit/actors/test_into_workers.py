"""Publications that vLLM's workers fetch by themselves: whole, cut anywhere, late, of two versions.

vLLM is `fake_vllm`, whose one worker lives here; the broadcast is real. With real worker processes:
`tests/integration/test_into_workers.py`.
"""

import asyncio
import dataclasses
import os
import threading

import numpy as np
import pytest
import torch
from torch.distributed import Backend, ProcessGroupGloo

from actors.engines import vllm_async
from actors.engines._vllm import inputs
from oapl.config import RunConfig
from oapl.errors import DiedError, WeightsError
from oapl.records import Probe
from oapl.remote.promises import Resolved
from oapl.weights import _groups, base, collective
from oapl.weights.base import send
from tests.support import fake_vllm
from tests.support.makers import make_model

VERSIONS = ["0.23.0", ""]
CHUNKS = 5
"""Of the model, at the size that `served` sets."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), vocab_size=fake_vllm.KNOWN)


@pytest.fixture(params=VERSIONS, ids=["0.23.0", "installed"])
def served(request, model, monkeypatch):
    from tests.support.serving import EngineUnderTest

    def refuse(self, weights):
        raise AssertionError("it went through the engine's host")

    fake_vllm.install(monkeypatch, request.param)
    monkeypatch.setattr(base, "SMALLEST_CHUNK", 500_000)
    monkeypatch.setattr(collective.Receiver, "receive", refuse)
    served = EngineUnderTest(model, host="vllm_async", transport="collective")
    served.probe = lambda: type(served).probe(served, (2, 9))
    served._random_ids = lambda length: np.full(length, 7, dtype=np.int32)
    served.train()
    yield served
    served.close()
    inputs.rollout_params.cache_clear()


async def holds_the_learners(served):
    """A further publication is taken in whole."""
    served.train()
    report = await served.publish()
    assert report.version == served.engine.version == served.step
    held = fake_vllm.Llm.last.worker.model.weights
    sent = dict(served.learner.named_parameters())
    assert held.keys() == sent.keys()
    assert all(torch.equal(tensor, sent[name]) for name, tensor in held.items())
    assert not fake_vllm.Llm.last.is_paused


async def test_a_publication_reaches_the_model_chunk_by_chunk(served):
    await holds_the_learners(served)
    acts = fake_vllm.Llm.last.worker.acts
    assert acts[0] == "started", "the first chunk is fetched before, and forgotten by the fake"
    assert acts[-2:] == ["finished", "settle_publication"]
    assert (acts.count("fetch_chunk"), acts.count("updated")) == (CHUNKS - 1, CHUNKS)
    (rollout,) = await served.sample(served.prompt(4), 1, max_tokens=3)
    assert (rollout.first_version, rollout.last_version) == (served.step, served.step)


class Broken:
    """What the learner was to send, and did not."""

    def get(self, timeout_s):
        raise DiedError("rank 0 died")


def without(weights, number):
    """The learner fails before it sends this chunk."""
    return (*weights.chunks[:number], Broken(), *weights.chunks[number + 1 :])


def damaged(weights, number):
    """This chunk's contents change on the way."""
    sent = weights.chunks[number].get(0)
    other = Resolved(dataclasses.replace(sent, digest="0" * 32))
    return (*weights.chunks[:number], other, *weights.chunks[number + 1 :])


@pytest.mark.parametrize("number", range(CHUNKS))
@pytest.mark.parametrize(
    ("spoil", "message"),
    [(without, "did not leave the learner: rank 0 died"), (damaged, "not those that were sent")],
    ids=["cut", "damaged"],
)
async def test_a_publication_broken_at_any_chunk_is_refused_and_the_next_one_is_whole(
    served, spoil, message, number
):
    weights = served.publication()
    assert len(weights.chunks) == CHUNKS
    before = fake_vllm.Llm.last
    with pytest.raises(WeightsError, match=f"chunk {number + 1} of {CHUNKS}.*{message}"):
        await served.engine.load(dataclasses.replace(weights, chunks=spoil(weights, number)))
    assert served.engine.version == -1
    assert (fake_vllm.Llm.last is before) == (number == 0), "a model of two versions is never kept"
    await holds_the_learners(served)


@pytest.mark.parametrize("number", range(CHUNKS))
async def test_no_chunk_of_another_version_is_taken(served, number):
    old = served.publication()
    served.train()
    new = served.publication()
    mixed = (*new.chunks[:number], old.chunks[number], *new.chunks[number + 1 :])
    with pytest.raises(WeightsError, match=f"chunk {number + 1} of .*not those that were sent"):
        await served.engine.load(dataclasses.replace(new, chunks=mixed))
    await holds_the_learners(served)


async def test_a_load_that_comes_too_late_is_refused_without_a_rebuild(served):
    late, before = served.publication(), fake_vllm.Llm.last
    for _ in range(collective.KEPT_VERSIONS):
        await holds_the_learners(served)
    with pytest.raises(WeightsError, match="is older than the versions kept by the sender"):
        await served.engine.load(late)
    assert fake_vllm.Llm.last is before
    await holds_the_learners(served)


async def test_non_finite_weights_never_leave_and_a_foreign_publication_touches_nothing(served):
    nan = torch.full_like(served.learner.model.norm.weight, torch.nan)
    with pytest.raises(WeightsError, match=r"norm\.weight holds non-finite"):
        served.publication(model__norm__weight=nan)
    with pytest.raises(WeightsError, match=r"norm\.weight is missing"):
        await served.engine.load(served.publication(model__norm__weight=None))
    assert fake_vllm.Llm.last.worker.acts == []
    await holds_the_learners(served)


async def test_an_engine_that_does_not_go_on_after_a_refused_load_is_rebuilt(served, monkeypatch):
    stuck = fake_vllm.Llm.last
    monkeypatch.setattr(vllm_async, "REOPEN_S", 0.05)
    monkeypatch.setattr(type(stuck), "resume_generation", lambda self: asyncio.sleep(600))
    with pytest.raises(WeightsError, match=r"norm\.weight is missing"):
        await served.engine.load(served.publication(model__norm__weight=None))
    monkeypatch.undo()
    assert fake_vllm.Llm.last is not stuck


class Cards:
    """A back end that a package registers: here gloo by another name."""

    def __init__(self):
        self.made = []

    def __call__(self, options, _):
        self.made.append((options.group_rank, options.group_size, dict(os.environ)))
        gloo = ProcessGroupGloo._Options()
        gloo._timeout = options.timeout
        gloo._devices = [ProcessGroupGloo.create_device(hostname="127.0.0.1")]
        return ProcessGroupGloo(options.store, options.group_rank, options.group_size, gloo)


def test_a_back_end_that_torch_knows_by_name_has_rounds_of_its_own(monkeypatch):
    cards = Cards()
    monkeypatch.setitem(Backend._plugins, "CARDS", Backend._BackendPlugin(cards, True))
    monkeypatch.setitem(Backend.backend_capability, "cards", ["cpu"])
    monkeypatch.setattr(collective, "GATHER_S", 0.5)  # all three ask within it
    sender, got = collective.Sender(stall_s=20.0), []
    weights = send(sender, 3, [("a", torch.arange(5.0))], Probe(token_ids=(), logprobs=()))

    def fetch(backend):
        intake = collective.Intake()
        for offer in collective.Receiver(60.0, 20.0, backend).offers(weights):
            got.extend(intake.fetch(offer))

    members = [threading.Thread(target=fetch, args=(name,)) for name in ("cards", "gloo", "cards")]
    for member in members:
        member.start()
    for member in members:
        member.join(60)
    sender.close()
    assert [(name, tensor.tolist()) for name, tensor in got] == [("a", [0, 1, 2, 3, 4])] * 3
    assert sorted(rank for rank, _, _ in cards.made) == [0, 1, 2]
    assert {size for _, size, _ in cards.made} == {3}, "the third engine's round was another"
    assert all(_groups.LENIENT.items() <= environment.items() for *_, environment in cards.made)
    assert not _groups.LENIENT.keys() & os.environ.keys()


@pytest.mark.parametrize(
    ("device", "cluster", "backend"),
    [
        ("cpu", {}, "gloo"),
        ("cuda", {}, "nccl"),
        ("npu", {}, "hccl"),
        ("cuda", {"devices_per_engine": 0.4, "devices_per_rank": 0.6}, "gloo"),
    ],
)
def test_the_back_end_is_the_devices_unless_cards_are_shared(device, cluster, backend):
    config = RunConfig(cluster={"device": device, **cluster})
    assert collective.backend_of(config) == backend
