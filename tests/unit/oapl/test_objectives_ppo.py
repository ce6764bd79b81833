"""The PPO losses and credit: by hand, by finite differences, and beside GRPO."""

import math

import numpy as np
import pytest
import torch

from oapl.errors import InputError
from oapl.estimators import gae, kl_k1, on_last_token
from oapl.objectives import ppo
from oapl.objectives.base import build, shuffled
from oapl.records import LossInputs, TokenCredit
from tests.support.losses import inputs, slopes
from tests.support.makers import make_group

OWNER = [0, 0, 0, 1, 2, 2, 2, 2, 2]
INDEX = torch.tensor(OWNER)
REWARDS = [0.7, -1.1, 0.4]
CHANCE = np.random.default_rng(0)
POINT, PROXIMAL, REFERENCE = (torch.tensor(CHANCE.normal(-2, 0.4, 9)) for _ in range(3))
VALUES, OLD_VALUES, ADVANTAGE = (torch.tensor(CHANCE.normal(0, 1, 9)) for _ in range(3))
ENTROPY = torch.tensor(CHANCE.uniform(0.1, 1, 9))
PLAIN = {"whiten": False}


def objective(**options):
    return build({"name": "ppo", **options})


def given(logprobs: torch.Tensor, **more) -> LossInputs:
    fields = {
        "proximal": PROXIMAL,
        "reference": REFERENCE,
        "entropy": ENTROPY,
        "old_values": OLD_VALUES,
        "token_credit": TokenCredit(advantage=ADVANTAGE, returns=ADVANTAGE + OLD_VALUES),
    }
    return inputs(logprobs, [-9.0] * 9, OWNER, REWARDS, **{**fields, **more})


def loss_and_gradient(made: LossInputs | None = None, name: str = "ppo", **options):
    point = POINT.clone().requires_grad_()
    outputs = build({"name": name, **options}).loss(made(point) if made else given(point))
    outputs.loss.backward()
    return outputs.loss.item(), point.grad.tolist()


def test_three_tokens_by_hand():
    # Ratios e^0.1 (counts), e^0.5 (cut at 1.2), and e^-0.5, which counts as 0.8 with A = -2.
    # Loss: the mean of three tokens; only the first has a slope.
    logprobs = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    made = inputs(
        logprobs, [-9.0] * 3, [0, 0, 1], [1.0, 0.0],
        proximal=torch.tensor([-1.1, -2.5, 0.0], dtype=torch.float64),
        token_credit=TokenCredit(advantage=torch.tensor([1.0, 1.0, -2.0]).double()),
    )  # fmt: skip
    outputs = objective(**PLAIN).loss(made)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx(-(math.exp(0.1) + 1.2 - 1.6) / 3)
    assert logprobs.grad.tolist() == pytest.approx([-math.exp(0.1) / 3, 0.0, 0.0])
    assert outputs.metrics["ppo/clipped_rate"].tolist() == [0.0, 1.0, 1.0]


def test_three_values_by_hand():
    # Clip 0.5. Token 0 has not moved: error 1. Token 1 moved from 2 to 3, counts as 2.5: error
    # 1.5^2, larger than 1, without a slope. Token 2 moved by less: error 1.
    values = torch.tensor([1.0, 3.0, 0.0], requires_grad=True)
    made = inputs(
        torch.zeros(3), [0.0] * 3, [0, 0, 1], [1.0, 0.0],
        values=values,
        old_values=torch.tensor([1.0, 2.0, 0.25]),
        token_credit=TokenCredit(
            advantage=torch.zeros(3), returns=torch.tensor([0.0, 4.0, 1.0])
        ),
    )  # fmt: skip
    outputs = objective().value_loss(made)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx((1 + 2.25 + 1) / 2 / 3)
    assert values.grad.tolist() == pytest.approx([1 / 3, 0.0, -1 / 3])
    assert outputs.metrics["critic/clipped_rate"].tolist() == [0.0, 1.0, 0.0]
    assert outputs.metrics["critic/squared_error"].tolist() == [1.0, 1.0, 1.0]
    free = objective(value_clip=0.0, value_coefficient=0.5).value_loss(made)
    assert free.loss.item() == pytest.approx(0.5 * 3 / 2 / 3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        PLAIN,
        {"eps_low": 0.05, "eps_high": 0.3, "dual_clip": 1.5},
        {"aggregation": "sequence"},
        {"aggregation": "constant", "constant_tokens": 7},
        *({"kl_coefficient": 0.3, "kl_estimator": kind} for kind in ("k1", "k2", "k3")),
    ],
)
def test_gradient_agrees_with_finite_differences(options):
    whitened = {"token_credit_mean": 0.3, "token_credit_std": 1.7}

    def loss(logprobs: torch.Tensor) -> torch.Tensor:
        return objective(**options).loss(given(logprobs, **whitened)).loss

    _, gradient = loss_and_gradient(lambda point: given(point, **whitened), **options)
    assert gradient == pytest.approx(slopes(loss, POINT), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("options", [{}, {"value_clip": 0.0}, {"aggregation": "sequence"}])
def test_the_critics_gradient_agrees_with_finite_differences(options):
    def loss(values: torch.Tensor) -> torch.Tensor:
        return objective(**options).value_loss(given(POINT, values=values)).loss

    values = VALUES.clone().requires_grad_()
    loss(values).backward()
    assert values.grad.tolist() == pytest.approx(slopes(loss, VALUES), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize(
    "options",
    [
        {"aggregation": "sequence"},
        {"aggregation": "token", "dual_clip": 1.5},
        {"aggregation": "sequence", "kl_coefficient": 0.1, "entropy_coefficient": 0.2},
    ],
)
def test_with_equal_credit_per_token_it_is_grpo(options):
    credit = torch.tensor(REWARDS, dtype=torch.float64)[INDEX]
    made = lambda point: given(point, token_credit=TokenCredit(advantage=credit))  # noqa: E731
    ours = loss_and_gradient(made, **PLAIN, **options)
    theirs = loss_and_gradient(made, name="grpo", **options)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-12)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-12)


def test_whitening_takes_the_iterations_mean_and_spread():
    def white(point):
        credit = TokenCredit(advantage=(ADVANTAGE - 0.5) / (2.0 + 1e-6))
        return given(point, token_credit=credit)

    moved = {"token_credit_mean": 0.5, "token_credit_std": 2.0}
    ours = loss_and_gradient(lambda point: given(point, **moved))
    theirs = loss_and_gradient(white, **PLAIN)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-12)
    assert ours[1] == pytest.approx(theirs[1], rel=1e-12)


def test_the_reward_is_the_credit_and_becomes_advantages_and_returns():
    group = make_group([3, 1, 5], rewards=REWARDS)
    assert objective().credit(group).values.tolist() == pytest.approx(REWARDS)
    assert objective().declares.min_group_size == 1
    made = given(POINT)
    found = objective().token_credit(made)
    reward = torch.tensor(REWARDS, dtype=torch.float64)[INDEX]
    assert found.advantage.tolist() == pytest.approx((reward - OLD_VALUES).tolist())
    assert found.returns.tolist() == pytest.approx(reward.tolist())
    options = {"gamma": 0.9, "lam": 0.7}
    discounted = objective(**options).token_credit(made).advantage
    rewards = on_last_token(torch.tensor(REWARDS, dtype=torch.float64), INDEX)
    assert torch.equal(discounted, gae(rewards, OLD_VALUES, INDEX, **options))


def test_a_kl_in_the_reward_is_off_each_token_and_not_in_the_loss():
    options = {"kl_coefficient": 0.1, "kl_in": "reward", "kl_estimator": "k1"}
    found = objective(**options).token_credit(given(POINT))
    rewards = on_last_token(torch.tensor(REWARDS, dtype=torch.float64), INDEX)
    rewards = rewards - 0.1 * kl_k1(REFERENCE - PROXIMAL)
    expected = gae(rewards, OLD_VALUES, INDEX, gamma=1.0, lam=1.0)
    assert found.advantage.tolist() == pytest.approx(expected.tolist())
    assert loss_and_gradient(**options) == loss_and_gradient()


def test_credit_per_token_goes_by_the_shuffled_rewards():
    control = shuffled(objective(), seed=5)
    assert torch.equal(
        control.token_credit(given(POINT)).advantage,
        objective().token_credit(given(POINT)).advantage,
    )
    values = given(POINT, values=VALUES)
    assert control.value_loss(values).loss == objective().value_loss(values).loss
    true = {"reward": torch.tensor([9.0, 9.0, 9.0])}
    assert torch.equal(
        control.token_credit(given(POINT, **true)).advantage,
        control.token_credit(given(POINT)).advantage,
    )


def test_micro_batches_add_up_to_the_whole_batch():
    parts = []
    for rows, owner, credit in (
        (slice(0, 4), [0, 0, 0, 1], REWARDS[:2]),
        (slice(4, 9), [0] * 5, REWARDS[2:]),
    ):
        share = TokenCredit(advantage=ADVANTAGE[rows], returns=(ADVANTAGE + OLD_VALUES)[rows])
        parts.append(
            inputs(
                POINT[rows], [-9.0] * len(owner), owner, credit,
                proximal=PROXIMAL[rows], values=VALUES[rows], old_values=OLD_VALUES[rows],
                token_credit=share, global_rollouts=3, global_tokens=9,
            )
        )  # fmt: skip
    whole = given(POINT, values=VALUES)
    for aggregation in ("token", "sequence"):
        ours = objective(aggregation=aggregation)
        assert sum(ours.loss(part).loss for part in parts).item() == pytest.approx(
            ours.loss(whole).loss.item()
        )
        assert sum(ours.value_loss(part).loss for part in parts).item() == pytest.approx(
            ours.value_loss(whole).loss.item()
        )


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, set()),
        ({"entropy_coefficient": 0.1}, {"entropy_gradient"}),
        ({"entropy_coefficient": 0.1, "entropy_target": 0.3}, {"entropy_gradient", "state"}),
        ({"kl_coefficient": 0.1}, {"reference"}),
        ({"kl_coefficient": 0.1, "kl_in": "reward"}, {"reference", "prepared"}),
    ],
)
def test_it_asks_for_what_its_options_need_and_no_more(options, more):
    always = {"entropy", "proximal", "token_credit", "values"}
    assert objective(**options).declares.needs == always | more


def test_adaptive_entropy_is_on_below_its_target_and_resumes_so():
    adaptive = objective(entropy_coefficient=0.1, entropy_target=0.4)
    plain = objective().loss(given(POINT)).loss.item()
    assert adaptive.loss(given(POINT)).loss.item() == pytest.approx(plain)
    adaptive.observe({"policy/entropy": 0.3})
    again = objective(entropy_coefficient=0.1, entropy_target=0.4)
    again.restore(adaptive.state())
    expected = plain - 0.1 * ENTROPY.mean().item()
    assert again.loss(given(POINT)).loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kl_in": "reward"}, "there is no KL penalty with kl_coefficient = 0"),
        ({"kl_estimator": "k1"}, "set kl_coefficient"),
        ({"gamma": 1.5}, "objective.gamma = 1.5: must be at most 1"),
        ({"aggregation": "constant"}, "constant_tokens = 0"),
        ({"entropy_target": 0.3}, "set entropy_coefficient"),
        ({"baseline": "mean"}, "objective.baseline: ppo has no such option: its advantages come"),
    ],
)
def test_options_that_cannot_work_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        objective(**options)


def test_defaults_are_the_papers():
    config = ppo.Config()
    assert (config.lam, config.gamma, config.eps_low, config.eps_high) == (1.0, 1.0, 0.2, 0.2)
