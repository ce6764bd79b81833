"""ReMix: Mix-PPG, V-trace and KL-Convex by hand, by finite differences, beside PPO and GRPO."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from oapl.config.objective import History
from oapl.errors import InputError
from oapl.estimators import on_last_token, vtrace_gae
from oapl.objectives import remix
from oapl.objectives.base import build
from oapl.records import LossInputs, TokenCredit
from tests.support.losses import inputs, slopes
from tests.support.makers import make_group

OWNER = [0, 0, 0, 1, 2, 2, 2, 2, 2]
INDEX = torch.tensor(OWNER)
CREDIT = [0.7, -1.1, 0.4]
CHANCE = np.random.default_rng(0)
POINT, PROXIMAL, REFERENCE, PREVIOUS, SAMPLER = (
    torch.tensor(CHANCE.normal(-2, 0.4, 9)) for _ in range(5)
)
VALUES, OLD_VALUES, ADVANTAGE = (torch.tensor(CHANCE.normal(0, 1, 9)) for _ in range(3))
ENTROPY = torch.tensor(CHANCE.uniform(0.1, 1, 9))
IS_HISTORY = torch.tensor([True, False, True])
BARE = {"kl_coefficient": 0.0, "entropy_coefficient": 0.0}
ON = ("ppo", "grpo")


def objective(**options):
    return build({"name": "remix", **options})


def given(logprobs: torch.Tensor, **more) -> LossInputs:
    fields = {
        "proximal": PROXIMAL,
        "reference": REFERENCE,
        "previous": PREVIOUS,
        "entropy": ENTROPY,
        "old_values": OLD_VALUES,
        "token_credit": TokenCredit(advantage=ADVANTAGE, returns=ADVANTAGE + OLD_VALUES),
        "is_history": IS_HISTORY,
    }
    return inputs(logprobs, SAMPLER.tolist(), OWNER, CREDIT, **{**fields, **more})


def loss_and_gradient(ours, **more):
    point = POINT.clone().requires_grad_()
    loss = ours.loss(given(point, **more)).loss
    loss.backward()
    return loss.item(), point.grad.tolist()


def same(one, other) -> bool:
    return one[0] == pytest.approx(other[0], rel=1e-9) and one[1] == pytest.approx(
        other[1], rel=1e-9, abs=1e-12
    )


def test_three_tokens_by_hand():
    # Rollout 0 is history with A = 1. Token 0: c = e^0.5 = 1.649, r = e^0.55 = 1.733 counts. Token
    # 1: c = e^-0.5 = 0.607, r = e^0 = 1 is cut at c + 0.2 = 0.807, where PPO's clip would let it
    # be. Rollout 1 is fresh with A = -2: c = 1, r = e^-0.5 counts as 0.8.
    logprobs = torch.tensor([-1.0, -2.0, -0.5], dtype=torch.float64, requires_grad=True)
    made = inputs(
        logprobs, [-1.55, -2.0, -9.0], [0, 0, 1], [1.0, -2.0],
        proximal=torch.tensor([-1.05, -2.5, 0.0], dtype=torch.float64),
        is_history=torch.tensor([True, False]),
    )  # fmt: skip
    outputs = objective(on="grpo", **BARE).loss(made)
    outputs.loss.backward()
    expected = -(math.exp(0.55) + math.exp(-0.5) + 0.2 - 2 * 0.8) / 3
    assert outputs.loss.item() == pytest.approx(expected)
    assert logprobs.grad.tolist() == pytest.approx([-math.exp(0.55) / 3, 0.0, 0.0])
    assert outputs.metrics["remix/clipped_rate"].tolist() == [0.0, 1.0, 1.0]
    assert outputs.metrics["remix/centre_*"].tolist() == pytest.approx(
        [math.exp(0.5), math.exp(-0.5)]
    )
    assert outputs.metrics["remix/history_rate"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize("options", [{}, {"eps_low": 0.1, "eps_high": 0.3, "dual_clip": 1.5}])
@pytest.mark.parametrize("share", [0.0, 0.4])
@pytest.mark.parametrize("on", ON)
def test_without_history_and_kl_it_is_what_it_is_on(on, share, options):
    fresh = {"is_history": torch.zeros(3, dtype=torch.bool)}
    options = {"entropy_coefficient": 0.1, "aggregation": "sequence", **options}
    ours = objective(on=on, share=share, kl_coefficient=0.0, **options)
    theirs = build({"name": on, **options})
    assert same(loss_and_gradient(ours, **fresh), loss_and_gradient(theirs, **fresh))
    group = make_group([1, 2, 3], rewards=[1.0, 0.0, 0.5])
    assert ours.credit(group).values.tolist() == theirs.credit(group).values.tolist()
    if on == "ppo":
        made = given(POINT, values=VALUES, **fresh)
        assert ours.value_loss(made).loss == theirs.value_loss(made).loss
        assert torch.equal(ours.token_credit(made).advantage, theirs.token_credit(made).advantage)
    if not share:
        assert ours.declares.needs == theirs.declares.needs
        assert ours.declares.min_group_size == theirs.declares.min_group_size


def test_history_of_the_present_policy_is_as_fresh():
    now = {"proximal": SAMPLER}
    ours = objective(on="grpo", **BARE)
    fresh = {"is_history": torch.zeros(3, dtype=torch.bool)}
    assert same(loss_and_gradient(ours, **now), loss_and_gradient(ours, **now, **fresh))
    assert not same(loss_and_gradient(ours), loss_and_gradient(ours, **fresh))


@pytest.mark.parametrize(
    "options",
    [
        {"on": "ppo"},
        {"on": "grpo"},
        {"on": "grpo", "kl_coefficient": 0.3, "kl_estimator": "k2", "lambda_delay": 0},
        {"on": "ppo", "kl_coefficient": 0.3, "lambda_delay": 0, "lambda_floor": 0.0},
        {"on": "ppo", "aggregation": "sequence", "dual_clip": 1.5},
    ],
)
def test_gradient_agrees_with_finite_differences(options):
    def loss(logprobs: torch.Tensor) -> torch.Tensor:
        return objective(**options).loss(given(logprobs, iteration=42)).loss

    _, gradient = loss_and_gradient(objective(**options), iteration=42)
    assert gradient == pytest.approx(slopes(loss, POINT), rel=1e-5, abs=1e-8)


def test_advantages_of_history_have_v_trace_and_fresh_ones_have_none():
    made = given(POINT)
    found = objective(gamma=0.9, lam=0.8, largest_weight=1.2).token_credit(made)
    weight = (PROXIMAL - SAMPLER).exp()
    weight[3] = 1.0  # of the fresh rollout
    expected = vtrace_gae(
        on_last_token(torch.tensor(CREDIT, dtype=torch.float64), INDEX), OLD_VALUES, weight, INDEX,
        gamma=0.9, lam=0.8, largest=1.2,
    )  # fmt: skip
    assert found.advantage.tolist() == pytest.approx(expected.tolist())
    assert found.returns.tolist() == pytest.approx((expected + OLD_VALUES).tolist())
    assert found.advantage[3].item() == pytest.approx(CREDIT[1] - OLD_VALUES[3].item())


@pytest.mark.parametrize(
    ("t", "expected"),
    [(1, 1.0), (50, 1.0), (51, 0.9), (60, 0.9), (61, 0.8), (90, 0.6), (91, 0.5), (500, 0.5)],
)
def test_the_weight_of_the_base_falls_as_published(t, expected):
    assert remix.base_weight(t, remix.Config()) == pytest.approx(expected)


@pytest.mark.parametrize(("iteration", "weight"), [(0, 1.0), (49, 1.0), (50, 0.9), (95, 0.5)])
def test_the_kl_is_from_the_base_and_from_the_previous_policy(iteration, weight):
    # k3 of d = -0.5 is e^-0.5 - 0.5, of d = 0.25 e^0.25 - 1.25.
    made = inputs(
        torch.tensor([-1.0], dtype=torch.float64), [-1.0], [0], [0.0],
        reference=torch.tensor([-1.5], dtype=torch.float64),
        previous=torch.tensor([-0.75], dtype=torch.float64),
        iteration=iteration,
    )  # fmt: skip
    outputs = objective(on="grpo", kl_coefficient=0.1, entropy_coefficient=0.0).loss(made)
    base, previous = math.exp(-0.5) - 0.5, math.exp(0.25) - 1.25
    expected = 0.1 * (weight * base + (1 - weight) * previous)
    assert outputs.loss.item() == pytest.approx(expected)
    assert outputs.metrics["remix/base_weight"].tolist() == pytest.approx([weight])
    assert outputs.metrics["policy/reference_kl"].tolist() == pytest.approx([base])
    assert outputs.metrics["policy/previous_kl"].tolist() == pytest.approx([previous])


def test_micro_batches_add_up_to_the_whole_batch():
    for on in ON:
        ours, parts = objective(on=on), []
        for rows, owner, rollouts in (
            (slice(0, 4), [0, 0, 0, 1], slice(0, 2)),
            (slice(4, 9), [0] * 5, slice(2, 3)),
        ):
            whole = given(POINT)
            parts.append(
                inputs(
                    POINT[rows], SAMPLER[rows].tolist(), owner, CREDIT[rollouts],
                    **{
                        name: getattr(whole, name)[rows]
                        for name in ("proximal", "reference", "previous", "entropy")
                    },
                    token_credit=TokenCredit(advantage=ADVANTAGE[rows]),
                    is_history=IS_HISTORY[rollouts], global_rollouts=3, global_tokens=9,
                )
            )  # fmt: skip
        total = sum(ours.loss(part).loss for part in parts).item()
        assert total == pytest.approx(ours.loss(given(POINT)).loss.item())


GRPO_NEEDS = {"entropy", "entropy_gradient", "proximal", "history", "reference", "previous"}
PPO_NEEDS = {*GRPO_NEEDS, "prepared", "token_credit", "values"}


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, PPO_NEEDS),
        ({"on": "grpo"}, GRPO_NEEDS),
        ({"lambda_floor": 1.0}, PPO_NEEDS - {"previous"}),
        ({"lambda_step": 0.0}, PPO_NEEDS - {"previous"}),
        ({"kl_coefficient": 0.0}, PPO_NEEDS - {"reference", "previous"}),
        ({"entropy_coefficient": 0.0}, PPO_NEEDS - {"entropy_gradient"}),
        ({"share": 0.0}, PPO_NEEDS - {"prepared"}),
        ({"share": 0.0, "until": 0}, PPO_NEEDS - {"prepared", "history"}),
        ({"share": 0.0, "on": "grpo", **BARE}, {"entropy", "proximal"}),
    ],
)
def test_it_asks_for_what_its_options_need_and_no_more(options, needs):
    declares = objective(**options).declares
    assert declares.needs == needs
    assert (declares.history is not None) == ("history" in needs)


def test_it_declares_its_history():
    declares = objective().declares
    assert declares.history == History(share=0.4, iterations=2, until=50)
    assert declares.needs_inference_logprobs
    assert declares.min_group_size == 1
    assert objective(on="grpo").declares.min_group_size == 2
    ours = objective(share=0.2, iterations=5, until=100).declares.history
    assert ours == History(share=0.2, iterations=5, until=100)


def test_history_is_compared_by_what_sampled_it():
    group = make_group([3])
    text = replace(group.group.rollouts[0], inference_logprobs=None)
    group = replace(group, group=replace(group.group, rollouts=(text,)))
    with pytest.raises(InputError, match=r"no inference log-probs, which objective\.share uses"):
        objective().credit(group)
    assert objective(share=0.0).credit(group).values.tolist() == group.rewards.tolist()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"share": 1.0}, r"objective\.share = 1\.0: must be below 1"),
        ({"share": -0.1}, r"objective\.share = -0\.1: must be at least 0"),
        ({"iterations": 0}, r"objective\.iterations = 0: must be at least 1 .*last so many"),
        ({"on": "sft"}, "must be one of ppo, grpo"),
        ({"on": "grpo", "gamma": 0.9}, r'gamma = 0\.9: belongs to on = "ppo"; leave gamma out'),
        ({"on": "grpo", "whiten": False}, 'whiten = false: belongs to on = "ppo"'),
        ({"on": "grpo", "largest_weight": 2.0}, 'belongs to on = "ppo"'),
        ({"uniform": "drop"}, 'uniform = "drop": belongs to on = "grpo"'),
        ({"share": 0.0, "iterations": 3}, "there is no history with share = 0"),
        ({"kl_coefficient": 0.0, "lambda_delay": 9}, "there is no KL with kl_coefficient = 0"),
        ({"share": 0.0, "until": 9, **BARE}, "no history ends and no base is kept"),
        ({"lambda_floor": 1.5}, r"objective\.lambda_floor = 1\.5: must be at most 1"),
        ({"ratio_to": "inference"}, "remix has no such option; leave it out, or choose"),
    ],
)
def test_options_that_cannot_work_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        objective(**options)


def test_defaults_are_the_papers():
    config = remix.Config()
    assert (config.share, config.iterations, config.until) == (0.4, 2, 50)
    assert (config.kl_coefficient, config.kl_estimator) == (0.001, "k3")
    assert (config.entropy_coefficient, config.largest_weight) == (0.001, 1.0)
    assert (config.eps_low, config.eps_high, config.lam, config.gamma) == (0.2, 0.2, 1.0, 1.0)
