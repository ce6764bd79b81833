"""Baselines and estimators by hand, at their limits and by their properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oapl.estimators import (
    clipped_surrogate,
    gae,
    kl_k1,
    kl_k2,
    kl_k3,
    on_last_token,
    segment_sum,
    v_star,
    vtrace_gae,
)

rewards = st.lists(st.floats(-3, 3), min_size=1, max_size=16)


def test_v_star_by_hand():
    # ln((e^1 + e^0) / 2) = 0.6201145...
    assert v_star(np.array([1.0, 0.0]), 1.0) == pytest.approx(math.log((math.e + 1) / 2))


@pytest.mark.parametrize("beta1", [1e-3, 1e-2])
def test_v_star_neither_overflows_nor_underflows(beta1: float):
    # One of four is right: max + beta1 ln(1/4).
    expected = beta1 * math.log(1 / 4)
    assert v_star(np.array([1, 0, 0, 0]), beta1) == pytest.approx(1 + expected, abs=1e-12)
    assert v_star(np.array([-1, -9, -9, -9]), beta1) == pytest.approx(-1 + expected, abs=1e-12)


@given(rewards)
def test_v_star_tends_to_the_maximum_and_to_the_mean(values: list[float]):
    assert v_star(np.array(values), 1e-6) == pytest.approx(max(values), abs=1e-4)
    assert v_star(np.array(values), 1e8) == pytest.approx(np.mean(values), abs=1e-6)


@given(rewards, st.floats(1e-3, 100), st.floats(-5, 5))
def test_v_star_lies_between_mean_and_maximum_and_moves_with_the_rewards(
    values: list[float], beta1: float, shift: float
):
    value = v_star(np.array(values), beta1)
    assert np.mean(values) - 1e-9 <= value <= max(values) + 1e-9
    assert v_star(np.array(values) + shift, beta1) == pytest.approx(value + shift, abs=1e-9)
    assert v_star(np.array(values)[::-1], beta1) == pytest.approx(value, abs=1e-12)
    doubled = v_star(2 * np.array(values), 2 * beta1)
    assert doubled == pytest.approx(2 * value, abs=1e-9)


def test_segment_sum_by_hand():
    values = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    sums = segment_sum(values, torch.tensor([2, 0, 2, 0]), 3)
    assert sums.tolist() == [10.0, 0.0, 5.0]
    (sums * torch.tensor([3.0, 5.0, 7.0])).sum().backward()
    assert values.grad.tolist() == [7.0, 3.0, 7.0, 3.0]


def test_kl_estimators_by_hand_and_in_the_mean():
    difference = torch.tensor([0.5, -0.5])
    assert kl_k1(difference).tolist() == [-0.5, 0.5]
    assert kl_k2(difference).tolist() == [0.125, 0.125]
    expected = [math.exp(0.5) - 1.5, math.exp(-0.5) - 0.5]
    assert kl_k3(difference).tolist() == pytest.approx(expected)
    # Over the whole sampler distribution k1 and k3 give KL(sampler || model) exactly.
    sampler, model = torch.tensor([0.2, 0.8]).double(), torch.tensor([0.5, 0.5]).double()
    difference = (model / sampler).log()
    exact = (sampler * (sampler / model).log()).sum()
    assert (sampler * kl_k1(difference)).sum().item() == pytest.approx(exact.item())
    assert (sampler * kl_k3(difference)).sum().item() == pytest.approx(exact.item())


OWNER = torch.tensor([2, 2, 2, 0, 1, 1, 1, 1, 1, 3, 3])
"""Rollouts in any order, one of a single token."""


def one_token_after_the_other(rewards, values, weight, *, gamma, lam, largest):
    """The recursion as the paper writes it, from the last token on."""
    found, behind, value_behind = [0.0] * len(values), 0.0, 0.0
    for t in reversed(range(len(values))):
        if t + 1 == len(values) or OWNER[t] != OWNER[t + 1]:
            behind = value_behind = 0.0
        rho = min(float(weight[t]), largest)
        delta = float(rewards[t]) + gamma * value_behind - float(values[t])
        found[t] = rho * delta + gamma * lam * rho * behind
        behind, value_behind = found[t], float(values[t])
    return found


def test_the_reward_stands_on_the_last_token():
    rewards = on_last_token(torch.tensor([1.0, 2.0, 3.0, 4.0]), OWNER)
    assert rewards.tolist() == [0, 0, 3, 1, 0, 0, 0, 0, 2, 0, 4]


def test_advantages_of_three_tokens_by_hand():
    # gamma = lam = 1/2. Rollout 0: delta_1 = 1 - 2 = -1, delta_0 = 1 + 2/2 - 1 = 1,
    # A_0 = 1 - 1/4. Rollout 1: 2 - 4. With rho = 1/2 on token 0 and 4, cut to 1, on token 1:
    # A_0 = 1/2 - 1/8.
    rewards, values = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 4.0])
    weight, owner = torch.tensor([0.5, 4.0, 1.0]), torch.tensor([0, 0, 1])
    assert gae(rewards, values, owner, gamma=0.5, lam=0.5).tolist() == [0.75, -1.0, -2.0]
    corrected = vtrace_gae(rewards, values, weight, owner, gamma=0.5, lam=0.5)
    assert corrected.tolist() == [0.375, -1.0, -2.0]
    beyond = vtrace_gae(rewards, values, weight, owner, gamma=0.5, lam=0.5, largest=2.0)
    assert beyond.tolist() == [0.5 - 0.25, -2.0, -2.0]


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.2, 3), st.integers(0, 1000))
def test_advantages_are_those_of_the_recursion(gamma, lam, largest, seed):
    chance = torch.Generator().manual_seed(seed)
    rewards, values, weight = torch.rand(3, len(OWNER), generator=chance, dtype=torch.float64) * 2
    options = {"gamma": gamma, "lam": lam}
    ours = vtrace_gae(rewards, values, weight, OWNER, **options, largest=largest)
    theirs = one_token_after_the_other(rewards, values, weight, **options, largest=largest)
    assert ours.tolist() == pytest.approx(theirs, abs=1e-12)
    ones = torch.ones_like(weight)
    plain = one_token_after_the_other(rewards, values, ones, **options, largest=1.0)
    assert gae(rewards, values, OWNER, **options).tolist() == pytest.approx(plain, abs=1e-12)
    unweighted = vtrace_gae(rewards, values, ones, OWNER, **options)
    assert torch.equal(unweighted, gae(rewards, values, OWNER, **options))


def test_without_discount_an_advantage_is_the_reward_less_the_value():
    reward, values = torch.tensor([1.0, -2.0, 0.5, 3.0]), torch.linspace(-1, 1, len(OWNER))
    found = gae(on_last_token(reward, OWNER), values, OWNER, gamma=1.0, lam=1.0)
    assert found.tolist() == pytest.approx((reward[OWNER] - values).tolist(), abs=1e-6)
    assert found.dtype == torch.float32


def test_a_long_rollout_keeps_its_last_reward():
    owner = torch.zeros(32768, dtype=torch.long)
    rewards = on_last_token(torch.tensor([1.0]), owner)
    found = gae(rewards, torch.zeros(32768), owner, gamma=1.0, lam=1.0)
    assert found.min() == found.max() == 1.0


def test_a_ratio_is_bounded_around_its_centre():
    # Centre 1.5, so the ratio counts from 1.2 to 1.8: 1.9 is cut where A > 0, 1.0 where A < 0.
    ratio = torch.tensor([1.9, 1.9, 1.0, 1.0, 1.6], requires_grad=True)
    advantage, centre = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0]), torch.full((5,), 1.5)
    found, is_clipped = clipped_surrogate(ratio, advantage, low=0.3, high=0.3, centre=centre)
    assert found.tolist() == pytest.approx([1.8, -1.9, 1.0, -1.2, 1.6])
    assert is_clipped.tolist() == [True, False, False, True, False]
    found.sum().backward()
    assert ratio.grad.tolist() == [0.0, -1.0, 1.0, 0.0, 1.0]
    ones = torch.ones(5)
    plain = clipped_surrogate(ratio, advantage, low=0.3, high=0.3)
    around = clipped_surrogate(ratio, advantage, low=0.3, high=0.3, centre=ones)
    assert around[0].tolist() == pytest.approx(plain[0].tolist())
    assert around[1].tolist() == plain[1].tolist()
