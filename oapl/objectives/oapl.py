"""OAPL: regress the log-ratio of a lagged policy's rollouts on their advantage.

    loss = mean over rollouts of (beta2 * ln(pi(y|x) / pi_vllm(y|x)) - (r - V*))^2
    V*   = beta1 * ln((1/G) * sum over the group of exp(r / beta1))

The log-ratio is summed over the response tokens. There is no importance ratio, no clipping, no
deleted token or sequence and no length normalisation; groups of equal rewards are kept: their
credit is 0, and their loss the anchor to pi_vllm.

Source: "LLMs Can Learn to Reason Via Off-Policy RL", arXiv 2602.19362, Eq. 2 and 3, sections 3 and
5; defaults from its Table 2. Departures: none. One shared temperature is beta1 = beta2: the squared
objective of Kimi k1.5 (arXiv 2501.12599, section 2.3.2), whose baseline is the mean of rewards in
place of the log-mean-exp, which it estimates. `baseline` and `anchor` are there to compare with.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from oapl.config.fields import Positive, section
from oapl.config.objective import Declarations, Need
from oapl.errors import InputError
from oapl.estimators import group_baseline, segment_sum, v_star
from oapl.objectives.base import policy_metrics
from oapl.records import Credit, LossInputs, LossOutputs, ScoredGroup

DECLARES = Declarations(
    needs=frozenset({"entropy", "sampler"}),
    min_group_size=2,
    samples=True,
    needs_inference_logprobs=True,
)


@section
class Config:
    """Options of `oapl`."""

    beta1: Positive = 1.0
    """Temperature of V*, in units of reward: near 0 gives the group's maximum, large its mean."""
    beta2: Positive = 1e-3
    """Weight of the log-ratio; sequences of 10^4 tokens want 1e-3, of 25 tokens 0.1."""
    baseline: Literal["v_star", "mean"] = "v_star"
    """What a reward is compared with: V*, or for comparison the group's mean."""
    anchor: Literal["inference", "sampler"] = "inference"
    """Log-probs of the policy that sampled: as the engine recorded them, or for comparison as the
    learner computes them from a copy of that policy, a forward pass and a copy more."""


class Objective:
    """See `oapl.interfaces.Objective`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._beta2 = config.beta2
        needs: set[Need] = {"entropy"}
        if config.anchor == "sampler":
            needs.add("sampler")
        self.declares = replace(DECLARES, needs=frozenset(needs))

    def credit(self, group: ScoredGroup) -> Credit:
        """Give each rollout r - V*, float32 [G]; no group is dropped.

        Raises:
            InputError: A rollout has no inference log-probs, the anchor of the loss.
        """
        for rollout in group.group.rollouts:
            if rollout.inference_logprobs is None:
                raise InputError(
                    f"{group.group.prompt.id}: a rollout has no inference log-probs, which oapl "
                    f"needs; use objective.name = 'sft' for text that nobody sampled"
                )
        if self._config.baseline == "mean":
            value = float(group_baseline(group.rewards, "mean")[0])
        else:
            value = v_star(group.rewards, self._config.beta1)
        advantage = (group.rewards.astype(np.float64) - value).astype(np.float32)
        return Credit(values=advantage, metrics={"oapl/v_star_*": value})

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Sum the squared residuals of the rollouts here, over those of the global batch."""
        anchor = inputs.inference_logprobs
        if self._config.anchor == "sampler":
            assert inputs.sampler is not None, "an anchor that nobody computed"
            anchor = inputs.sampler
        log_ratio = inputs.logprobs - anchor  # [N]
        sequence_log_ratio = segment_sum(log_ratio, inputs.rollout_index, len(inputs.credit))
        residual = self._beta2 * sequence_log_ratio - inputs.credit  # [B]
        is_positive = inputs.reward > 0
        metrics = {
            "oapl/advantage_*": inputs.credit,
            "oapl/advantage_positive": inputs.credit[is_positive],
            "oapl/advantage_nonpositive": inputs.credit[~is_positive],
            "oapl/residual_*": residual.detach(),
            "oapl/log_ratio_*": log_ratio.detach(),
            "oapl/sequence_log_ratio_*": sequence_log_ratio.detach(),
            **policy_metrics(inputs),
        }
        return LossOutputs(loss=residual.square().sum() / inputs.global_rollouts, metrics=metrics)
