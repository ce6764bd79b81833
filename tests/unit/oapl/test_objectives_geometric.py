"""PCL's loss: by hand, by finite differences, and its two forms beside each other."""

import math

import pytest
import torch

from oapl.config.objective import OBJECTIVES
from oapl.objectives.base import build
from tests.support.losses import inputs, slopes
from tests.support.makers import make_group

OWNER, SIGNS = [0, 0, 0, 1, 1, 2], [1.0, -1.0, 1.0]


def objective(**options):
    return build({"name": "geometric", **options})


def loss(logprobs: torch.Tensor, **options) -> torch.Tensor:
    return objective(**options).loss(inputs(logprobs, [-9.0] * 6, OWNER, SIGNS)).loss


def test_three_tokens_by_hand():
    # Rollout 0, right: tokens of ln 1/2 and ln 1/8, geometric mean 1/4. Rollout 1, wrong: 1/2.
    logprobs = torch.tensor([0.5, 0.125, 0.5]).log().requires_grad_()
    made = inputs(logprobs, [0.0] * 3, [0, 0, 1], [1.0, -1.0])
    outputs = objective().loss(made)
    outputs.loss.backward()
    assert outputs.loss.item() == pytest.approx((0.75 + 0.5) / 2)
    assert objective(normalised=False).loss(made).loss.item() == pytest.approx((-0.25 + 0.5) / 2)
    assert logprobs.grad.tolist() == pytest.approx([-0.25 / 4, -0.25 / 4, 0.5 / 2])
    assert outputs.metrics["geometric/probability_right"].tolist() == pytest.approx([0.25])
    assert outputs.metrics["geometric/probability_wrong"].tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("normalised", [True, False])
def test_both_forms_have_the_gradient_of_finite_differences(normalised):
    point = torch.tensor([-1.0, -0.3, -2.0, -0.7, -0.1, -1.5], dtype=torch.float64)
    at = point.clone().requires_grad_()
    loss(at, normalised=normalised).backward()
    plain = slopes(lambda x: loss(x, normalised=False), point)
    assert at.grad.tolist() == pytest.approx(plain, rel=1e-6, abs=1e-9)


def test_the_normalised_form_is_never_negative_and_zero_at_the_best():
    best = torch.tensor([0.0, 0.0, 0.0, -math.inf, -math.inf, 0.0])
    assert loss(best).item() == 0.0
    assert 0 <= loss(torch.full((6,), -0.7)).item() <= 1


def test_a_long_response_of_small_probabilities_does_not_vanish():
    logprobs = torch.full((4000,), -1.0)
    made = inputs(logprobs, [0.0] * 4000, [0] * 4000, [1.0])
    assert objective(normalised=False).loss(made).loss.item() == pytest.approx(-math.exp(-1))


def test_rewards_become_signs():
    group = make_group([1] * 4, rewards=[1.0, 0.0, -1.0, 0.5])
    assert objective().credit(group).values.tolist() == [1.0, -1.0, -1.0, 1.0]
    assert objective(threshold=0.5).credit(group).values.tolist() == [1.0, -1.0, -1.0, -1.0]


def test_it_compares_with_nothing_that_was_sampled():
    assert not objective().declares.at_temperature
    assert not objective().declares.needs_inference_logprobs


AT_ONE = [name for name in OBJECTIVES.names() if not OBJECTIVES.load(name).DECLARES.at_temperature]


@pytest.mark.parametrize("name", AT_ONE)
def test_log_probs_of_another_temperature_are_no_distance_from_what_sampled(name):
    entropy = torch.tensor([0.5] * 6)
    made = inputs(torch.full((6,), -1.0), [-9.0] * 6, OWNER, SIGNS, entropy=entropy)
    found = build({"name": name}).loss(made).metrics
    assert not {"policy/policy_kl", "policy/mismatch_kl", "policy/prob_ratio"} & found.keys()
    if "entropy" in OBJECTIVES.load(name).DECLARES.needs:
        assert found["policy/entropy"].tolist() == [0.5] * 6
