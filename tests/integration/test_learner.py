"""The trainer on real DeepSpeed: gradient, skipping, resuming, exporting.

The oracle is a float64 model that scores every rollout by itself, without packing.
"""

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from learner import trainer as trainers
from learner import zero_engine
from learner.forward import logprobs_of
from learner.models.frozen import FrozenPolicies
from learner.trainer import Trainer
from oapl.batching import example, make_batch, shard
from oapl.config.objective import Declarations
from oapl.errors import CheckpointError, DivergedError, InputError, WeightsError
from oapl.records import Batch, CreditedGroup
from oapl.weights.local import Receiver
from tests.models import tiny
from tests.support import ranks, walks
from tests.support.exact import (
    alone_logprobs,
    exact_gradients,
    exact_iteration,
    exact_parameters,
    relative_error,
)
from tests.support.makers import make_group, make_model
from tests.support.partly_used import config as parts_config
from tests.support.publishing import export
from tests.support.ranks import config_of, gradients, groups_to_train

pytestmark = pytest.mark.integration

# Relative L2 error over all tensors together: 1.7e-6 here, and 1.7e-6 for plain torch in float32.
GRADIENT_BOUND = 3e-6
FP16_BOUND = 4e-3
BOUNDS = {"fp32": GRADIENT_BOUND, "fp16": FP16_BOUND, "bf16": 0.03}
# Adam's first step has the size of the rate whatever the gradient's: its sign is what may differ.
PARAMETER_BOUNDS = {"fp32": 3e-5, "fp16": 1e-3, "bf16": 5e-3}
SETTINGS = zero_engine.settings
"""As they are where `everything_sharded` does not change them."""
ITERATION_BOUND = 1e-5
"""Of the parameters after four of Adam's steps."""
CHUNK = 16
"""`learner.logprob_chunk_tokens` of these runs."""
WIDE = 1000
"""A vocabulary that is no other size of the model."""
VALUED = range(4)
"""Stages at which policy, reference and critic make two iterations."""
VISITED = (1, 3)
"""Stages at which a rank's whole life is looked at."""
PARTLY = ((0, "fp32"), (0, "bf16"), (1, "fp32"), (1, "bf16"))
"""Where ranks are let use different parameters; the last two refuse it."""
USES = ((True, False, False), (True, False, True))
"""Steps of the two ranks that use the same part of a module."""


@pytest.fixture(scope="module", autouse=True)
def sharded() -> Iterator[None]:
    with ranks.everything_sharded():
        yield


@pytest.fixture(scope="module")
def tied(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("tied"), tied=True)


@pytest.fixture(scope="module")
def untied(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("untied"), tied=False)


def batch_of(groups: list[CreditedGroup], step: int = 0) -> Batch:
    return make_batch(groups, step=step, **ranks.LIMITS)


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return ranks.weights(trainer)


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return ranks.distance(a, b)


@pytest.fixture(scope="module")
def exact(tied: Path, untied: Path) -> dict[Path, dict]:
    return {path: exact_gradients(path, groups_to_train(), 0.1) for path in (tied, untied)}


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_accumulated_gradient_is_that_of_the_whole_batch(tied: Path, exact, stage: int):
    with ranks.running(config_of(tied, zero_stage=stage)) as trainer:
        batch = batch_of(groups_to_train())
        assert len(batch.micro_batches) == 5
        metrics = trainer.update(batch)
        error = relative_error(gradients(trainer), exact[tied])
    print(f"stage {stage}: relative error of the gradient {error:.2e}")
    assert error < GRADIENT_BOUND
    norm = math.sqrt(sum(float(g.square().sum()) for g in exact[tied].values()))
    assert metrics["policy/grad_norm"] == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("stage", [1, 3])
def test_gradient_with_an_untied_output_layer_and_checkpointing(untied: Path, exact, stage: int):
    config = config_of(untied, zero_stage=stage, activation_checkpointing=True)
    with ranks.running(config) as trainer:
        trainer.update(batch_of(groups_to_train()))
        assert relative_error(gradients(trainer), exact[untied]) < GRADIENT_BOUND


@pytest.mark.parametrize("stage", [1, 3])
def test_a_type_that_leaks_between_packed_sequences_is_refused_until_rows_hold_one(
    tmp_path: Path, stage: int
):
    path = tiny.make("opt", tmp_path)
    with pytest.raises(InputError, match=r"opt model .* learner.row_tokens = 1"):
        trainers.build(config_of(path, zero_stage=stage))
    with ranks.running(config_of(path, zero_stage=stage, row_tokens=1)) as trainer:
        assert all(np.isfinite(part).all() for part in export(trainer, 0).probe_logprobs.get(0))


@pytest.mark.parametrize("stage", [1, 3])
def test_bf16_gradient_is_close_and_rotary_frequencies_stay_exact(tied: Path, exact, stage: int):
    with ranks.running(config_of(tied, zero_stage=stage, precision="bf16")) as trainer:
        trainer.update(batch_of(groups_to_train()))
        assert relative_error(gradients(trainer), exact[tied]) < 0.03
        buffers = dict(trainer.engine.module.named_buffers())
        assert {b.dtype for name, b in buffers.items() if "inv_freq" in name} == {torch.float32}


@pytest.mark.parametrize("stage", [0, 1])
def test_clipping_scales_the_gradient_and_reports_the_norm_before(tied: Path, exact, stage: int):
    config = config_of(tied, zero_stage=stage)
    config = replace(config, optimizer=replace(config.optimizer, clip_norm=1e-3))
    with ranks.running(config) as trainer:
        metrics = trainer.update(batch_of(groups_to_train()))
        found = gradients(trainer)
    norm = math.sqrt(sum(float(g.square().sum()) for g in exact[tied].values()))
    clipped = {name: g * 1e-3 / norm for name, g in exact[tied].items()}
    assert metrics["policy/grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert relative_error(found, clipped) < 1e-5


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_an_iteration_of_four_updates_compares_with_the_policy_before_it(tied: Path, stage: int):
    config = ranks.grpo_config(tied, zero_stage=stage)
    parts = [make_batch([g], step=0, **ranks.LIMITS) for g in ranks.grpo_groups()]
    batches = [replace(part, mini_batch=i) for i, part in enumerate(parts)]
    with ranks.running(config) as trainer:
        assert trainer.prepare(batches)["time/prepare_s"] > 0
        steps = [trainer.update(batch) for batch in batches * 2]
        away = relative_error(weights_of(trainer), iterated(tied))
    print(f"stage {stage}: parameters after four updates {away:.1e}")
    assert away < ITERATION_BOUND
    assert [step["grpo/ratio_std"] > 1e-6 for step in steps] == [False, True, True, True]
    assert steps[-1]["grpo/clipped_rate"] > 0


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize(
    ("stage", "precision"),
    [(0, "fp32"), (1, "fp32"), (2, "bf16"), (3, "fp32"), (3, "bf16"), (0, "bf16")],
)
def test_a_frozen_policy_is_scored_in_place_and_leaves_the_policy_as_it_was(
    tied: Path, monkeypatch, stage: int, precision: str, everything: bool
):
    if not everything:  # small parameters then stay gathered at stage 3
        monkeypatch.setattr(zero_engine, "settings", SETTINGS)
    config = config_of(tied, zero_stage=stage, precision=precision)
    batches = [batch_of(groups_to_train(), step) for step in range(3)]

    def scores(trainer: Trainer) -> np.ndarray:
        with trainer.engine.evaluating():
            return logprobs_of(trainer.engine, batches[0].micro_batches[0], temperature=1.0)[
                0
            ].numpy()

    with ranks.running(config) as trainer:
        for batch in batches:
            trainer.update(batch)
        undisturbed = weights_of(trainer)
    with ranks.running(config) as trainer:
        frozen = FrozenPolicies(trainer.engine.module)
        trainer.update(batches[0])
        before = scores(trainer)
        frozen.copy("reference")
        trainer.update(batches[1])
        after = scores(trainer)
        with trainer.engine.evaluating(), frozen.in_place("reference"):
            inside = scores(trainer)
        again = scores(trainer)
        trainer.update(batches[2])
        with pytest.raises(ValueError, match="on the way"), frozen.in_place("reference"):
            raise ValueError("on the way")
        assert distance(undisturbed, weights_of(trainer)) == 0
        with frozen.in_place("reference"):
            assert (scores(trainer) == before).all()
        frozen.copy("reference")
        with frozen.in_place("reference"):
            inside_now = scores(trainer)
        assert (inside_now == scores(trainer)).all()
    assert (inside == before).all()
    assert (after == again).all()
    assert np.abs(after - before).max() > 1e-4


def adams_moments(trainer: Trainer) -> float:
    states = trainer.engine.adam.state.values()
    return max(float(value.abs().max()) for state in states for value in state.values())


@pytest.mark.parametrize(
    ("stage", "precision"), [(0, "fp32"), (1, "bf16"), (2, "fp32"), (3, "fp32"), (0, "bf16")]
)
def test_a_reset_really_resets_and_a_resumed_run_goes_on_from_it(
    tied: Path, tmp_path: Path, stage: int, precision: str
):
    config = ranks.grpo_config(tied, zero_stage=stage, precision=precision)
    config = replace(
        config,
        objective={
            **config.objective,
            "kl_coefficient": 0.1,
            "entropy_coefficient": 0.01,
            "entropy_target": 99.0,
        },
    )
    parts = [make_batch([g], step=0, **ranks.LIMITS) for g in ranks.grpo_groups()]
    batches = [replace(part, mini_batch=i) for i, part in enumerate(parts)]

    def iterate(trainer: Trainer) -> list[dict]:
        trainer.prepare(batches)
        return [trainer.update(batch) for batch in batches * 2]

    with ranks.running(config) as trainer:
        first = iterate(trainer)
        assert first[0]["policy/reference_kl"] < 1e-9, "the model that training began with"
        assert iterate(trainer)[0]["policy/reference_kl"] > 1e-4
        assert adams_moments(trainer) > 0
        trainer.reset_reference()
        assert adams_moments(trainer) == 0
        assert iterate(trainer)[0]["policy/reference_kl"] < 1e-9
        trainer.save(tmp_path / "trainer")
        after = iterate(trainer)
        expected = weights_of(trainer)
        moments = adams_moments(trainer)
        trainer.reset_reference(keeps_optimizer=True)
        assert adams_moments(trainer) == moments > 0
        assert iterate(trainer)[0]["policy/reference_kl"] < 1e-9
    with ranks.running(config) as trainer:
        trainer.load(tmp_path / "trainer")
        again = iterate(trainer)
        assert distance(expected, weights_of(trainer)) == 0
    names = ("policy/reference_kl", "policy/entropy_coefficient", "loss/total")
    assert [[s[n] for n in names] for s in after] == [[s[n] for n in names] for s in again]
    assert [s["policy/entropy_coefficient"] for s in first] == pytest.approx([0, *[0.01] * 3])


@pytest.mark.parametrize(("stage", "precision"), [(0, "fp32"), (1, "bf16"), (3, "fp32")])
def test_a_stage_takes_over_the_weights_and_of_the_rest_what_it_keeps(
    tied: Path, tmp_path: Path, stage: int, precision: str
):
    config = ranks.grpo_config(tied, zero_stage=stage, precision=precision)
    config = replace(config, objective={**config.objective, "kl_coefficient": 0.1})
    parts = [make_batch([g], step=0, **ranks.LIMITS) for g in ranks.grpo_groups()]
    batches = [replace(part, mini_batch=i) for i, part in enumerate(parts)]

    def iterate(trainer: Trainer) -> float:
        trainer.prepare(batches)
        first, *_ = [trainer.update(batch) for batch in batches]
        return first["policy/reference_kl"]

    with ranks.running(config) as trainer:
        iterate(trainer)
        trainer.save(tmp_path / "trainer")
        handed_over = weights_of(trainer)
        kl = iterate(trainer)
        after = weights_of(trainer)
    assert kl > 1e-5
    for keeps in ({"optimizer", "reference"}, {"optimizer"}, {"reference"}):
        with ranks.running(config) as trainer:
            trainer.take_over(tmp_path / "trainer", keeps)
            assert distance(handed_over, weights_of(trainer)) == 0
            assert (adams_moments(trainer) > 0) == ("optimizer" in keeps)
            assert iterate(trainer) == (kl if "reference" in keeps else pytest.approx(0, abs=1e-9))
            if len(keeps) == 2:
                assert distance(after, weights_of(trainer)) == 0, "as if it had never ended"


def test_the_denominators_can_leave_out_what_is_taken_out(tied: Path):
    config = ranks.grpo_config(tied)
    options = {"name": "grpo", "importance": "token", "importance_bounds": [0.5, 2.0]}
    losses = {}
    for masked in ("keep", "leave"):
        one = replace(config, objective={**options, "masked": masked, "aggregation": "token"})
        with ranks.running(one) as trainer:
            batch = make_batch(ranks.grpo_groups(), step=0, **ranks.LIMITS)
            trainer.prepare([batch])
            losses[masked] = trainer.update(batch)
    rate = losses["keep"]["grpo/masked_rate"]
    assert 0 < rate < 1
    ratio = losses["keep"]["loss/total"] / losses["leave"]["loss/total"]
    assert ratio == pytest.approx(1 - rate, rel=1e-5)


def iterated(path: Path) -> dict:
    config, groups = ranks.grpo_config(path), ranks.grpo_groups()
    return exact_iteration(path, [[g] for g in groups], config.optimizer, passes=2, clip=0.2)


def test_metrics_are_those_of_the_batch(tied: Path):
    groups = groups_to_train()
    with ranks.running(config_of(tied)) as trainer:
        metrics = trainer.update(replace(batch_of(groups), kept_groups=(1, 2)))
        kept = {(one.group_index, one.place): one.logprobs for one in trainer.kept_scores()}
    model = AutoModelForCausalLM.from_pretrained(tied, dtype=torch.float64)
    residuals, ratios, alignments = [], [], []
    by_tenth: dict[int, list[float]] = {}
    for index, group in enumerate(groups):
        sampled = group.scored.group
        for place, (rollout, credit) in enumerate(
            zip(sampled.rollouts, group.credit.values, strict=True)
        ):
            with torch.no_grad():
                logprobs = alone_logprobs(
                    model, sampled.prompt.token_ids, rollout.token_ids, 0.8
                ).numpy()
            if index in (1, 2):
                np.testing.assert_allclose(kept.pop((index, place)), logprobs, atol=1e-5)
            differences = logprobs - rollout.inference_logprobs
            ratios.extend(differences)
            alignments.append(np.exp(np.abs(differences)).mean())
            for at, difference in enumerate(differences):
                by_tenth.setdefault(10 * at // len(differences), []).append(np.exp(difference))
            residuals.append(0.1 * (logprobs - rollout.inference_logprobs).sum() - credit)
    assert metrics["loss/total"] == pytest.approx(np.mean(np.square(residuals)), rel=1e-5)
    assert metrics["oapl/residual_mean"] == pytest.approx(np.mean(residuals), rel=1e-5)
    assert metrics["oapl/residual_std"] == pytest.approx(np.std(residuals), rel=1e-5)
    assert metrics["oapl/log_ratio_min"] == pytest.approx(np.min(ratios), rel=1e-5)
    assert metrics["policy/prob_ratio"] == pytest.approx(np.mean(np.exp(np.abs(ratios))), rel=1e-4)
    for bin, found in by_tenth.items():
        assert metrics[f"policy/ratio_at/{bin}"] == pytest.approx(np.mean(found), rel=1e-4)
    name = "policy/rollout_prob_ratio_max"
    assert metrics[name] == pytest.approx(np.max(alignments), rel=1e-4)
    assert metrics["loss/sign"] == 1.0
    assert "policy/policy_kl" not in metrics  # nothing here has a lag
    assert metrics["policy/lr"] == 1e-3
    assert "perf/mfu" not in metrics, "nobody knows what this processor can do"
    assert not kept, "of other groups nothing is kept"


def test_the_share_of_a_known_peak_is_told(tied: Path):
    config = config_of(tied)
    cluster = dataclasses.replace(config.cluster, peak_tflops=0.1)
    with ranks.running(dataclasses.replace(config, cluster=cluster)) as trainer:
        batch = batch_of(groups_to_train())
        metrics = trainer.update(batch)
        count = sum(p.numel() for p in trainer.engine.module.parameters())
    tokens = sum(micro_batch.num_tokens for micro_batch in batch.micro_batches)
    share = 6 * count * tokens / (metrics["time/forward_backward_s"] * 0.1e12)
    assert share < metrics["perf/mfu"] < 1.1 * share, "and some for the attention"


def test_a_changed_sequence_leaves_the_others_of_its_row_as_they_were(tied: Path):
    groups = groups_to_train()
    batch = make_batch(groups, step=0, micro_batch_tokens=512)  # one row
    (micro_batch,) = batch.micro_batches
    assert micro_batch.token_ids.shape[0] == 1
    changed = micro_batch.token_ids.copy()
    for rollout in (0, 4):
        changed[micro_batch.rollout_index == rollout] = 7
    owner = micro_batch.rollout_index[micro_batch.response_mask]
    with ranks.running(config_of(tied)) as trainer, trainer.engine.evaluating():
        before, after = (
            logprobs_of(
                trainer.engine, replace(micro_batch, token_ids=ids), temperature=1.0
            )[0].numpy()
            for ids in (micro_batch.token_ids, changed)
        )  # fmt: skip
    others = ~np.isin(owner, (0, 4))
    assert (before[others] == after[others]).all()
    assert (before[~others] != after[~others]).mean() > 0.9


@pytest.mark.parametrize(
    ("stage", "precision"),
    [(0, "fp32"), (1, "fp32"), (2, "fp32"), (3, "fp32"), (0, "bf16"), (1, "bf16")],
)
def test_a_nan_skips_the_update_is_counted_and_the_next_one_is_sound(
    tied: Path, stage: int, precision: str
):
    with ranks.running(config_of(tied, zero_stage=stage, precision=precision)) as trainer:
        before = weights_of(trainer)
        metrics = trainer.update(batch_of(groups_to_train(broken=True)))
        assert metrics["faults/skipped_steps"] == 1.0
        assert "policy/grad_norm" not in metrics
        assert distance(before, weights_of(trainer)) == 0
        metrics = trainer.update(batch_of(groups_to_train(), step=1))
        assert metrics["faults/skipped_steps"] == 0.0
        assert 0 < distance(before, weights_of(trainer)) < 0.01


def test_an_infinite_loss_with_a_finite_gradient_is_skipped(tied: Path):
    class Infinite:
        declares = Declarations(
            needs=frozenset(), min_group_size=1, samples=True, needs_inference_logprobs=False
        )

        def loss(self, inputs):
            from oapl.records import LossOutputs

            return LossOutputs(loss=inputs.logprobs.sum() + math.inf, metrics={})

    trainer = trainers.build(config_of(tied), objective=Infinite())  # type: ignore[arg-type]
    before = weights_of(trainer)
    metrics = trainer.update(batch_of(groups_to_train()))
    moved = distance(before, weights_of(trainer))
    trainer.close()
    assert (metrics["faults/skipped_steps"], moved) == (1.0, 0.0)


def test_too_many_skips_in_a_row_end_the_run(tied: Path):
    with ranks.running(config_of(tied, max_skipped_in_a_row=2)) as trainer:
        broken, sound = batch_of(groups_to_train(broken=True)), batch_of(groups_to_train())
        trainer.update(broken)
        trainer.update(sound)
        trainer.update(broken)
        with pytest.raises(DivergedError, match="2 times"):
            trainer.update(broken)


@pytest.mark.parametrize(
    ("stage", "precision"), [(0, "fp32"), (1, "fp32"), (3, "fp32"), (1, "bf16")]
)
def test_resumed_training_is_bit_identical(
    tied: Path, untied: Path, tmp_path: Path, stage: int, precision: str
):
    config = config_of(tied, zero_stage=stage, precision=precision)
    with ranks.running(config) as trainer:
        trainer.update(batch_of(groups_to_train()))
        trainer.save(tmp_path / "trainer")
        drawn = torch.rand(3)
        for step in (1, 2):
            metrics = trainer.update(batch_of(groups_to_train(), step))
        expected = weights_of(trainer)
    with ranks.running(config) as trainer:
        torch.rand(17)
        trainer.load(tmp_path / "trainer")
        assert torch.equal(torch.rand(3), drawn)
        for step in (1, 2):
            again = trainer.update(batch_of(groups_to_train(), step))
        assert distance(expected, weights_of(trainer)) == 0
    assert again["policy/grad_norm"] == metrics["policy/grad_norm"]


@pytest.fixture(scope="module")
def saved(tied: Path, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "trainer"
    with ranks.running(config_of(tied)) as trainer:
        trainer.update(batch_of(groups_to_train()))
        trainer.save(path)
    return path


def test_damage_and_another_shape_are_refused_before_anything_is_loaded(
    tied: Path, untied: Path, saved: Path, tmp_path: Path
):
    import shutil

    flipped = shutil.copytree(saved, tmp_path / "flipped")
    target = next(flipped.rglob("*.safetensors"))
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(content)
    lacking = shutil.copytree(saved, tmp_path / "lacking")
    next(lacking.rglob("*.safetensors")).unlink()
    with ranks.running(config_of(tied)) as trainer:
        before = weights_of(trainer)
        for path, words in (
            (flipped, "is damaged"),
            (lacking, "is missing"),
            (tmp_path / "nowhere", "incomplete"),
        ):
            with pytest.raises(CheckpointError, match=words):
                trainer.load(path)
        assert distance(before, weights_of(trainer)) == 0
    with (
        ranks.running(config_of(untied)) as trainer,
        pytest.raises(CheckpointError, match="the model is not the one that was saved"),
    ):
        trainer.load(saved)
    with (
        ranks.running(config_of(tied, precision="bf16")) as trainer,
        pytest.raises(CheckpointError, match="precision"),
    ):
        trainer.load(saved)


@pytest.mark.by_hand
@pytest.mark.parametrize(("stage", "precision"), [(0, "bf16"), (1, "fp32"), (3, "fp32")])
def test_what_deepspeed_wrote_goes_on_and_is_saved_by_name(
    tied: Path, tmp_path: Path, stage: int, precision: str
):
    """Checkpoints of format 4."""
    import shutil

    from learner.checkpoints import digests

    config, old = config_of(tied, zero_stage=stage, precision=precision), tmp_path / "old"
    with ranks.running(config) as trainer:
        trainer.update(batch_of(groups_to_train()))
        trainer.save(old)
        shutil.rmtree(old / "policy")
        (old / "digests.json").unlink()
        trainer.engine.inner.save_checkpoint(str(old), tag="deepspeed", save_latest=False)
        digests.write(old)
        trainer.update(batch_of(groups_to_train(), 1))
        expected = weights_of(trainer)
    with ranks.running(config) as trainer:
        trainer.load(old)
        trainer.save(tmp_path / "new")
        trainer.update(batch_of(groups_to_train(), 1))
        assert distance(expected, weights_of(trainer)) == 0
    with ranks.running(config_of(tied, zero_stage=2, precision=precision)) as trainer:
        with pytest.raises(CheckpointError, match="zero_stage"):
            trainer.load(old)
        trainer.load(tmp_path / "new")


def test_the_optimizers_settings_are_those_of_the_run_that_goes_on(tied: Path, saved: Path):
    config = config_of(tied)
    optimizer = dataclasses.replace(config.optimizer, weight_decay=0.25, betas=(0.5, 0.75))
    with ranks.running(dataclasses.replace(config, optimizer=optimizer)) as trainer:
        trainer.load(saved)
        for group in trainer.engine.inner.optimizer.param_groups:
            assert (group["weight_decay"], *group["betas"]) == (0.25, 0.5, 0.75)


@pytest.mark.parametrize("tied_head", [True, False])
def test_saved_model_has_equal_logprobs_in_transformers(
    tied: Path, untied: Path, tmp_path: Path, tied_head: bool
):
    path = tied if tied_head else untied
    group = groups_to_train()[0].scored.group
    prompt, response = group.prompt.token_ids, group.rollouts[0].token_ids
    with ranks.running(config_of(path)) as trainer:
        trainer.update(batch_of(groups_to_train()))
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "stale").touch()
        trainer.save_model(tmp_path / "model")
        with torch.no_grad():
            mine = alone_logprobs(trainer.engine.module.lm, prompt, response)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "stale").exists()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(alone_logprobs(loaded, prompt, response), mine)
        old = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        assert not torch.equal(alone_logprobs(old, prompt, response), mine)
    assert loaded.config.tie_word_embeddings == tied_head
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.decode(tokenizer("3+4=7")["input_ids"]) == "3+4=7"


@pytest.mark.parametrize("stage", [1, 3])
@pytest.mark.parametrize("tied_head", [True, False])
def test_export_sends_every_parameter_once_and_a_probe_that_holds(
    tied: Path, untied: Path, stage: int, tied_head: bool
):
    path = tied if tied_head else untied
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with ranks.running(config_of(path, zero_stage=stage)) as trainer:
        first = export(trainer, 0)
        trainer.update(batch_of(groups_to_train()))
        weights = export(trainer, 1)
        assert first is not None
        assert weights is not None
        received = dict(Receiver(5).receive(weights))
    assert {n: t.shape for n, t in received.items()} == {
        n: p.shape for n, p in model.named_parameters()
    }
    assert ("lm_head.weight" in received) == (not tied_head)
    assert [len(ids) for ids in first.probe_ids] == [12] * 2
    model.load_state_dict(received, strict=False)
    model.tie_weights()
    assert len(weights.probe_ids) == 2
    for ids, logprobs in zip(weights.probe_ids, weights.probe_logprobs.get(0), strict=True):
        assert len(logprobs) == len(ids) - 1
        with torch.no_grad():
            expected = alone_logprobs(model, ids[:1], ids[1:]).numpy()
        assert np.abs(expected - logprobs).max() < 5e-6
    assert any(
        ids.tolist() == [*g.scored.group.prompt.token_ids, *r.token_ids][-12:]
        for g in groups_to_train()
        for r in g.scored.group.rollouts
        for ids in weights.probe_ids
    )


def test_export_casts_to_the_engines_dtype_and_refuses_what_is_not_finite(tied: Path):
    config = config_of(tied)
    config = replace(config, model=replace(config.model, dtype="bfloat16"))
    with ranks.running(config) as trainer:
        weights = export(trainer, 0)
        assert weights is not None
        assert {spec.dtype for spec in weights.specs} == {"bfloat16"}
        with torch.no_grad():
            trainer.engine.module.lm.model.norm.weight[3] = math.inf
        with pytest.raises(WeightsError, match=r"model\.norm\.weight holds non-finite"):
            export(trainer, 1)


def test_imitation_lowers_the_loss(tied: Path):
    scored = make_group([9, 14, 5, 20], seed=3)
    groups = [
        example(
            scored.group.prompt,
            replace(r, inference_logprobs=None, first_version=0, last_version=0),
        )
        for r in scored.group.rollouts
    ]
    config = replace(config_of(tied), objective={"name": "sft"})
    with ranks.running(config) as trainer:
        losses = [trainer.update(batch_of(groups, step))["loss/nll"] for step in range(12)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_fp16_scales_the_loss_and_clips_and_reports_the_unscaled_norm(
    tied: Path, exact, stage: int
):
    config = config_of(tied, zero_stage=stage, precision="fp16")
    config = replace(config, optimizer=replace(config.optimizer, clip_norm=1e-3))
    with ranks.running(config) as trainer:
        metrics = trainer.update(batch_of(groups_to_train()))
        found = gradients(trainer)
    norm = math.sqrt(sum(float(g.square().sum()) for g in exact[tied].values()))
    assert metrics["policy/loss_scale"] == 2**16
    assert metrics["policy/grad_norm"] == pytest.approx(norm, rel=1e-3)
    clipped = {name: g * 1e-3 / norm for name, g in exact[tied].items()}
    assert relative_error(found, clipped) < FP16_BOUND


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_an_fp16_overflow_skips_the_step_and_halves_the_scale_until_it_fits(
    tied: Path, tmp_path: Path, stage: int
):
    config = config_of(tied, zero_stage=stage, precision="fp16", max_skipped_in_a_row=2)
    with ranks.running(config) as trainer:
        trainer.engine.loss_scale.value = 2.0**24
        before = weights_of(trainer)
        scales = []
        for step in range(20):
            metrics = trainer.update(batch_of(groups_to_train(), step))
            scales.append(metrics["policy/loss_scale"])
            if not metrics["faults/skipped_steps"]:
                break
            assert "policy/grad_norm" not in metrics
            assert distance(before, weights_of(trainer)) == 0
        assert scales == [2.0 ** (24 - n) for n in range(len(scales))]
        assert 2 < len(scales) < 20, "more skips than the run allows of losses that are not finite"
        assert 0 < distance(before, weights_of(trainer)) < 0.01
        trainer.save(tmp_path / "trainer")
        broken = batch_of(groups_to_train(broken=True))  # no scale mends this
        trainer.update(broken)
        with pytest.raises(DivergedError, match="2 times"):
            trainer.update(broken)
        assert trainer.engine.loss_scale.value == scales[-1]
    with ranks.running(config) as trainer:
        trainer.load(tmp_path / "trainer")
        assert (trainer.engine.loss_scale.value, trainer.engine.loss_scale.good_steps) == (
            scales[-1],
            1,
        )


@pytest.mark.parametrize(
    ("stage", "offload", "precision"),
    [(1, "optimizer", "fp32"), (2, "optimizer", "bf16"), (3, "all", "fp32"), (3, "all", "fp16")],
)
def test_offloading_changes_neither_gradient_nor_resumption(
    tied: Path, exact, tmp_path: Path, stage: int, offload: str, precision: str
):
    """On a CPU the host is the device: this shows the code path, not the memory it saves."""
    config = config_of(tied, zero_stage=stage, offload=offload, precision=precision)
    with ranks.running(config) as trainer:
        trainer.update(batch_of(groups_to_train()))
        assert relative_error(gradients(trainer), exact[tied]) < BOUNDS[precision]
        trainer.save(tmp_path / "trainer")
        trainer.update(batch_of(groups_to_train(), 1))
        expected = weights_of(trainer)
    with ranks.running(config) as trainer:
        trainer.load(tmp_path / "trainer")
        trainer.update(batch_of(groups_to_train(), 1))
        assert distance(expected, weights_of(trainer)) == 0


def test_two_ranks_in_ray_actors_share_one_batch(ray_cluster, tied: Path, exact, tmp_path: Path):
    batches = shard(groups_to_train(), step=0, num_ranks=2, **ranks.LIMITS)
    assert [sum(m.is_dummy for m in batch.micro_batches) for batch in batches] == [1, 0]
    real = [[m for m in batch.micro_batches if not m.is_dummy] for batch in batches]
    assert [sum(m.num_rollouts for m in share) for share in real] == [4, 6]
    assert [sum(m.num_tokens for m in share) for share in real] == [95, 100]
    shapes = [(stage, "fp32") for stage in range(4)] + [(1, "fp16"), (3, "fp16")]
    shapes += [(0, "bf16"), (2, "bf16")]
    wide = make_model(tmp_path / "wide", vocab_size=WIDE)
    configs = [config_of(tied, zero_stage=s, precision=p, num_ranks=2) for s, p in shapes]
    answers = ranks.run(
        tmp_path,
        2,
        [
            *(("first_step", config) for config in configs),
            ("logits", config_of(wide, zero_stage=3, num_ranks=2), WIDE),
            *(("visit", configs[stage], tmp_path) for stage in VISITED),
            ("iteration", ranks.grpo_config(tied, zero_stage=3, num_ranks=2)),
            *(("partly", parts_config(s, p, num_ranks=2), USES) for s, p in PARTLY),
            *(("valued", walks.valued_config(tied, zero_stage=s, num_ranks=2), 2) for s in VALUED),
        ],
    )
    with ranks.running(config_of(tied)) as trainer:
        alone = trainer.update(batch_of(groups_to_train()))
    moved = exact_parameters(tied, exact[tied], configs[0].optimizer)
    for (stage, precision), (found, other) in zip(shapes, answers, strict=False):
        error = relative_error(found["gradients"], exact[tied])
        away = relative_error(found["parameters"], moved)
        print(f"stage {stage}, {precision}, 2 ranks: gradient {error:.1e}, parameters {away:.1e}")
        assert error < BOUNDS[precision]
        assert away < PARAMETER_BOUNDS[precision]
        assert other["metrics"].keys() == found["metrics"].keys()
        if precision != "fp32":
            continue
        for name, value in alone.items():
            if not name.startswith(("time/", "perf/")):
                assert found["metrics"][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name
    logits = answers[len(shapes)]
    assert_logits_are_few(logits, exact_gradients(wide, groups_to_train(), 0.1))
    (iteration, _), *rest = answers[len(shapes) + 1 + len(VISITED) :]
    partly, walked = rest[: len(PARTLY)], rest[len(PARTLY) :]
    for stage, (found, _) in zip(VISITED, answers[len(shapes) + 1 :], strict=False):
        assert_a_rank_lived(found, tied, tmp_path, stage)
    away = relative_error(iteration["parameters"], iterated(tied))
    print(f"an iteration of four updates, stage 3, 2 ranks: parameters {away:.1e}")
    assert away < ITERATION_BOUND
    *still, (refused, _), (other, _) = partly
    for answer in still:
        assert_what_no_rank_used_stood_still(*answer)
    assert "sometimes.weight" in refused["refused"]
    assert "set learner.zero_stage = 0" in other["refused"]
    for stage, (walk, nothing) in zip(VALUED, walked, strict=True):
        assert nothing is None
        assert_a_walk_is_exact(walk, tied, stage)


@pytest.mark.by_hand
def test_a_rank_that_fails_ends_the_wait_of_the_others(ray_cluster, tied: Path, tmp_path: Path):
    """Their next collective would last until `sync.timeout_s`, here ten minutes."""
    began = time.monotonic()
    with pytest.raises(ValueError, match="rank 0 is broken"):
        ranks.run(tmp_path, 2, [("broken", config_of(tied, num_ranks=2))])
    assert time.monotonic() - began < 120, "the start of two ranks, and no wait"


def assert_a_walk_is_exact(walk: walks.Walk, tied: Path, stage: int) -> None:
    config = walks.valued_config(tied)
    for error in walks.errors(walk, tied, config):
        print(f"policy and critic, stage {stage}, 2 ranks: {error}")
        assert error["gradient"] < walks.GRADIENT_BOUND
        assert error["parameters"] < ITERATION_BOUND


def assert_what_no_rank_used_stood_still(found: dict, other: dict) -> None:
    assert found == other
    assert found["never"] == [2.0] * 4
    weights = found["sometimes"]
    assert weights[0] > weights[1] == weights[2] > weights[3], "used on both, none, one rank"


def assert_logits_are_few(answers: list[dict], exact: dict) -> None:
    """Ranks may differ in chunks of logits, and never hold more than one."""
    first, second = answers
    assert len(first["chunks"]) != len(second["chunks"])
    assert sum(first["chunks"]) + sum(second["chunks"]) > 5 * CHUNK
    for answer in answers:
        assert max(answer["chunks"]) == answer["rows"] == CHUNK
    assert relative_error(first["gradients"], exact) < GRADIENT_BOUND


def assert_a_rank_lived(found: dict, tied: Path, folder: Path, stage: int) -> None:
    assert found["skipped"] == 1.0
    assert found["moved_by_skipped"] == 0.0
    assert found["moved_by_load"] == 0.0
    assert found["differs_after_resume"] == 0.0
    assert found["failed_export"] == "failed at chunk 0"
    trained = AutoModelForCausalLM.from_pretrained(folder / f"model-{stage}", dtype=torch.float32)
    assert found["specs"] == len(list(trained.parameters()))
    probe = np.load(folder / f"probe-{stage}.npz")
    ids = np.split(probe["ids"], np.cumsum(probe["lengths"])[:-1])
    with torch.no_grad():
        expected = torch.cat([alone_logprobs(trained, i[:1], i[1:]) for i in ids]).numpy()
    assert np.abs(expected - probe["logprobs"]).max() < 5e-6
