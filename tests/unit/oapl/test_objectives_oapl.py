"""The OAPL loss and credit, the shuffled control and imitation, by hand and by their properties."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from oapl.errors import InputError
from oapl.objectives import oapl, sft
from oapl.objectives.base import build, shuffled
from tests.support.losses import inputs, slopes
from tests.support.makers import make_group


def objective(beta1: float = 1.0, beta2: float = 0.5) -> oapl.Objective:
    return oapl.Objective(oapl.Config(beta1=beta1, beta2=beta2))


def test_three_tokens_by_hand():
    # Rollout 0 has tokens 0 and 1: log-ratio (-1 + 2) + (-2 + 1.5) = 0.5.
    # Rollout 1 has token 2: log-ratio -0.5 + 2.5 = 2.
    # Residuals, beta2 = 0.5: 0.25 - 0.75 = -0.5 and 1 - (-0.25) = 1.25.
    # Loss: (0.25 + 1.5625) / 2 = 0.90625. Slope by token: 2 * 0.5 * residual / 2.
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    given_ = inputs(logprobs, [-2.0, -1.5, -2.5], [0, 0, 1], [0.75, -0.25])
    outputs = objective().loss(given_)
    outputs.loss.backward()
    assert outputs.loss.item() == 0.90625
    assert logprobs.grad.tolist() == [-0.25, -0.25, 0.625]
    assert outputs.metrics["oapl/residual_*"].tolist() == [-0.5, 1.25]
    assert outputs.metrics["oapl/sequence_log_ratio_*"].tolist() == [0.5, 2.0]
    assert outputs.metrics["oapl/advantage_positive"].tolist() == [0.75]
    assert outputs.metrics["oapl/advantage_nonpositive"].tolist() == [-0.25]
    expected = [math.exp(abs(d)) for d in (1.0, -0.5, 2.0)]
    assert outputs.metrics["policy/prob_ratio"].tolist() == pytest.approx(expected)


def test_kl_is_policy_kl_under_lag_and_mismatch_kl_without():
    logprobs = torch.tensor([-1.0, -2.0])
    lag = torch.tensor([0, 5])
    metrics = objective().loss(inputs(logprobs, [-1.5, -2.25], [0, 1], [0, 0], lag=lag)).metrics
    k3 = [math.exp(d) - 1 - d for d in (0.5, 0.25)]
    assert metrics["policy/mismatch_kl"].tolist() == pytest.approx(k3[:1])
    assert metrics["policy/policy_kl"].tolist() == pytest.approx(k3[1:])


def test_gradient_agrees_with_finite_differences():
    chance = np.random.default_rng(0)
    point = torch.tensor(chance.normal(-2, 1, 9), requires_grad=True)
    owner, credit = [0, 0, 0, 1, 2, 2, 2, 2, 2], [0.3, -0.6, 0.1]

    def loss(logprobs: torch.Tensor) -> torch.Tensor:
        return objective(beta2=0.07).loss(inputs(logprobs, [-2.0] * 9, owner, credit)).loss

    loss(point).backward()
    assert point.grad.tolist() == pytest.approx(slopes(loss, point.detach()), rel=1e-6, abs=1e-9)


def test_micro_batches_add_up_to_the_whole_batch():
    logprobs = torch.tensor([-1.0, -2.0, -0.5])
    whole = objective().loss(inputs(logprobs, [-2.0, -1.5, -2.5], [0, 0, 1], [0.75, -0.25])).loss
    parts = [
        inputs(logprobs[:2], [-2.0, -1.5], [0, 0], [0.75], global_rollouts=2),
        inputs(logprobs[2:], [-2.5], [0], [-0.25], global_rollouts=2),
    ]
    assert sum(objective().loss(part).loss for part in parts) == whole


def test_at_the_sampling_policy_descent_goes_along_reward_minus_mean():
    # Requirement 5: pi = pi_vllm, beta1 to infinity: -gradient = 2 beta2 (r - mean r) / B.
    group = make_group([1, 1, 1, 1], rewards=[1.0, 0.0, 0.0, 2.0])
    credit = objective(beta1=1e6).credit(group).values
    logprobs = torch.full((4,), -1.3, requires_grad=True)
    objective(beta2=0.5).loss(
        inputs(logprobs, [-1.3] * 4, [0, 1, 2, 3], credit.tolist())
    ).loss.backward()
    centred = group.rewards - group.rewards.mean()
    assert (-logprobs.grad).numpy() == pytest.approx(2 * 0.5 * centred / 4, abs=1e-6)


def test_at_the_sampling_policy_it_descends_as_reinforce_with_the_mean_does():
    group = make_group([1, 1, 1, 1], rewards=[1.0, 0.0, 0.0, 2.0])
    switches = {"clip": "none", "scale": "none", "aggregation": "constant", "constant_tokens": 1}
    ours, theirs = objective(beta1=1e6, beta2=0.05), build({"name": "grpo", **switches})
    gradients = []
    for one in (ours, theirs):
        logprobs = torch.full((7,), -1.3, requires_grad=True)
        credit = one.credit(group).values.tolist()
        one.loss(inputs(logprobs, [-1.3] * 7, [0, 0, 1, 2, 2, 2, 3], credit)).loss.backward()
        gradients.append(logprobs.grad)
    assert gradients[0].tolist() == pytest.approx((2 * 0.05 * gradients[1]).tolist(), abs=1e-7)
    assert gradients[1].abs().max() > 0.1


@pytest.mark.parametrize("counts", [(1, 1, 1, 1), (1, 2, 3, 14), (9, 1, 1, 1)])
def test_minimum_is_the_tilted_sampler_for_any_sampling_of_full_support(counts: tuple[int, ...]):
    # Requirement 6: four responses of one token; the group represents pi_vllm exactly, `counts` is
    # what is trained on.
    beta, sampler, reward = 0.4, np.array([4, 3, 2, 1]) / 10, np.array([0.0, 1.0, 0.5, -1.0])
    group = make_group([1] * 10, rewards=np.repeat(reward, [4, 3, 2, 1]).tolist())
    value = objective(beta1=beta).credit(group).metrics["oapl/v_star_*"]
    trained = np.repeat(np.arange(4), counts)
    logits = torch.tensor([0.3, -1.0, 0.2, 0.7], dtype=torch.float64, requires_grad=True)
    minimiser = torch.optim.LBFGS(
        [logits], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> torch.Tensor:
        minimiser.zero_grad()
        given_ = inputs(
            logits.log_softmax(0)[trained],
            np.log(sampler)[trained].tolist(),
            list(range(len(trained))),
            (reward - value)[trained].tolist(),
        )
        loss = objective(beta2=beta).loss(given_).loss
        loss.backward()
        return loss

    minimiser.step(closure)
    tilted = sampler * np.exp(reward / beta)
    assert logits.softmax(0).detach().numpy() == pytest.approx(tilted / tilted.sum(), abs=1e-7)
    assert closure().item() == pytest.approx(0, abs=1e-12)


def test_a_lone_rollout_is_compared_with_the_v_star_that_its_prompt_brings():
    given = build({"name": "oapl", "baseline": "column"})
    assert (given.declares.min_group_size, objective().declares.min_group_size) == (1, 2)
    lone = make_group([1], rewards=[1.0])

    def brings(**columns):
        prompt = replace(lone.group.prompt, reference=columns)
        return replace(lone, group=replace(lone.group, prompt=prompt))

    credit = given.credit(brings(v_star=0.25))
    assert credit.values.tolist() == [0.75]
    assert credit.metrics == {"oapl/v_star_*": 0.25}
    for columns in ({}, {"v_star": "0.25"}, {"v_star": True}, {"v_star": math.nan}):
        with pytest.raises(InputError, match=r"v_star = .*objective.baseline = .*give it"):
            given.credit(brings(**columns))


def test_the_ablations_compare_with_the_mean_and_with_the_learners_own_anchor():
    group = make_group([1, 1], rewards=[1.0, 0.0])
    assert build({"name": "oapl", "baseline": "mean"}).credit(group).values.tolist() == [0.5, -0.5]
    ablated = build({"name": "oapl", "beta2": 0.5, "anchor": "sampler"})
    assert ablated.declares.needs == {"entropy", "sampler"}
    assert objective().declares.needs == {"entropy"}
    logprobs, sampler = torch.tensor([-1.0, -2.0, -0.5]), torch.tensor([-2.0, -1.5, -2.5])
    owner, credit = [0, 0, 1], [0.75, -0.25]
    theirs = ablated.loss(inputs(logprobs, [-9.0] * 3, owner, credit, sampler=sampler)).loss
    assert theirs == objective().loss(inputs(logprobs, sampler.tolist(), owner, credit)).loss


BOUNDS = (0.5, 2.0)
"""Of ratios; ln 2 is 0.693."""


@pytest.mark.parametrize(
    ("outside", "log_ratio", "slopes_", "rate"),
    [
        ("clip", [math.log(2), 0.5, -0.25], [0, 1, 1], [1.0, 0.0, 0.0]),
        ("token", [0.0, 0.5, -0.25], [0, 1, 1], [1.0, 0.0, 0.0]),
        ("rollout", [0.0, 0.0, -0.25], [0, 0, 1], [1.0, 0.0]),
    ],
)
def test_a_ratio_outside_its_bounds_is_cut_or_taken_out(outside, log_ratio, slopes_, rate):
    # Log-ratios 1 and 0.5 of rollout 0, of mean 0.75, and -0.25 of rollout 1; beta2 = 0.5.
    ours = build({"name": "oapl", "beta2": 0.5, "ratio_bounds": BOUNDS, "outside": outside})
    logprobs = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    outputs = ours.loss(inputs(logprobs, [-2.0, -2.5, -0.25], [0, 0, 1], [0.5, -0.25]))
    outputs.loss.backward()
    is_out = outside == "rollout"
    residuals = [
        0.0 if is_out else 0.5 * (log_ratio[0] + log_ratio[1]) - 0.5,
        0.5 * log_ratio[2] + 0.25,
    ]
    assert outputs.loss.item() == pytest.approx(sum(r**2 for r in residuals) / 2)
    expected = [0.5 * r * s for r, s in zip((residuals[0], *residuals), slopes_, strict=True)]
    assert logprobs.grad.tolist() == pytest.approx(expected)
    assert outputs.metrics["oapl/outside_rate"].tolist() == rate


def test_a_long_rollout_is_left_out_by_its_mean_and_not_by_its_sum():
    ours = build({"name": "oapl", "ratio_bounds": BOUNDS, "outside": "rollout"})
    made = inputs(torch.tensor([-1.0, -1.0]), [-1.5, -1.5], [0, 0], [0.0])
    assert ours.loss(made).metrics["oapl/outside_rate"].tolist() == [0.0]


@pytest.mark.parametrize("outside", ["clip", "token", "rollout"])
def test_bounds_that_nothing_is_outside_of_change_nothing(outside):
    logprobs = torch.tensor([-1.0, -2.0, -0.5])
    given_ = inputs(logprobs, [-2.0, -1.5, -2.5], [0, 0, 1], [0.75, -0.25])
    wide = build({"name": "oapl", "ratio_bounds": (0.0, 1e9), "outside": outside})
    assert wide.loss(given_).loss == build({"name": "oapl"}).loss(given_).loss
    assert "oapl/outside_rate" not in objective().loss(given_).metrics


def test_a_group_of_equal_rewards_is_kept_with_credit_zero():
    credit = objective().credit(make_group([3, 5], rewards=[1.0, 1.0]))
    assert credit.dropped is None
    assert credit.values.tolist() == [0.0, 0.0]


def test_credit_refuses_rollouts_that_nobody_sampled():
    group = make_group([3])
    text = replace(group.group.rollouts[0], inference_logprobs=None)
    group = replace(group, group=replace(group.group, rollouts=(text,)))
    with pytest.raises(InputError, match="test:0@0: a rollout has no inference log-probs"):
        objective().credit(group)


def test_shuffled_permutes_rewards_within_the_group_and_leaves_the_stored_ones():
    group = make_group([1] * 8, rewards=[0, 1, 2, 3, 4, 5, 6, 7])
    control = shuffled(objective(), seed=5)
    first, again = control.credit(group), shuffled(objective(), seed=5).credit(group)
    assert first.values.tolist() == again.values.tolist()
    truth = objective().credit(group)
    assert sorted(first.values) == sorted(truth.values)
    assert first.values.tolist() != truth.values.tolist()
    assert group.rewards.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_shuffled_takes_another_order_for_another_seed_prompt_or_attempt():
    group = make_group([1] * 8, rewards=[0, 1, 2, 3, 4, 5, 6, 7])
    prompts = [
        group.group.prompt,
        replace(group.group.prompt, attempt=1),
        replace(group.group.prompt, id="test:0@1"),
    ]
    orders = {
        tuple(
            shuffled(objective(), seed)
            .credit(replace(group, group=replace(group.group, prompt=prompt)))
            .values
        )
        for prompt in prompts
        for seed in (0, 1)
    }
    assert len(orders) == 6


def test_sft_is_the_mean_over_the_tokens_of_the_global_batch():
    # 1 + 2 + 0.5 nats over 7 tokens, of which 4 are elsewhere.
    logprobs = torch.tensor([-1.0, -2.0, -0.5], requires_grad=True)
    outputs = sft.Objective(sft.Config()).loss(
        inputs(logprobs, [0, 0, 0], [0, 0, 1], [1, 1], global_tokens=7)
    )
    outputs.loss.backward()
    assert outputs.loss.item() == 0.5
    assert logprobs.grad.tolist() == pytest.approx([-1 / 7] * 3)
    assert outputs.metrics["loss/nll"].tolist() == [1.0, 2.0, 0.5]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "opal"}, "did you mean 'oapl'"),
        ({"name": "oapl", "beta3": 1.0}, "beta3"),
        ({"name": "oapl", "beta1": -1.0}, "objective.beta1 = -1.0"),
        ({"name": "sft", "beta1": 1.0}, "beta1"),
        ({"anchor": "reference"}, r"A\*-PO .* set anchor = \"inference\" and sync.interval ="),
        ({"ratio_bounds": (1.5, 2.0)}, r"ratio_bounds = \[1.5, 2\]: must hold 1"),
        ({"ratio_bounds": (0.5, 0.0)}, "0 as the largest is off"),
        ({"outside": "token"}, "no ratio is outside without ratio_bounds"),
    ],
)
def test_build_refuses_options_that_cannot_work(options: dict, words: str):
    with pytest.raises(InputError, match=words):
        build(options)


def test_defaults_are_the_papers():
    assert (oapl.Config().beta1, oapl.Config().beta2) == (1.0, 1e-3)
