"""OAPL: regress the log-ratio of a lagged policy's rollouts on their advantage.

    loss = mean over rollouts of (beta2 * ln(pi(y|x) / pi_vllm(y|x)) - (r - V*))^2
    V*   = beta1 * ln((1/G) * sum over the group of exp(r / beta1))

The log-ratio is summed over the response tokens. There is no importance ratio, no clipping, no
deleted token or sequence and no length normalisation; groups of equal rewards are kept: their
credit is 0, and their loss the anchor to pi_vllm.

Source: "LLMs Can Learn to Reason Via Off-Policy RL", arXiv 2602.19362, Eq. 2 and 3, sections 3 and
5; defaults from its Table 2. Departures: none. One shared temperature is beta1 = beta2: the squared
objective of Kimi k1.5 (arXiv 2501.12599, section 2.3.2), whose baseline is the mean of rewards in
place of the log-mean-exp, which it estimates.

To compare with, and off by default: `baseline`, `anchor`, and what the paper does without
(sections 2 and 4), bounds on the ratio pi / pi_anchor. With `ratio_bounds` a token outside counts
at the bound, without gradient (outside = "clip"), or not at all ("token"); or a rollout whose mean
log-ratio is outside those bounds' logarithms is left out ("rollout"). Denominators stay whole.
A*-PO, a squared loss with a fixed reference in V* and ratio, is this on a stored set of the model
that training begins with, or with `sync.interval` = `run.max_steps`: then that is what samples.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from oapl.config.fields import NonNegative, Positive, section
from oapl.config.objective import Declarations, Need
from oapl.errors import InputError
from oapl.estimators import group_baseline, segment_mean, segment_sum, v_star
from oapl.objectives._options import Rules, refuse
from oapl.objectives._policy_gradient import demand_logprobs
from oapl.objectives.base import policy_metrics
from oapl.records import Credit, LossInputs, LossOutputs, Prompt, ScoredGroup

if TYPE_CHECKING:
    from torch import Tensor

DECLARES = Declarations(
    needs=frozenset({"entropy", "sampler"}),
    min_group_size=2,
    samples=True,
    needs_inference_logprobs=True,
    lacks={
        **dict.fromkeys(("clip", "eps_", "dual_clip"), "there is no ratio that could be clipped"),
        "importance": "its minimum is the same whatever sampled, so nothing is weighed",
        "kl_": "it is anchored at the policy that sampled, by objective.beta2",
        **dict.fromkeys(("critic", "value", "gae", "gamma"), "V* comes from the group"),
    },
)


@section
class Config:
    """Options of `oapl`."""

    beta1: Positive = 1.0
    """Temperature of V*, in units of reward: near 0 gives the group's maximum, large its mean."""
    beta2: Positive = 1e-3
    """Weight of the log-ratio; sequences of 10^4 tokens want 1e-3, of 25 tokens 0.1."""
    baseline: Literal["v_star", "mean", "column"] = "v_star"
    """What a reward is compared with: V* of the group, or for comparison its mean; column: the
    prompt's own column `v_star`, so that a lone rollout will do."""
    anchor: Literal["inference", "sampler", "reference"] = "inference"
    """Log-probs of the policy that sampled: as the engine recorded them, or for comparison as the
    learner computes them from a copy of that policy, a forward pass and a copy more. reference:
    refused; A*-PO is `sampler` on a stored set of the model that training begins with."""
    ratio_bounds: tuple[NonNegative, NonNegative] = (0.0, 0.0)
    """For comparison: least and largest ratio to the anchor that count. 0 as the largest is off."""
    outside: Literal["clip", "token", "rollout"] = "clip"
    """What a ratio outside does: its token counts at the bound, or not at all; or, where a
    rollout's geometric mean of ratios is outside, the rollout does not count."""

    def __post_init__(self) -> None:
        refuse(_rules(self))


def _rules(config: Config) -> Rules:
    low, high = config.ratio_bounds
    yield (
        config.anchor == "reference",
        'anchor = "reference": A*-PO compares with the V* of the rollouts of the reference itself, '
        'so that the reference is what samples all along; set anchor = "sampler" and train on a '
        'stored set of model.path (replay.source = "stored"), or set anchor = "inference" and '
        "sync.interval = run.max_steps",
    )
    yield (
        high > 0 and not low <= 1 <= high,
        f"ratio_bounds = [{low:g}, {high:g}]: must hold 1, the ratio of equal policies",
    )
    yield (
        high == 0 and low > 0,
        f"ratio_bounds = [{low:g}, 0]: 0 as the largest is off, and then the least is not read; "
        "set both, or leave them out",
    )
    yield (
        config.outside != "clip" and not high,
        f'outside = "{config.outside}": no ratio is outside without ratio_bounds; set them',
    )


def _given(prompt: Prompt) -> float:
    """The V* that a prompt brings."""
    found = prompt.reference.get("v_star")
    if isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found):
        return float(found)
    raise InputError(
        f'prompt {prompt.id}: v_star = {found!r}, but objective.baseline = "column" compares '
        'rewards with that column, a number; give it, or set objective.baseline = "v_star"'
    )


class Objective:
    """See `oapl.interfaces.Objective`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._beta2 = config.beta2
        needs: set[Need] = {"entropy"}
        if config.anchor == "sampler":
            needs.add("sampler")
        self.declares = replace(
            DECLARES,
            needs=frozenset(needs),
            min_group_size=1 if config.baseline == "column" else DECLARES.min_group_size,
            needs_inference_logprobs=config.anchor == "inference",
        )

    def credit(self, group: ScoredGroup) -> Credit:
        """Give each rollout r - V*, float32 [G]; no group is dropped.

        Raises:
            InputError: A rollout has no inference log-probs where they are the anchor of the loss;
                or the prompt no column `v_star` where that is asked for.
        """
        if self.declares.needs_inference_logprobs:
            demand_logprobs(group, 'oapl needs; use objective.name = "sft" for text nobody sampled')
        value = self._baseline(group)
        advantage = (group.rewards.astype(np.float64) - value).astype(np.float32)
        return Credit(values=advantage, metrics={"oapl/v_star_*": value})

    def _baseline(self, group: ScoredGroup) -> float:
        match self._config.baseline:
            case "mean":
                return float(group_baseline(group.rewards, "mean")[0])
            case "column":
                return _given(group.group.prompt)
            case "v_star":
                return v_star(group.rewards, self._config.beta1)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Sum the squared residuals of the rollouts here, over those of the global batch."""
        anchor = inputs.inference_logprobs
        if self._config.anchor == "sampler":
            assert inputs.sampler is not None, "an anchor that nobody computed"
            anchor = inputs.sampler
        log_ratio = inputs.logprobs - anchor  # [N]
        counted, kept = self._bounded(log_ratio, inputs)
        sequence_log_ratio = segment_sum(counted, inputs.rollout_index, len(inputs.credit))
        residual = self._beta2 * sequence_log_ratio - inputs.credit  # [B]
        if kept is not None and self._config.outside == "rollout":
            residual = residual * kept
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
        if kept is not None:
            metrics["oapl/outside_rate"] = 1.0 - kept
        return LossOutputs(loss=residual.square().sum() / inputs.global_rollouts, metrics=metrics)

    def _bounded(self, log_ratio: Tensor, inputs: LossInputs) -> tuple[Tensor, Tensor | None]:
        """Log-ratios that count, [N], and 1 where a token, or [B] a rollout, is within the bounds;
        None without bounds."""
        outside, (low, high) = self._config.outside, self._config.ratio_bounds
        if not high:
            return log_ratio, None
        least, largest = math.log(low) if low else -math.inf, math.log(high)
        given = log_ratio.detach()
        if outside == "rollout":
            given = segment_mean(given, inputs.rollout_index, len(inputs.credit))
        is_inside = (given >= least) & (given <= largest)
        kept = is_inside.to(log_ratio.dtype)
        if outside == "clip":
            return log_ratio.clamp(least, largest), kept
        return (log_ratio.where(is_inside, 0.0) if outside == "token" else log_ratio), kept
