"""Every vLLM host against transformers: what it samples, loads, refuses and survives.

`served` runs a test over both hosts, `inprocess` and `async_served` over one, where a fault can
only be made in that one.
"""

import asyncio
import dataclasses
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from actors.engines import base as engines
from actors.engines._vllm import inputs, shared_memory
from actors.engines._vllm import models as vllm_models
from oapl.errors import EngineError, WeightsError
from oapl.records import Prompt, Rollout, Sampling
from oapl.weights import base
from oapl.weights.base import send
from tests.support.makers import make_model
from tests.support.serving import EngineUnderTest, prompt_of

pytestmark = pytest.mark.integration

EXACT = 1e-5
"""Nats between two fp32 implementations of one model."""
ENOUGH_S = 600.0
"""For what ends by itself, on a machine however slow."""
TRIES = 5
"""At a ratio of times, which others on the machine may spoil; each must be possible."""


HOSTS = ("vllm_inprocess", "vllm_async")


async def fresh(engine: EngineUnderTest) -> EngineUnderTest:
    """The file's engine of a host, holding a fresh version."""
    await engine.come_back()
    engine.engine.stats()
    engine.train()
    await engine.publish()
    return engine


@pytest.fixture(params=HOSTS)
async def served(request):
    return await fresh(request.getfixturevalue(f"{request.param}_engine"))


@pytest.fixture
async def inprocess(vllm_inprocess_engine):
    return await fresh(vllm_inprocess_engine)


@pytest.fixture
async def async_served(vllm_async_engine):
    return await fresh(vllm_async_engine)


def make_room(request: pytest.FixtureRequest, host: str) -> None:
    """For another engine of a host: a process holds one at a time."""
    if host == "vllm_inprocess":
        request.getfixturevalue("vllm_inprocess_engine").leave()


def begin(served: EngineUnderTest, count: int) -> list[asyncio.Task[Rollout]]:
    """Rollouts as long as the context allows, in flight."""
    prompt, kind = served.prompt(), Sampling(max_tokens=240)
    return [asyncio.create_task(served.engine.generate(prompt, kind)) for _ in range(count)]


async def check_publications(served: EngineUnderTest) -> None:
    for _ in range(4):
        served.train()
        report = await served.publish()
        assert report.version == served.engine.version == served.step
        assert report.num_tokens == 1 + 16 + 39 + 254
        assert report.max_difference < EXACT
        assert 1 <= report.ratio < 1 + EXACT
        prompt = served.prompt()
        for rollout in await served.sample(prompt, 4):
            assert served.error(prompt, rollout) < EXACT


async def test_tied_logprobs_equal_transformers_after_each_publication(served):
    assert served.learner.config.tie_word_embeddings
    await check_publications(served)


@pytest.mark.parametrize(("host", "degree"), [("vllm_inprocess", 1), ("vllm_async", 2)])
async def test_untied_logprobs_equal_transformers_after_each_publication(
    tmp_path, request, host, degree, monkeypatch
):
    """The second one spreads the model over two worker processes (tensor parallel)."""
    make_room(request, host)
    if degree > 1:
        monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")  # tests set 0, which forbids it
        monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    served = EngineUnderTest(make_model(tmp_path, tied=False), host=host, degree=degree)
    assert not served.learner.config.tie_word_embeddings
    await check_publications(served)
    served.close()


async def test_without_the_repack_a_tied_head_is_stale_and_the_probe_tells(inprocess, monkeypatch):
    inprocess.train()
    monkeypatch.setattr(vllm_models, "repack_tied_heads", lambda model: 0)
    assert (await inprocess.publish()).ratio > 1.01
    monkeypatch.undo()
    assert (await inprocess.publish()).ratio < 1 + EXACT


async def test_a_publication_in_another_dtype_is_taken_in(served):
    served.train()
    halves = {}
    with torch.no_grad():
        for name, parameter in served.learner.named_parameters():
            halves[name] = parameter.bfloat16()
            parameter.copy_(halves[name])
    weights = send(served.sender, served.step, iter(halves.items()), served.probe())
    assert (await served.engine.load(weights)).max_difference < EXACT


async def test_every_token_carries_the_version_that_sampled_it(served):
    for _ in range(2):
        rollouts = await served.sample(served.prompt(), 3)
        assert {(r.first_version, r.last_version) for r in rollouts} == {(served.step,) * 2}
        served.train()
        await served.publish()


async def test_finish_reasons_and_texts(served):
    rollouts = await served.sample(served.prompt(), 32, max_tokens=64)
    tokenizer = AutoTokenizer.from_pretrained(served.config.model.path)
    left_out = {tokenizer.pad_token_id, tokenizer.eos_token_id}
    assert {r.finish_reason for r in rollouts} <= {"stop", "length"}
    for r in rollouts:
        assert r.token_ids.dtype == np.int32
        assert r.inference_logprobs.dtype == np.float32
        assert len(r.token_ids) == len(r.inference_logprobs) <= 64
        assert (r.token_ids[-1] == 2) == (r.finish_reason == "stop")
        assert (r.finish_reason == "stop") or len(r.token_ids) == 64
        seen = [token for token in r.token_ids.tolist() if token not in left_out]
        assert r.text == tokenizer.decode(seen, clean_up_tokenization_spaces=False)
        assert "<eos>" not in r.text
    stats = served.engine.stats()
    assert stats["rollout/rollouts"] == 32
    assert stats["rollout/tokens"] == sum(len(r.token_ids) for r in rollouts)
    assert stats["rollout/truncated"] == sum(r.is_truncated for r in rollouts)
    assert "rollout/rollouts" not in served.engine.stats()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, 0, 1.0), (1.3, 5, 1.0), (1.0, 0, 0.8)]
)
async def test_logprobs_are_those_of_the_distribution_sampled_from(
    served, temperature, top_k, top_p
):
    prompt = served.prompt()
    rollouts = await served.sample(prompt, 4, temperature=temperature, top_k=top_k, top_p=top_p)
    for rollout in rollouts:
        whole = np.concatenate([prompt.token_ids, rollout.token_ids])
        logits = served.logits(whole)[len(prompt.token_ids) - 1 : -1] / temperature
        if top_k:
            logits[logits < logits.topk(top_k).values[:, -1:]] = -torch.inf
        if top_p < 1:
            sorted_p, order = logits.softmax(-1).sort(descending=True)
            cut = sorted_p.cumsum(-1) - sorted_p >= top_p
            logits = logits.masked_fill(cut.scatter(1, order, cut), -torch.inf)
        chosen = torch.from_numpy(rollout.token_ids).long()[:, None]
        expected = logits.log_softmax(-1).gather(1, chosen)[:, 0].numpy()
        np.testing.assert_allclose(rollout.inference_logprobs, expected, atol=2 * EXACT)


async def test_greedy_takes_the_likeliest_token_and_reports_it_at_temperature_one(served):
    prompt = served.prompt()
    (rollout,) = await served.sample(prompt, 1, temperature=0.0)
    whole = np.concatenate([prompt.token_ids, rollout.token_ids])
    best = served.logits(whole)[len(prompt.token_ids) - 1 : -1].argmax(-1).numpy()
    assert rollout.token_ids.tolist() == best.tolist()
    assert served.error(prompt, rollout) < EXACT


async def test_a_load_aborts_what_is_in_flight_and_counts_it(served):
    old, prompt = served.step, served.prompt()
    pending = begin(served, 64)
    await served.sample(prompt, 1, max_tokens=4)  # by then the others have tokens, too
    served.train()
    await served.publish()
    rollouts = await asyncio.wait_for(asyncio.gather(*pending), ENOUGH_S)
    aborted = [r for r in rollouts if r.finish_reason == "abort"]
    assert aborted
    assert any(len(r.token_ids) for r in aborted)
    for r in rollouts:
        assert (r.first_version, r.last_version) == (old, old)
        assert len(r.token_ids) == len(r.inference_logprobs)
    stats = served.engine.stats()
    assert stats["rollout/aborted"] == len(aborted)
    assert stats["rollout/aborted_tokens"] == sum(len(r.token_ids) for r in aborted)


async def cut_off(served: EngineUnderTest, prompt: Prompt, sampling: Sampling) -> list[Rollout]:
    """Eight rollouts of the version held, with some tokens each, as a load leaves them."""
    pending = [asyncio.create_task(served.engine.generate(prompt, sampling)) for _ in range(8)]
    await served.sample(prompt, 1, max_tokens=24)  # while they are sampled too
    await served.publish()  # the very weights that are held
    return [made for made in await asyncio.gather(*pending) if made.finish_reason == "abort"]


async def test_a_rollout_that_was_cut_off_goes_on_as_if_it_had_not_been(served):
    prompt, kind = served.prompt(), Sampling(max_tokens=120)
    begun = await cut_off(served, prompt, kind)
    assert len(begun) > 1
    assert min(len(one.token_ids) for one in begun) > 0
    tokenizer = AutoTokenizer.from_pretrained(served.config.model.path)
    left_out = {tokenizer.pad_token_id, tokenizer.eos_token_id}
    served.engine.stats()
    whole = await asyncio.gather(*(served.engine.generate(prompt, kind, one) for one in begun))
    for before, after in zip(begun, whole, strict=True):
        count = len(before.token_ids)
        assert after.finish_reason in ("stop", "length")
        assert count < len(after.token_ids) <= kind.max_tokens
        assert (len(after.token_ids) == kind.max_tokens) or after.finish_reason == "stop"
        np.testing.assert_array_equal(after.token_ids[:count], before.token_ids)
        np.testing.assert_array_equal(after.inference_logprobs[:count], before.inference_logprobs)
        assert served.error(prompt, after) < EXACT
        assert after.first_version == after.last_version == served.step
        ids = [token for token in after.token_ids.tolist() if token not in left_out]
        assert after.text == tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    stats = served.engine.stats()
    new = sum(len(a.token_ids) - len(b.token_ids) for a, b in zip(whole, begun, strict=True))
    assert stats["rollout/tokens"] == new
    assert "faults/moved_disagreements" not in stats


async def test_a_greedy_rollout_that_was_cut_off_is_the_one_that_never_was(served):
    prompt, kind = served.prompt(), Sampling(max_tokens=120).greedy()
    never = await served.engine.generate(prompt, kind)
    (begun, *_) = await cut_off(served, prompt, kind)
    after = await served.engine.generate(prompt, kind, begun)
    np.testing.assert_array_equal(after.token_ids, never.token_ids)
    np.testing.assert_allclose(after.inference_logprobs, never.inference_logprobs, atol=EXACT)


async def test_a_rollout_is_not_gone_on_with_under_another_version(served):
    prompt, kind = served.prompt(), Sampling(max_tokens=120)
    (begun, *_) = await cut_off(served, prompt, kind)
    served.train()
    await served.publish()
    after = await served.engine.generate(prompt, kind, begun)
    assert after.finish_reason == "abort"
    np.testing.assert_array_equal(after.token_ids, begun.token_ids)
    assert after.first_version == after.last_version == served.step - 1


async def test_a_rollout_with_whose_log_probs_the_engine_disagrees_ends_without_a_token(served):
    prompt, kind = served.prompt(), Sampling(max_tokens=120)
    (begun, *_) = await cut_off(served, prompt, kind)
    assert begun.inference_logprobs is not None
    served.engine.stats()
    off = dataclasses.replace(begun, inference_logprobs=begun.inference_logprobs + 0.2)
    after = await served.engine.generate(prompt, kind, off)
    assert (after.finish_reason, len(after.token_ids)) == ("abort", 0)
    assert served.engine.stats()["faults/moved_disagreements"] == 1


@pytest.fixture
def draining(served, monkeypatch):
    monkeypatch.setattr(served.engine, "_config", served.draining())
    return served


async def test_a_load_that_drains_aborts_nothing_and_takes_what_still_comes(draining):
    old, prompt = draining.step, draining.prompt()
    pending = begin(draining, 32)
    await draining.sample(prompt, 1, max_tokens=4)
    draining.train()
    load = asyncio.create_task(draining.publish())
    await asyncio.sleep(0)
    late = asyncio.create_task(draining.engine.generate(prompt, Sampling(max_tokens=4)))
    rollouts = await asyncio.wait_for(asyncio.gather(*pending, late), ENOUGH_S)
    assert (await load).max_difference < EXACT
    assert {r.finish_reason for r in rollouts} <= {"stop", "length"}
    assert {(r.first_version, r.last_version) for r in rollouts} == {(old, old)}
    stats = draining.engine.stats()
    assert stats["rollout/rollouts"] == 1 + 33
    assert not stats.keys() & {"rollout/aborted", "faults/cut_drains"}
    assert stats["engine/drain_s"] > 0
    (after,) = await draining.sample(prompt, 1)
    assert after.first_version == draining.step
    assert draining.error(prompt, after) < EXACT


async def test_a_drain_ends_at_its_deadline_and_is_counted(draining, monkeypatch):
    monkeypatch.setattr(engines, "DRAIN_SHARE", 0.05 / draining.config.sync.timeout_s)
    old, pending = draining.step, begin(draining, 64)
    await draining.sample(draining.prompt(), 1, max_tokens=4)
    draining.train()
    await draining.publish()
    rollouts = await asyncio.wait_for(asyncio.gather(*pending), ENOUGH_S)
    assert "abort" in {r.finish_reason for r in rollouts}
    assert {(r.first_version, r.last_version) for r in rollouts} == {(old, old)}
    assert draining.engine.stats()["faults/cut_drains"] == 1


async def test_a_request_that_arrives_during_a_load_waits_and_is_never_of_the_new_version(served):
    served.train()
    load = asyncio.create_task(served.publish())
    await asyncio.sleep(0)
    (late,) = await asyncio.wait_for(served.sample(served.prompt(), 1), ENOUGH_S)
    await load
    assert late.finish_reason == "abort" or late.last_version == served.step - 1
    (after,) = await served.sample(served.prompt(), 1)
    assert after.first_version == served.step


async def test_the_prefix_cache_does_not_outlive_a_version(served):
    prompt = served.prompt(130)  # four whole blocks
    for _ in range(2):
        for rollout in await served.sample(prompt, 4):
            assert served.error(prompt, rollout) < EXACT
        served.train()
        await served.publish()
    (rollout,) = await served.sample(prompt, 1)
    assert served.error(prompt, rollout) < EXACT


def spoil_contents(served, weights, value=1.0):
    """Change what was published behind the sender's back."""
    content = weights.chunks[-1].get(0).ticket
    content[-4:].view(np.float32)[0] += value
    return weights


def spoil_with_nan(served, weights):
    return spoil_contents(served, weights, np.nan)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: s.publication(model__norm__weight=None), "norm.weight is missing"),
        (lambda s: s.publication(model__norm__weight=torch.ones(4)), "norm.weight has shape"),
        (lambda s: s.publication(model__extra=torch.ones(4)), "model.extra is unknown"),
        (lambda s: spoil_contents(s, s.publication()), "not those that were sent"),
        (lambda s: spoil_with_nan(s, s.publication()), "not those that were sent"),
    ],
    ids=["incomplete", "shape", "surplus", "damaged", "non-finite"],
)
async def test_a_bad_publication_is_refused_and_the_engine_is_usable_after(served, make, message):
    served.train()
    with pytest.raises(WeightsError, match=message) as caught:
        await served.engine.load(make(served))
    assert served.engine.version == -1
    assert caught.value.__cause__ is None
    pickle.loads(pickle.dumps(caught.value))
    report = await served.publish()
    assert report.max_difference < EXACT
    prompt = served.prompt()
    (rollout,) = await served.sample(prompt, 1)
    assert served.error(prompt, rollout) < EXACT


async def test_a_version_that_gave_nan_leaves_none_behind(served):
    good = {name: p.detach().clone() for name, p in served.learner.named_parameters()}
    with torch.no_grad():
        for name, parameter in served.learner.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                parameter.mul_(1e30)  # finite, so it can be published; the scores are not
    report = await served.engine.load(served.publication())
    assert not report.ratio <= 1e9
    for rollout in await served.sample(served.prompt(100), 64):
        assert not np.isfinite(rollout.inference_logprobs).all()
    with torch.no_grad():
        for name, parameter in served.learner.named_parameters():
            parameter.copy_(good[name])
    assert (await served.publish()).max_difference < EXACT
    prompt = served.prompt(100)
    for rollout in await served.sample(prompt, 64):
        assert served.error(prompt, rollout) < EXACT


async def test_a_second_engine_in_the_process_is_refused(inprocess, tiny_model):
    with pytest.raises(EngineError, match="one vLLM engine at a time"):
        EngineUnderTest(tiny_model, index=1)
    (rollout,) = await inprocess.sample(inprocess.prompt(), 1)
    assert rollout.last_version == inprocess.step


async def test_engines_and_rebuilds_draw_different_samples(tiny_model, request):
    make_room(request, "vllm_inprocess")
    drawn = set()
    for index in range(2):
        served = EngineUnderTest(tiny_model, index=index)
        prompt = prompt_of(np.arange(10, 20, dtype=np.int32))
        (rollout,) = await served.sample(prompt, 1)
        drawn.add(tuple(rollout.token_ids.tolist()))
        if index:
            await served.engine.rebuild()
            (rollout,) = await served.sample(prompt, 1)
            drawn.add(tuple(rollout.token_ids.tolist()))
        served.close()
    assert len(drawn) == 3


async def test_a_fault_fails_what_is_in_flight_and_everything_after_until_a_rebuild(
    inprocess, monkeypatch
):
    prompt, steps = inprocess.prompt(), []
    real = inprocess.engine._thread.engine.step

    def broken_step():
        steps.append(1)
        if len(steps) > 5:
            raise ZeroDivisionError("a kernel broke")
        return real()

    monkeypatch.setattr(inprocess.engine._thread.engine, "step", broken_step)
    pending = [
        asyncio.create_task(inprocess.engine.generate(prompt, Sampling(max_tokens=200)))
        for _ in range(8)
    ]
    answers = await asyncio.wait_for(asyncio.gather(*pending, return_exceptions=True), ENOUGH_S)
    assert all(isinstance(a, EngineError) or len(a.token_ids) <= 5 for a in answers)
    errors = [a for a in answers if isinstance(a, EngineError)]
    assert "ZeroDivisionError: a kernel broke" in str(errors[0])
    assert pickle.loads(pickle.dumps(errors[0])).args == errors[0].args
    started = time.monotonic()
    with pytest.raises(EngineError, match="a kernel broke"):
        await inprocess.engine.generate(prompt, Sampling(max_tokens=4))
    with pytest.raises(EngineError, match="a kernel broke"):
        await inprocess.publish()
    assert time.monotonic() - started < ENOUGH_S / 10, "it waited for the deadline of a load"

    await inprocess.engine.rebuild()
    assert inprocess.engine.version == -1
    assert (await inprocess.publish()).max_difference < EXACT
    (rollout,) = await inprocess.sample(prompt, 1)
    assert inprocess.error(prompt, rollout) < EXACT


@pytest.mark.parametrize(
    ("ids", "max_tokens", "message"),
    [
        ([], 4, "is empty"),
        (range(3, 103), 157, "more than the context of 256"),
        ([5, 128], 4, "has token 128, but the vocabulary ends at 127"),
        ([5, -1], 4, "has token -1"),
        ([5], 0, "max_tokens is 0"),
    ],
)
async def test_requests_that_do_not_fit_are_refused(served, ids, max_tokens, message):
    prompt = prompt_of(np.array(list(ids), dtype=np.int32))
    with pytest.raises(ValueError, match=message):
        await served.engine.generate(prompt, Sampling(max_tokens=max_tokens))


async def test_a_prompt_and_response_may_fill_the_context(served):
    prompt = served.prompt(200)
    for rollout in await served.sample(prompt, 4, max_tokens=56):
        assert served.error(prompt, rollout) < EXACT


async def test_given_tokens_are_scored_as_transformers_scores_them(served):
    sequences = [served.prompt(length).token_ids for length in (2, 40, 255)]
    scores = await served.engine.score(sequences)
    for ids, found in zip(sequences, scores, strict=True):
        np.testing.assert_allclose(found, served.logprobs(ids), atol=EXACT)


async def test_a_request_nobody_waits_for_any_more_ends(served):
    pending = begin(served, 4)
    await asyncio.sleep(0.05)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    await served.sample(served.prompt(), 1, max_tokens=16)  # a fraction of what they would make
    assert served.in_flight() == 0


async def test_busy_and_idle_seconds_add_up(served):
    for _ in range(TRIES):
        served.engine.stats()
        started = time.monotonic()
        await served.sample(served.prompt(), 16)
        await asyncio.sleep(0.3)
        elapsed, stats = time.monotonic() - started, served.engine.stats()
        assert stats["engine/idle_s"] >= 0.28, "the wait that is still going on counts too"
        assert stats["engine/busy_s"] > 0
        both = stats["engine/busy_s"] + stats["engine/idle_s"]
        if both == pytest.approx(elapsed, rel=0.25):
            return
    pytest.fail(f"busy and idle {both:.3f} s, of {elapsed:.3f} s")


async def test_the_seconds_of_a_load_are_neither_busy_nor_idle(served):
    for _ in range(TRIES):
        served.train()
        served.engine.stats()
        started = time.monotonic()
        await served.publish()
        await asyncio.sleep(0.3)
        elapsed, stats = time.monotonic() - started, served.engine.stats()
        assert stats["engine/load_s"] > 0
        states = ("busy", "idle", "load")
        told = sum(stats.get(f"engine/{state}_s", 0.0) for state in states)
        if told == pytest.approx(elapsed, rel=0.25):
            return
    pytest.fail(f"busy, idle and load {told:.3f} s, of {elapsed:.3f} s")


async def test_the_token_rate_is_that_of_the_bare_engine(inprocess):
    """Loose, since machines are shared; tests/bench/engine_throughput.py measures."""
    from tests.bench.engine_throughput import bare, through_generate

    sampling = Sampling(max_tokens=32)
    ratios = []
    for _ in range(TRIES):
        ours = await through_generate(inprocess.engine, 256, sampling)
        ratios.append(ours / await asyncio.to_thread(bare, inprocess.engine, 256, sampling))
        if ratios[-1] > 0.5:
            return
    pytest.fail(f"token rates beside the bare engine's: {ratios}")


def engine_processes() -> set[int]:
    return {child.pid for child in multiprocessing.active_children()}


def open_pieces() -> list[str]:
    """Publications this process still holds in memory files."""
    links = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            links.append(os.readlink(link))
        except FileNotFoundError:  # the folder's own
            continue
    return [link for link in links if "oapl-weights" in link]


async def test_a_killed_engine_process_fails_everything_until_a_rebuild(async_served):
    prompt, pending = async_served.prompt(), begin(async_served, 8)
    await asyncio.sleep(0.05)
    killed = engine_processes()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    answers = await asyncio.wait_for(asyncio.gather(*pending, return_exceptions=True), ENOUGH_S)
    errors = [a for a in answers if isinstance(a, EngineError)]
    assert errors
    assert all(isinstance(a, EngineError) or a.finish_reason != "abort" for a in answers)
    for error in errors:  # a vLLM exception inside would import vLLM where it is read
        assert b"vllm." not in pickle.dumps(error)
        assert error.__cause__ is None
    started = time.monotonic()
    with pytest.raises(EngineError, match="its process has ended"):
        await async_served.engine.generate(prompt, Sampling(max_tokens=4))
    with pytest.raises(EngineError, match="its process has ended"):
        await async_served.publish()
    assert time.monotonic() - started < ENOUGH_S / 10, "it waited for the deadline of a load"

    await async_served.engine.rebuild()
    assert async_served.engine.version == -1
    assert not engine_processes() & killed
    assert (await async_served.publish()).max_difference < EXACT
    (rollout,) = await async_served.sample(prompt, 1)
    assert async_served.error(prompt, rollout) < EXACT


async def test_a_refused_publication_that_nothing_was_loaded_of_costs_no_rebuild(async_served):
    before = engine_processes()
    with pytest.raises(WeightsError, match="not those that were sent"):
        await async_served.engine.load(spoil_contents(async_served, async_served.publication()))
    assert engine_processes() == before
    assert async_served.engine.version == -1


async def test_a_publication_in_segments_may_break_between_them(async_served, monkeypatch):
    monkeypatch.setattr(shared_memory, "SEGMENT_BYTES", 300_000)
    monkeypatch.setattr(base, "SMALLEST_CHUNK", 300_000)
    async_served.train()
    assert (await async_served.publish()).max_difference < EXACT
    assert open_pieces() == []

    before = engine_processes()
    async_served.train()
    with pytest.raises(WeightsError, match="not those that were sent"):
        await async_served.engine.load(spoil_contents(async_served, async_served.publication()))
    assert not engine_processes() & before, "a half-loaded model was kept"
    assert open_pieces() == []
    assert async_served.engine.version == -1
    assert (await async_served.publish()).max_difference < EXACT


async def test_closing_ends_what_is_in_flight_and_a_load_that_waits_for_it(served):
    """The last one, since it closes the engines that the others share."""
    served.engine._config = served.draining()
    pending = begin(served, 64)
    await served.sample(served.prompt(), 1, max_tokens=1)  # by then the others have begun
    load = asyncio.create_task(served.engine.load(served.publication()))
    await asyncio.sleep(0)
    await asyncio.to_thread(served.engine.close)
    rollouts = await asyncio.wait_for(asyncio.gather(*pending), ENOUGH_S)
    assert "abort" in {r.finish_reason for r in rollouts}
    with pytest.raises(EngineError, match="closed"):
        await asyncio.wait_for(load, ENOUGH_S)
    with pytest.raises(EngineError, match="closed"):
        await served.engine.generate(served.prompt(), Sampling(max_tokens=4))
    served.close()


def test_the_limits_of_the_temperature_are_vllms():
    from vllm.exceptions import VLLMValidationError

    least, most = inputs.LEAST_TEMPERATURE, inputs.MOST_TEMPERATURE
    for temperature in (least, 1.0, most):
        given = inputs.rollout_params(Sampling(temperature=temperature))
        assert given.temperature == temperature
    assert inputs.rollout_params(Sampling(temperature=least / 2)).temperature == least
    with pytest.raises(VLLMValidationError, match="temperature must be"):
        inputs.rollout_params(Sampling(temperature=most * 1.01))
