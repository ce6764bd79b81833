"""Group baselines and estimators that objectives share: numbers in, numbers out.

Invariants: no configuration, no device look-up, no state, and no library but NumPy at module level,
since the replay buffer imports this; what takes tensors works in their dtype and on their device
and carries the gradient. Shape letters: G rollouts of a group, N response tokens, B rollouts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

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


def group_baseline(
    rewards: np.ndarray, kind: Literal["mean", "leave_one_out", "none"]
) -> np.ndarray:
    """Give each rollout of a group what its reward is compared with.

    Args:
        rewards: [G], of one prompt's rollouts; G above 1 for `leave_one_out`.
        kind: The group's mean, the mean of the other rollouts, or 0.

    Returns:
        float64 [G].

    Source: GRPO, arXiv 2402.03300, section 4.1; leave-one-out: RLOO, arXiv 2402.14740, section 3.
    """
    values = np.asarray(rewards, dtype=np.float64)
    if kind == "none":
        return np.zeros_like(values)
    if kind == "mean":
        return np.full_like(values, values.mean())
    return (values.sum() - values) / (len(values) - 1)


def group_std(rewards: np.ndarray) -> float:
    """Estimate the spread of a group's rewards with n - 1; 0 of a single one.

    Args:
        rewards: [G].
    """
    values = np.asarray(rewards, dtype=np.float64)
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0


def clipped_surrogate(
    ratio: Tensor,
    advantage: Tensor,
    *,
    low: float,
    high: float,
    dual: float = 0.0,
    centre: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Take PPO's pessimistic surrogate, to be maximised.

    Args:
        ratio: [N], policy over the policy that it is compared with; carries the gradient.
        advantage: [N].
        low, high: The ratio counts within centre - low and centre + high.
        dual: Where the advantage is negative the surrogate is at least so many times it, which
            bounds the push of a large ratio; 0 is off, else above 1.
        centre: [N], without gradient: what the ratio was before the first update, where the policy
            is compared with an older one; None means 1.

    Returns:
        The surrogate [N], and bool [N] where a bound took the gradient away.

    Source: PPO, arXiv 1707.06347, Eq. 7; two bounds: DAPO, arXiv 2503.14476, Eq. 10; dual clip:
    arXiv 1912.09729, Eq. 5; centre: generalised PPO, arXiv 2111.00072, as ReMix takes it
    (arXiv 2507.06892, Eq. 4).
    """
    plain = ratio * advantage
    if centre is None:
        inside = ratio.clamp(1 - low, 1 + high)
    else:
        inside = ratio.clamp(centre - low, centre + high)
    bounded = inside * advantage
    surrogate, is_clipped = plain.minimum(bounded), bounded < plain
    if dual:
        floor = dual * advantage
        is_floored = (advantage < 0) & (surrogate < floor)
        surrogate, is_clipped = surrogate.where(~is_floored, floor), is_clipped | is_floored
    return surrogate, is_clipped


def on_last_token(rewards: Tensor, index: Tensor) -> Tensor:
    """Put the reward of each rollout on its last token, and 0 on the others.

    Args:
        rewards: [B].
        index: As in `gae`.

    Returns:
        [N] in the dtype of `rewards`.
    """
    return rewards[index] * ~_is_followed(index)


def gae(rewards: Tensor, values: Tensor, index: Tensor, *, gamma: float, lam: float) -> Tensor:
    """Estimate the advantage of each token from rewards and values behind it.

        delta_t = r_t + gamma V_(t+1) - V_t;  A_t = delta_t + gamma lam A_(t+1)

    Behind the last token of a rollout both are 0, also where it was cut off. With gamma = lam = 1
    an advantage is the sum of rewards from its token on, less the token's value.

    Args:
        rewards: [N], of each token.
        values: [N], of what stands before each token.
        index: int64 [N], the rollout of each token. A rollout's tokens stand together, in order.
        gamma: Discount of a token, 0 to 1.
        lam: Weight of later differences: 0 trusts the values, 1 the rewards.

    Returns:
        [N]; the return is this plus `values`.

    Source: arXiv 1506.02438, Eq. 16.
    """
    return vtrace_gae(rewards, values, values.new_ones(len(values)), index, gamma=gamma, lam=lam)


def vtrace_gae(
    rewards: Tensor,
    values: Tensor,
    weight: Tensor,
    index: Tensor,
    *,
    gamma: float,
    lam: float,
    largest: float = 1.0,
) -> Tensor:
    """Estimate the advantages of tokens that another policy drew.

        rho_t = min(largest, weight_t);  A_t = rho_t delta_t + gamma lam rho_t A_(t+1)

    Weights of 1 give `gae`.

    Args:
        rewards, values, index, gamma, lam: As in `gae`.
        weight: [N], the policy whose advantage it is over the one that drew the token.
        largest: rho-bar, above 0.

    Returns:
        [N]; the return is this plus `values`.

    Source: ReMix, arXiv 2507.06892, Appendix A, Eq. 8 to 10, after V-trace, arXiv 1802.01561. A
    reading: the equations are lost in the text at hand, and where rho stands in the recursion is
    not confirmed; here it weighs each difference and what comes behind it, by one bound.
    """
    is_followed = _is_followed(index).to(values.dtype)
    rho = weight.clamp(max=largest)
    delta = rewards + gamma * is_followed * _ahead(values, 1) - values
    return _backward_sum(rho * delta, gamma * lam * is_followed * rho)


def _is_followed(index: Tensor) -> Tensor:
    """Whether another token of its rollout comes behind a token, bool [N]."""
    # Counted from 1, so that the 0 beyond the end is no rollout.
    return _ahead(index + 1, 1) == index + 1


def _ahead(values: Tensor, distance: int) -> Tensor:
    """What stands so far behind each, [N]; 0 beyond the end."""
    found = values.new_zeros(len(values))
    found[: max(len(values) - distance, 0)] = values[distance:]
    return found


def _backward_sum(terms: Tensor, factors: Tensor) -> Tensor:
    """x_t = terms_t + factors_t x_(t+1), [N]. Each pass doubles how far the sums reach, so that N
    tokens take log2 N passes; a factor of 0 ends a rollout."""
    reach = 1
    while reach < len(terms):
        terms = terms + factors * _ahead(terms, reach)
        factors = factors * _ahead(factors, reach)
        reach *= 2
    return terms


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


def segment_mean(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Average what belongs together.

    Args:
        values, index, count: As in `segment_sum`.

    Returns:
        [B]; 0 where a segment has no value.
    """
    sizes = segment_sum(values.new_ones(len(values)), index, count)
    return segment_sum(values, index, count) / sizes.clamp(min=1)


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


def relative_bins(index: Tensor, count: int, num_bins: int) -> Tensor:
    """Tell how far along its rollout each token stands.

    Args:
        index: int64 [N], which of the rollouts a token belongs to; those of one are neighbours, in
            their order.
        count: B, the number of rollouts.
        num_bins: Equal parts of a rollout.

    Returns:
        int64 [N], the part that a token stands in: 0 to `num_bins` - 1.
    """
    places = index.new_ones(len(index)).cumsum(0) - 1  # [N], 0, 1, 2, ...
    sizes = segment_sum(index.new_ones(len(index)), index, count)  # [B]
    first = index.new_full((count,), len(index)).scatter_reduce(0, index, places, "amin")  # [B]
    return num_bins * (places - first[index]) // sizes[index]
