"""Group baselines and estimators that objectives share: numbers in, numbers out.

Invariants: no configuration, no device look-up, no state, and no library but NumPy at module level,
since the replay buffer imports this; what takes tensors works in their dtype and on their device
and carries the gradient. Shape letters: G rollouts of a group, N response tokens, B rollouts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def v_star(rewards: np.ndarray, beta1: float) -> float:
    """Estimate a prompt's value: beta1 * ln mean exp(r / beta1), float64, by logsumexp.

    The maximum is taken out first: exp(1 / 1e-3) overflows, and exp(-1 / 1e-3) is 0.

    Args:
        rewards: [G], of one prompt's rollouts, all of one version.
        beta1: Temperature in units of reward, above 0.

    Returns:
        Between the mean (beta1 to infinity) and the maximum (beta1 to 0) of the rewards.

    Source: OAPL, arXiv 2602.19362, Eq. 2.
    """
    values = np.asarray(rewards, dtype=np.float64)
    highest = values.max()
    excess = np.expm1((values - highest) / beta1).mean()  # in (-1, 0]
    return float(highest + beta1 * np.log1p(excess))


def segment_sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum what belongs together, such as the tokens of each rollout.

    Args:
        values: [N].
        index: int64 [N], the segment of each value, 0 to `count` - 1.
        count: B, the number of segments.

    Returns:
        [B] in the dtype of `values`; 0 where a segment has no value.
    """
    return values.new_zeros(count).index_add(0, index, values)


def kl_k1(difference: Tensor) -> Tensor:
    """Estimate KL(sampler || policy) per token as -d; unbiased, of either sign.

    Args:
        difference: [N], d = ln(policy) - ln(sampler) of tokens that the sampler drew, nats.

    Returns:
        [N], nats; the mean over tokens is the estimate.

    Source: J. Schulman, "Approximating KL Divergence" (2020).
    """
    return -difference


def kl_k2(difference: Tensor) -> Tensor:
    """Estimate KL(sampler || policy) per token as d^2 / 2; biased, never negative.

    Args:
        difference: [N], d as in `kl_k1`, nats.

    Returns:
        [N], nats.

    Source: as `kl_k1`.
    """
    return difference.square() / 2


def kl_k3(difference: Tensor) -> Tensor:
    """Estimate KL(sampler || policy) per token as exp(d) - 1 - d; unbiased, never negative.

    Args:
        difference: [N], d as in `kl_k1`, nats.

    Returns:
        [N], nats.

    Source: as `kl_k1`; `expm1` keeps small d exact.
    """
    return difference.expm1() - difference
