"""The host and the weight engine against vLLM's signatures, those of 0.23 and the installed ones.

0.23 is what the Ascend plugin needs, and was not run: its names and parameters are recorded.
"""

import asyncio

import numpy as np
import pytest
import torch

from actors.engines._vllm import inputs
from oapl.errors import EngineError, WeightsError
from oapl.records import Rollout, Sampling
from tests.support import fake_vllm
from tests.support.makers import make_model
from tests.support.vllm_signatures import signatures

VERSIONS = pytest.mark.parametrize("version", ["0.23.0", ""], ids=["0.23.0", "installed"])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), vocab_size=fake_vllm.KNOWN)


@pytest.fixture
def served(request, model, monkeypatch):
    from tests.support.serving import EngineUnderTest

    fake_vllm.install(monkeypatch, request.getfixturevalue("version"))
    served = EngineUnderTest(model, host="vllm_async")
    yield served
    served.close()
    inputs.rollout_params.cache_clear()


def short_probe(served):
    served.probe = lambda: type(served).probe(served, (2, 9))
    served._random_ids = lambda length: np.full(length, 7, dtype=np.int32)
    return served


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def endless(served):
    """A rollout that has three tokens and gets no more."""
    llm = fake_vllm.Llm.last
    llm.num_tokens, llm.most_tokens = 0, 3
    made = asyncio.create_task(served.engine.generate(served.prompt(4), Sampling(max_tokens=200)))
    await until(lambda: llm.num_tokens == 3)
    return made


@VERSIONS
async def test_a_publication_reaches_the_model_whole(version, served):
    short_probe(served).train()
    report = await served.publish()
    llm = fake_vllm.Llm.last
    assert report.version == served.engine.version == 1
    assert report.num_tokens == 1 + 8
    assert llm.worker.acts == ["started", "updated", "finished", "settle_publication"]
    sent = dict(served.learner.named_parameters())
    assert llm.worker.model.weights.keys() == sent.keys()
    for name, tensor in llm.worker.model.weights.items():
        assert torch.equal(tensor, sent[name])
    assert not llm.is_paused


@VERSIONS
async def test_a_cache_is_emptied_when_it_may_hold_nan(version, served):
    await short_probe(served).publish()
    keys, (more_keys, values) = caches = fake_vllm.Llm.last.worker.model_runner.kv_caches
    assert all(cache.all() for cache in (keys, more_keys, values)), "a sound one need not be"
    pending = await endless(served)
    pending.cancel()  # nobody sees whether its log-probs were finite
    await until(lambda: served.in_flight() == 0)
    await served.publish()
    assert caches is fake_vllm.Llm.last.worker.model_runner.kv_caches
    assert not any(cache.any() for cache in (keys, more_keys, values))


@VERSIONS
async def test_rollouts_carry_the_version_whether_vllm_reports_it_or_not(version, served):
    short_probe(served)
    for _ in range(2):
        served.train()
        await served.publish()
        (rollout,) = await served.sample(served.prompt(4), 1, max_tokens=3)
        assert (rollout.first_version, rollout.last_version) == (served.step, served.step)
        assert rollout.token_ids.tolist() == [5, 5, 5]
        assert rollout.inference_logprobs.tolist() == [-0.5] * 3


@VERSIONS
async def test_a_load_cuts_off_what_is_in_flight_under_its_own_version(version, served):
    short_probe(served).train()
    await served.publish()
    pending = await endless(served)
    served.train()
    await served.publish()
    rollout = await asyncio.wait_for(pending, 60)
    assert rollout.finish_reason == "abort"
    assert rollout.last_version == 1
    assert len(rollout.token_ids) == 3
    assert served.engine.stats()["rollout/aborted_tokens"] == len(rollout.token_ids)


def begun(version: int, logprob: float) -> Rollout:
    """Twenty tokens that another engine has sampled."""
    return Rollout(
        token_ids=np.full(20, 7, np.int32),
        inference_logprobs=np.full(20, logprob, np.float32),
        finish_reason="abort",
        text="",
        first_version=version,
        last_version=version,
    )


@VERSIONS
async def test_a_rollout_begun_elsewhere_gets_the_tokens_that_are_left(version, served):
    short_probe(served).train()
    await served.publish()
    kind, prompt = Sampling(max_tokens=50), served.prompt(4)
    rollout = await served.engine.generate(prompt, kind, begun(1, -0.5))
    assert rollout.token_ids.tolist() == [7] * 20 + [5] * 30
    assert rollout.inference_logprobs.tolist() == [-0.5] * 50
    assert (rollout.first_version, rollout.last_version) == (1, 1)
    assert served.engine.stats()["rollout/tokens"] == 30, "the others were counted elsewhere"
    late = await served.engine.generate(prompt, kind, begun(0, -0.5))
    assert (late.finish_reason, late.last_version, len(late.token_ids)) == ("abort", 0, 20)


@VERSIONS
async def test_a_rollout_on_whose_log_probs_engines_disagree_ends_without_a_token(version, served):
    """The fake's log-probs are -0.5: exp(0.2) is beyond the bound of 1.10, exp(0.05) is not."""
    short_probe(served).train()
    await served.publish()
    kind, prompt = Sampling(max_tokens=50), served.prompt(4)
    near = await served.engine.generate(prompt, kind, begun(1, -0.55))
    assert near.finish_reason == "length"
    far = await served.engine.generate(prompt, kind, begun(1, -0.7))
    assert (far.finish_reason, len(far.token_ids)) == ("abort", 0)
    assert served.engine.stats()["faults/moved_disagreements"] == 1
    cooler = Sampling(max_tokens=50, temperature=0.5)  # what it was drawn from is not told
    assert (await served.engine.generate(prompt, cooler, begun(1, -0.7))).finish_reason == "length"


@VERSIONS
async def test_a_load_that_drains_waits_and_hears_when_the_engine_dies(
    version, served, monkeypatch
):
    short_probe(served).train()
    monkeypatch.setattr(served.engine, "_config", served.draining())
    await served.publish()
    pending = asyncio.create_task(served.engine.generate(served.prompt(4), Sampling(max_tokens=50)))
    await asyncio.sleep(0.01)
    served.train()
    await served.publish()
    rollout = await pending
    assert (rollout.finish_reason, rollout.last_version, len(rollout.token_ids)) == (
        "length",
        1,
        50,
    )
    pending = await endless(served)
    load = asyncio.create_task(served.publish())
    await asyncio.sleep(0.01)
    fake_vllm.Llm.last.is_errored = True
    for wait in (pending, load):
        with pytest.raises(EngineError, match="its process has ended"):
            await asyncio.wait_for(wait, 60)
    await served.engine.rebuild()


@VERSIONS
async def test_a_foreign_publication_touches_nothing(version, served):
    short_probe(served)
    with pytest.raises(WeightsError, match=r"norm\.weight is missing"):
        await served.engine.load(served.publication(model__norm__weight=None))
    assert fake_vllm.Llm.last.worker.acts == []
    assert not fake_vllm.Llm.last.is_paused


@VERSIONS
async def test_a_dead_engine_is_an_error_of_ours_and_is_rebuilt(version, served):
    short_probe(served).train()
    await served.publish()
    dead = fake_vllm.Llm.last
    pending = await endless(served)
    dead.is_errored = True
    with pytest.raises(EngineError, match="its process has ended"):
        await pending
    with pytest.raises(EngineError, match="its process has ended"):
        await served.publish()
    await served.engine.rebuild()
    assert fake_vllm.Llm.last is not dead
    assert (await served.publish()).version == 1


def test_the_record_differs_from_the_installed_version_where_the_code_bends():
    old, new = signatures("0.23.0"), signatures()
    start = "distributed/weight_transfer/base:WeightTransferEngine.start_weight_update"
    assert old[start] is None
    assert new[start] is not None
    label = "v1/engine/async_llm:AsyncLLM.update_weight_version"
    assert old[label] is None
    assert new[label] is not None
    assert "weight_versions" not in old["outputs:CompletionOutput"].parameters
    assert "weight_versions" in new["outputs:CompletionOutput"].parameters
