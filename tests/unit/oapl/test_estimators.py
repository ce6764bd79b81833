"""Baselines and estimators by hand, at their limits and by their properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oapl.estimators import kl_k1, kl_k2, kl_k3, segment_sum, v_star

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
