"""A rollout worker in a Ray actor of its own: weights through the object store, rollouts back."""

import asyncio

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from deploy.processes.handles import AsyncHost, RayHandle
from deploy.processes.roles import environment
from oapl.config import RunConfig
from oapl.errors import WeightsError
from oapl.records import Probe, Sampling, Terms
from oapl.weights import object_store
from oapl.weights.base import send
from tests.support.fakes import FakeServer
from tests.support.serving import prompt_of

pytestmark = pytest.mark.integration
ENOUGH_S = 600.0


def build_server(config):
    return FakeServer()


def probe_of(model):
    ids = torch.arange(10, 60)
    with torch.no_grad():
        table = model(ids[None]).logits[0, :-1].log_softmax(-1)
    logprobs = table.gather(1, ids[1:, None])[:, 0].numpy()
    return Probe(token_ids=(ids.numpy().astype(np.int32),), logprobs=(logprobs,))


@pytest.mark.parametrize("engine", ["vllm_inprocess", "vllm_async"])
async def test_a_worker_in_an_actor_loads_published_weights_and_evaluates(
    ray_cluster, tiny_model, tmp_path, engine
):
    config = RunConfig(
        model={"path": str(tiny_model), "dtype": "float32"},
        rollout={"engine": engine},
        learner={"precision": "fp32"},
        sync={"transport": "object_store", "timeout_s": ENOUGH_S},
    )

    def start(build, **kwargs):
        actor = ray_cluster.remote(AsyncHost).options(
            num_cpus=0.1, runtime_env={"env_vars": environment(config, "worker")}
        )
        return RayHandle(actor.remote(build, config, str(tmp_path / "log"), kwargs))

    server = start("tests.integration.test_worker_ray:build_server")
    worker = start("actors.worker:build", index=0, incarnation=0, scorers=[server], replay=None)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    sender = object_store.build_sender(config)
    for version in range(3):
        weights = send(sender, version, model.named_parameters(), probe_of(model))
        report = await asyncio.wait_for(worker.load(weights), ENOUGH_S)
        assert report.version == version
        assert report.ratio < 1.00001
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.01 * torch.randn_like(parameter))

    prompts = [prompt_of(np.arange(5, 15, dtype=np.int32), f"q{i}") for i in range(8)]
    answers = await asyncio.wait_for(
        worker.evaluate(
            prompts,
            Terms(sampling=Sampling(max_tokens=16), num_samples=4, greedy=True, timeout_s=ENOUGH_S),
        ),
        ENOUGH_S,
    )
    assert [len(answer.rollouts) for answer in answers] == [4] * 8
    assert {r.last_version for answer in answers for r in answer.rollouts} == {2}
    assert {j.reward for answer in answers for j in answer.judgements} == {10.0}

    part = dict(list(model.named_parameters())[:-1])
    with pytest.raises(WeightsError, match="is missing"):
        await worker.load(send(sender, 3, iter(part.items()), probe_of(model)))
    await asyncio.wait_for(worker.load(weights), ENOUGH_S)
    stats = await worker.stats()
    assert stats["rollout/rollouts"] == 40
    assert stats["faults/failed_loads"] == 1
    await asyncio.wait_for(worker.stop(), ENOUGH_S)
