"""What objectives with a clipped ratio share: bounds, KL penalty, entropy bonus, means.

Invariants: tensors of N tokens and B rollouts in, tensors out; each denominator is the global
batch's, so that micro-batches add up.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from oapl.config.objective import Need
from oapl.errors import InputError
from oapl.estimators import (
    clipped_surrogate,
    group_baseline,
    group_std,
    kl_k1,
    kl_k2,
    kl_k3,
    segment_sum,
)
from oapl.objectives._options import GroupOptions, PolicyOptions
from oapl.records import Credit, LossInputs, Metrics, ScoredGroup, State

if TYPE_CHECKING:
    from torch import Tensor

ESTIMATORS = {"k1": kl_k1, "k2": kl_k2, "k3": kl_k3}
STD_FLOOR = 1e-6
"""Added to a spread that divides."""


class EntropyBonus:
    """The entropy bonus and, where it is adaptive, the switch that each step's entropy moves.

    Args:
        options: Of the objective, whose `observe`, `state` and `restore` are this one's.
    """

    def __init__(self, options: PolicyOptions) -> None:
        self._coefficient = options.entropy_coefficient
        self._target = options.entropy_target
        self._entropy = math.inf  # of the step before; unknown before the first

    @property
    def weight(self) -> float:
        """Of the bonus in this step."""
        is_on = not self._target or self._entropy < self._target
        return self._coefficient if is_on else 0.0

    def term(self, inputs: LossInputs) -> Tensor | float:
        """The part of the loss, [N]; 0 while the bonus is off."""
        if not self.weight:
            return 0.0
        assert inputs.entropy is not None, "an entropy bonus without entropy"
        return -self.weight * inputs.entropy

    def metrics(self, inputs: LossInputs) -> dict[str, Tensor]:
        """The weight where it is adaptive, [1]."""
        weight = inputs.logprobs.new_full((1,), self.weight)
        return {"policy/entropy_coefficient": weight} if self._target else {}

    def observe(self, metrics: Metrics) -> None:
        """See `oapl.interfaces.Stateful.observe`."""
        self._entropy = metrics.get("policy/entropy", self._entropy)

    def state(self) -> State:
        """See `oapl.interfaces.Stateful.state`."""
        return {"entropy": self._entropy}

    def restore(self, state: State) -> None:
        """See `oapl.interfaces.Stateful.restore`."""
        self._entropy = state["entropy"]


class WithBonus:
    """An objective with an entropy bonus, of which it keeps the state."""

    _bonus: EntropyBonus

    def observe(self, metrics: Metrics) -> None:
        """See `oapl.interfaces.Stateful.observe`."""
        self._bonus.observe(metrics)

    def state(self) -> State:
        """See `oapl.interfaces.Stateful.state`."""
        return self._bonus.state()

    def restore(self, state: State) -> None:
        """See `oapl.interfaces.Stateful.restore`."""
        self._bonus.restore(state)


def policy_needs(options: PolicyOptions) -> set[Need]:
    """What the penalties ask of the learner, beside a KL's other policies."""
    needs: set[Need] = {"entropy"}
    if options.entropy_coefficient:
        needs.add("entropy_gradient")
    if options.entropy_target:
        needs.add("state")
    return needs


def kl_to(compared: Tensor | None, logprobs: Tensor, options: PolicyOptions) -> Tensor:
    """Estimate the KL of the policy from another one, per token.

    Args:
        compared: [N], ln of the other policy on the same tokens, nats.
        logprobs: [N], of the policy.
        options: Of the objective, with the estimator.

    Returns:
        [N], nats, with the gradient of `logprobs`.
    """
    assert compared is not None, "a KL penalty from a policy that did not score the tokens"
    return ESTIMATORS[options.kl_estimator](compared - logprobs)


def clipped(
    ratio: Tensor, advantage: Tensor, options: PolicyOptions, centre: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Take the surrogate within the bounds that the options set.

    Args:
        ratio, advantage, centre: [N], as of `oapl.estimators.clipped_surrogate`.
        options: Of the objective.

    Returns:
        The surrogate [N], and bool [N] where it was clipped.
    """
    return clipped_surrogate(
        ratio,
        advantage,
        low=options.eps_low,
        high=options.eps_high,
        dual=options.dual_clip,
        centre=centre,
    )


def aggregate(
    terms: Tensor, inputs: LossInputs, options: PolicyOptions, counts: Tensor | None = None
) -> Tensor:
    """Make a scalar of the tokens' terms, as `aggregation` says.

    Args:
        terms: [N].
        inputs: Of the micro-batch.
        options: Of the objective.
        counts: [N], 1, or 0 where a token left the denominators; None means all count.

    Returns:
        [], to be summed over micro-batches and ranks.
    """
    owner, num_rollouts = inputs.rollout_index, len(inputs.credit)
    if options.aggregation == "token":
        return terms.sum() / max(inputs.global_tokens, 1)
    if options.aggregation == "constant":
        return terms.sum() / (inputs.global_rollouts * options.constant_tokens)
    counts = terms.new_ones(len(terms)) if counts is None else counts
    sizes = segment_sum(counts, owner, num_rollouts).clamp(min=1)
    means = segment_sum(terms, owner, num_rollouts) / sizes
    return means.sum() / max(inputs.global_rollouts, 1)


def group_credit(group: ScoredGroup, options: GroupOptions) -> Credit:
    """Compare each reward with its group's, float32 [G]; the loss knows the batch's spread.

    Args:
        group: With its rewards, [G].
        options: Of the objective.
    """
    rewards = group.rewards.astype(np.float64)
    values = rewards - group_baseline(rewards, options.baseline)
    if options.scale == "group":
        values = values / (group_std(rewards) + STD_FLOOR)
    is_uniform = bool((rewards == rewards[0]).all())
    return Credit(
        values=values.astype(np.float32),
        dropped="uniform" if is_uniform and options.uniform == "drop" else None,
    )


def group_advantage(inputs: LossInputs, options: GroupOptions) -> Tensor:
    """Divide the credit of the rollouts by the batch's spread, where `scale` says so.

    Args:
        inputs: Of the micro-batch.
        options: Of the objective.

    Returns:
        [B].
    """
    if options.scale == "batch":
        return inputs.credit / (inputs.global_credit_std + STD_FLOOR)
    return inputs.credit


def demand_logprobs(group: ScoredGroup, remedy: str) -> None:
    """Refuse rollouts of which nobody recorded what sampled them.

    Args:
        group: Any.
        remedy: What uses the log-probs, and what to set instead.

    Raises:
        InputError: A rollout has no inference log-probs.
    """
    if any(rollout.inference_logprobs is None for rollout in group.group.rollouts):
        raise InputError(
            f"{group.group.prompt.id}: a rollout has no inference log-probs, which {remedy}"
        )
