"""A critic beside the policy on real DeepSpeed: values, credit per token, both updates, resuming.

The objective is `tests.support.valued`, the oracle `tests.support.exact_critic`.
"""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from learner import preparation, step
from learner.checkpoints import resuming
from learner.forward import values_of
from learner.trainer import Trainer
from oapl.batching import make_batch
from oapl.config import RunConfig
from oapl.errors import CheckpointError, DivergedError, InputError
from oapl.records import Batch, LossOutputs
from tests.support import ranks, valued, walks
from tests.support.exact_critic import Exact, ExactCritic
from tests.support.makers import make_model
from tests.support.publishing import export
from tests.support.ranks import critic_weights, distance, weights
from tests.support.walks import valued_config

pytestmark = pytest.mark.integration

PARAMETER_BOUND = 1e-5
"""Relative L2 over all tensors, in fp32."""
VALUE_BOUND = {"fp32": 2e-6, "fp16": 2e-3, "bf16": 2e-2}
"""Relative L2 of values, whose hidden states have a size of 1."""
REMIX = {
    **{"name": "remix", "kl_coefficient": 0.1},
    **{"lambda_delay": 0, "lambda_interval": 1, "lambda_step": 0.5, "lambda_floor": 0.0},
}
"""From the second iteration on half of the KL is from the policy before the last one."""


@pytest.fixture(scope="module", autouse=True)
def sharded() -> Iterator[None]:
    with ranks.everything_sharded():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("untied"), tied=False)


def batches_of(config: RunConfig, number: int = 0) -> list[Batch]:
    parts = [make_batch(part, step=number, **ranks.LIMITS) for part in walks.parts_of(config)]
    return [replace(part, mini_batch=i) for i, part in enumerate(parts)]


def iterate(trainer: Trainer, batches: list[Batch], config: RunConfig) -> list[dict[str, float]]:
    first = trainer.prepare(batches)
    updates = [trainer.update(b) for b in batches * config.learner.updates_per_batch]
    return [first | updates[0], *updates[1:]]


@pytest.mark.parametrize(("stage", "updates"), [(0, 4), (3, 4), (1, 1), (2, 1)])
def test_two_iterations_are_those_of_float64(model: Path, stage: int, updates: int):
    n = math.isqrt(updates)
    config = valued_config(model, zero_stage=stage, parts=n, passes=n)
    with ranks.running(config) as trainer:
        found = walks.walk(trainer, config, partial(batches_of, config), iterations=2)
    policy, critic = walks.errors(found, model, config)
    print(f"stage {stage}, u = {updates}: policy {policy}, critic {critic}")
    for error in (policy, critic):
        assert error["gradient"] < walks.GRADIENT_BOUND
        assert error["parameters"] < PARAMETER_BOUND
    first, *_, last = (update.metrics for update in found.updates)
    same = found.updates[n - 1].metrics  # on the mini-batch that was the last one, too
    assert first["critic/value_std"] == first["critic/value_mean"] == 0, "a head of zeros"
    assert last["critic/value_std"] > 0.01
    assert last["valued/moved_max"] > (valued.VALUE_CLIP if updates == 4 else -1)
    assert last["critic/loss"] < same["critic/loss"]
    assert last["critic/grad_norm"] > 0
    assert last["critic/skipped"] == 0


@pytest.mark.parametrize(("stage", "precision"), [(1, "fp32"), (2, "bf16"), (3, "fp16")])
def test_values_are_those_of_a_plain_model_packed_or_alone(model: Path, stage: int, precision: str):
    config = valued_config(model, zero_stage=stage, precision=precision)
    group = walks.groups()[0]
    with ranks.running(config) as trainer:
        iterate(trainer, batches_of(config), config)
        assert trainer.critic is not None
        rows = {
            row_tokens: values(trainer, make_batch([group], step=0, **limits(row_tokens)))
            for row_tokens in (1, 64)
        }
        plain = ExactCritic(model)
        plain.load_state_dict(critic_weights(trainer))
    sampled = group.scored.group
    with torch.no_grad():
        exact = torch.cat(
            [plain.values(sampled.prompt.token_ids, r.token_ids) for r in by_length(sampled)]
        )
    assert len({len(r.token_ids) for r in sampled.rollouts}) == len(sampled.rollouts)
    for found in rows.values():
        order = torch.cat([found[i] for i in range(len(found))])
        away = float((order - exact).norm() / exact.norm())
        print(f"stage {stage}, {precision}: values {away:.1e}")
        assert away < VALUE_BOUND[precision]
    if precision == "fp32":
        for one, other in zip(rows[1], rows[64], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def limits(row_tokens: int) -> dict[str, int]:
    return {"micro_batch_tokens": 128, "row_tokens": row_tokens}


def by_length(sampled):
    return sorted(sampled.rollouts, key=lambda rollout: len(rollout.token_ids))


def values(trainer: Trainer, batch: Batch) -> list[torch.Tensor]:
    """Of each rollout, the shortest first."""
    found = []
    with trainer.critic.evaluating():
        for micro_batch in batch.micro_batches:
            given = values_of(trainer.critic, micro_batch)
            assert given.dtype == torch.float32
            owner = torch.tensor(micro_batch.rollout_index[micro_batch.response_mask])
            found += [given[owner == number] for number in range(micro_batch.num_rollouts)]
    return sorted(found, key=len)


def test_credit_per_token_needs_no_critic_and_no_second_update(model: Path):
    config = valued_config(model, parts=1, passes=1)
    config = replace(config, objective={**walks.OBJECTIVE, "has_critic": False})
    (batch,) = batches_of(config)
    assert len(batch.micro_batches) > 1
    with ranks.running(config) as trainer:
        assert trainer.critic is None
        assert trainer.prepare([batch]).keys() == {"time/prepare_s"}
        metrics = trainer.update(batch)
    assert not [name for name in metrics if name.startswith("critic/")]
    # Whitened over the tokens of all micro-batches; at the reference returns are rewards.
    assert metrics["valued/advantage_mean"] == pytest.approx(0, abs=1e-6)
    assert metrics["valued/advantage_std"] == pytest.approx(1, rel=1e-5)
    assert metrics["valued/ratio_std"] < 1e-6


def test_what_the_critic_explains_is_of_all_tokens_of_the_iteration(model: Path, monkeypatch):
    config, credits_ = valued_config(model), []
    original = valued.Objective.token_credit

    def seen(self, inputs):
        credits_.append((original(self, inputs), inputs.old_values))
        return credits_[-1][0]

    monkeypatch.setattr(valued.Objective, "token_credit", seen)
    with ranks.running(config) as trainer:
        assert iterate(trainer, batches_of(config), config)[0]["critic/explained_variance"] == 0, (
            "values of 0"
        )
        credits_.clear()
        found = trainer.prepare(batches_of(config, 4))["critic/explained_variance"]
    returns = torch.cat([credit.returns for credit, _ in credits_]).double()
    errors = returns - torch.cat([old for _, old in credits_])
    assert found == pytest.approx(float(1 - errors.var() / returns.var()), rel=1e-5)
    assert found != 0


@pytest.mark.parametrize(("stage", "precision"), [(3, "fp32"), (1, "bf16")])
def test_a_resumed_run_is_bit_identical_with_reference_and_critic(
    model: Path, tmp_path: Path, stage: int, precision: str
):
    config = valued_config(model, passes=1, zero_stage=stage, precision=precision)
    after, again = run_on_and_resumed(config, tmp_path / "trainer", batches_of)
    assert_alike(after, again)


def test_a_resumed_run_is_bit_identical_with_history_and_the_policy_of_before(
    model: Path, tmp_path: Path
):
    """The second of two mini-batches is history; KL-Convex looks back one iteration."""
    config = replace(valued_config(model, zero_stage=1), objective=REMIX)

    def batches(config: RunConfig, number: int) -> list[Batch]:
        fresh, old = walks.parts_of(config)
        old = [replace(group, is_history=number > 0) for group in old]
        parts = [make_batch(part, step=number, **ranks.LIMITS) for part in (fresh, old)]
        return [replace(part, mini_batch=i) for i, part in enumerate(parts)]

    after, again = run_on_and_resumed(config, tmp_path / "trainer", batches)
    assert_alike(after, again)
    metrics, _, _ = after
    assert [one["remix/history_rate"] for one in metrics] == [0, 1, 0, 1]
    assert all(one["policy/reference_kl"] > 0 for one in metrics)


@pytest.mark.parametrize("stage", [0, 2])
def test_a_stage_takes_over_the_critic_with_the_optimizer_or_not_at_all(
    model: Path, tmp_path: Path, stage: int
):
    """A reference alone that is kept must not bring the critic of the stage before along."""
    config = replace(valued_config(model, zero_stage=stage), objective=REMIX)
    with ranks.running(config) as trainer:
        begun = critic_weights(trainer)
        iterate(trainer, batches_of(config), config)
        trainer.save(tmp_path / "trainer")
        handed_over = critic_weights(trainer)
        after = iterate(trainer, batches_of(config, 4), config)
    assert distance(begun, handed_over) > 0
    for keeps in ({"optimizer", "reference"}, {"reference"}):
        with ranks.running(config) as trainer:
            trainer.take_over(tmp_path / "trainer", keeps)
            expected = handed_over if "optimizer" in keeps else begun
            assert distance(expected, critic_weights(trainer)) == 0
            again = iterate(trainer, batches_of(config, 4), config)
            values = [one["critic/value_mean"] for one in again]
            if "optimizer" in keeps:
                assert values == [one["critic/value_mean"] for one in after]
            else:
                assert values[0] == 0, "a head of zeros"


Found = tuple[list[dict[str, float]], dict[str, torch.Tensor], dict[str, torch.Tensor]]
"""Metrics of an iteration's updates, and the weights of policy and critic after them."""


def run_on_and_resumed(
    config: RunConfig, saved: Path, batches: Callable[[RunConfig, int], list[Batch]]
) -> tuple[Found, Found]:
    """An iteration, a checkpoint, and the next iteration: at once, and by a rank of its own."""
    with ranks.running(config) as trainer:
        iterate(trainer, batches(config, 0), config)
        trainer.save(saved)
        after = iterate(trainer, batches(config, 4), config)
        expected = after, weights(trainer), critic_weights(trainer)
    with ranks.running(config) as trainer:
        trainer.load(saved)
        again = iterate(trainer, batches(config, 4), config)
        return expected, (again, weights(trainer), critic_weights(trainer))


def assert_alike(one: Found, other: Found) -> None:
    for got, right in zip(one[1:], other[1:], strict=True):
        assert distance(got, right) == 0
    names = ("loss/total", "critic/loss", "critic/grad_norm", "policy/grad_norm")
    first, second = ([[m[n] for n in names] for m in metrics] for metrics, *_ in (one, other))
    assert first == second


def test_in_the_warm_up_the_policy_stands_still_and_makes_no_pass(model: Path, monkeypatch):
    config = valued_config(model, zero_stage=3)
    config = replace(config, critic=replace(config.critic, warmup_steps=3))
    exact = Exact(model, config)
    groups = walks.groups()
    passes = []
    original = step.logprobs_of
    monkeypatch.setattr(step, "logprobs_of", lambda *a, **k: passes.append(1) or original(*a, **k))
    with ranks.running(config) as trainer:
        before = weights(trainer)
        batches = batches_of(config)
        trainer.prepare(batches)
        exact.prepare(groups)
        for number, batch in enumerate(batches * 2):
            metrics = trainer.update(replace(batch, step=number))
            exact.step([groups[number % 2]])
            if number < 3:
                assert passes == []
                assert distance(before, weights(trainer)) == 0
                assert metrics["policy/lr"] == metrics["faults/skipped_steps"] == 0
                assert "loss/total" not in metrics
            assert metrics["critic/grad_norm"] > 0
            assert metrics["perf/tokens_per_s"] > 0
        assert passes
        assert metrics["policy/lr"] == config.optimizer.lr
        found = weights(trainer), critic_weights(trainer)
    for got, right in zip(found, exact.parameters(), strict=True):
        assert walks.relative_error(got, right) < PARAMETER_BOUND


@pytest.mark.parametrize(("broken", "stage"), [("policy", 0), ("critic", 0), ("critic", 3)])
def test_what_is_not_finite_skips_its_own_update_alone(
    model: Path, monkeypatch, broken: str, stage: int
):
    config = valued_config(model, zero_stage=stage, max_skipped_in_a_row=3)
    method = {"policy": "loss", "critic": "value_loss"}[broken]
    original = getattr(valued.Objective, method)

    def infinite(self, inputs) -> LossOutputs:
        outputs = original(self, inputs)
        return replace(outputs, loss=outputs.loss + math.inf)

    with ranks.running(config) as trainer:
        batch, *_ = batches = batches_of(config)
        trainer.prepare(batches)
        before = {"policy": weights(trainer), "critic": critic_weights(trainer)}
        with monkeypatch.context() as patched:
            patched.setattr(valued.Objective, method, infinite)
            metrics = trainer.update(batch)
            after = {"policy": weights(trainer), "critic": critic_weights(trainer)}
            trainer.update(batch)
            section = {"policy": r"lower optimizer\.lr", "critic": r"lower critic\.lr"}[broken]
            with pytest.raises(DivergedError, match=f"3 times .* {section}"):
                trainer.update(batch)
        sound = trainer.update(batch)
    moved = {name: distance(before[name], after[name]) > 0 for name in before}
    assert moved == {"policy": broken != "policy", "critic": broken != "critic"}
    assert metrics["faults/skipped_steps"] == (broken == "policy")
    assert metrics["critic/skipped"] == (broken == "critic")
    assert f"{broken}/grad_norm" not in metrics
    assert sound["critic/skipped"] == sound["faults/skipped_steps"] == 0


def test_a_loss_scale_of_its_own_lets_the_critic_overflow_alone(model: Path):
    config = valued_config(model, precision="fp16")
    with ranks.running(config) as trainer:
        assert trainer.critic is not None
        first, second = batches = batches_of(config)
        trainer.prepare(batches)
        trainer.update(first)  # under a head of zeros no gradient is half precision's
        trainer.critic.loss_scale.value = 2.0**60
        metrics = trainer.update(second)
        assert (metrics["critic/skipped"], metrics["faults/skipped_steps"]) == (1, 0)
        assert trainer.critic.loss_scale.value == 2.0**59
        assert trainer.engine.loss_scale.value == metrics["policy/loss_scale"] == 2.0**16


def test_a_critic_is_neither_published_nor_exported_and_weighs_nothing_where_none_is(
    model: Path, tmp_path: Path
):
    config = valued_config(model)
    plain = ranks.grpo_config(model)
    with ranks.running(config) as trainer:
        iterate(trainer, batches_of(config), config)
        published = export(trainer, 4)
        trainer.save(tmp_path / "with" / "trainer")
        trainer.save_model(tmp_path / "model")
        exported = json.loads((tmp_path / "model" / "config.json").read_text())
    with ranks.running(plain) as trainer:
        trainer.save(tmp_path / "without" / "trainer")
        assert trainer.critic is None
        assert [spec.name for spec in published.specs] == [
            spec.name for spec in export(trainer, 0).specs
        ]
        with pytest.raises(CheckpointError, match=r"'critic': True.*must be equal"):
            trainer.load(tmp_path / "with" / "trainer")
    assert exported["architectures"] == ["LlamaForCausalLM"]
    assert (tmp_path / "with" / "trainer" / "critic").is_dir()
    assert not (tmp_path / "without" / "trainer" / "critic").exists()
    for name, other, words in (
        ("with", plain, r"asks for no critic, but .* was saved with one"),
        ("without", config, r"asks for a critic, but .* was saved without one"),
    ):
        with pytest.raises(InputError, match=words):
            resuming._check_shape(tmp_path / name, other)


def test_an_objective_without_such_needs_makes_no_pass_before_its_update(model: Path, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("nobody asked for it")

    for name in ("logprobs_of", "values_of"):
        monkeypatch.setattr(preparation, name, forbidden)
    monkeypatch.setattr(step, "values_of", forbidden)
    with ranks.running(ranks.config_of(model)) as trainer:
        batch = make_batch(ranks.groups_to_train(), step=0, **ranks.LIMITS)
        assert trainer.prepare([batch]).keys() == {"time/prepare_s"}
        metrics = trainer.update(batch)
    assert not [name for name in metrics if name.startswith("critic/")]


def test_a_critic_may_start_from_another_model(model: Path, tmp_path: Path):
    other = make_model(tmp_path / "other", seed=5)
    config = valued_config(model)
    config = replace(config, critic=replace(config.critic, path=str(other)))
    with ranks.running(config) as trainer:
        found = critic_weights(trainer)
    plain = ExactCritic(other)
    assert distance(found, plain.state_dict()) < 1e-7
    assert float(found["head.weight"].abs().max()) == float(found["head.bias"]) == 0
