r"""GRPO and its kin: a clipped ratio times an advantage that compares the rollouts of a group.

    loss = - mean over tokens of  w * min(r A, clip(r, 1 - eps_low, 1 + eps_high) A)
           - entropy_coefficient * H
    r = pi / pi_proximal, or pi / pi_vllm (`ratio_to`);  w = pi_proximal / pi_vllm (`importance`)

pi_proximal is the policy before the first update on the batch, pi_vllm what sampled. w is a
constant of the gradient, stands outside the minimum, and does not multiply the entropy H. What the
switches make of it (the rest as by default; names are those of the sources):

| method | switches | source |
|---|---|---|
| REINFORCE | clip none, baseline none, scale none, aggregation constant | Williams, 1992 |
| RLOO | clip none, baseline leave_one_out, scale none, aggregation constant | arXiv 2402.14740 |
| REINFORCE++ | baseline none, scale batch, aggregation token | arXiv 2501.03262 |
| GRPO | (the defaults) | arXiv 2402.03300, Eq. 3 |
| GRPO + IS | importance token | arXiv 2602.19362, section 2 |
| Dr. GRPO | scale none, aggregation constant | arXiv 2503.20783 |
| DAPO | eps_high 0.28, aggregation token, uniform drop | arXiv 2503.14476 |
| ProRL | as DAPO with eps_high 0.4 | arXiv 2505.24864 |
| GSPO | policy_ratio sequence, eps 3e-4 and 4e-4 | arXiv 2507.18071, Eq. 5 |
| CISPO | clip weights, eps_low 1, aggregation token | arXiv 2506.13585, Eq. 4 |

With clip = "none" the surrogate is w r A: its gradient at r = 1 is A times that of ln pi. A token
that `importance` or `overlong` takes out has w = 0; with masked = "leave" it is also missing from
the denominators of `sequence` and `token`, and from the entropy.

Source: DeepSeekMath, arXiv 2402.03300, section 4.1. Departures: the spread of a group is taken with
n - 1, as its public implementations do, and 1e-6 is added to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from oapl.config.fields import NonNegative, NonNegativeInt, Number, section
from oapl.config.objective import Declarations, Need
from oapl.errors import InputError
from oapl.estimators import (
    clipped_surrogate,
    group_baseline,
    group_std,
    segment_mean,
    segment_sum,
)
from oapl.objectives.base import policy_metrics
from oapl.records import Credit, LossInputs, LossOutputs, ScoredGroup

if TYPE_CHECKING:
    from torch import Tensor

STD_FLOOR = 1e-6
"""Added to a spread that divides."""

DECLARES = Declarations(
    needs=frozenset({"entropy", "entropy_gradient", "proximal", "prepared", "kept_counts"}),
    min_group_size=2,
    samples=True,
    needs_inference_logprobs=True,
)


@section
class Config:
    """Options of `grpo`."""

    ratio_to: Literal["proximal", "inference"] = "proximal"
    """What pi is divided by: the policy before the batch's first update, or what sampled."""
    policy_ratio: Literal["token", "sequence"] = "token"
    """sequence: one ratio per rollout, the geometric mean of its tokens' (GSPO)."""
    clip: Literal["min", "weights", "none"] = "min"
    """min: PPO's; weights: the clipped ratio, without gradient, times A ln pi (CISPO)."""
    eps_low: Annotated[Number, Field(ge=0, le=1)] = 0.2
    """The ratio counts down to 1 - eps_low."""
    eps_high: NonNegative = 0.2
    """The ratio counts up to 1 + eps_high."""
    dual_clip: NonNegative = 0.0
    """Above 1: where A is negative the surrogate is at least so many times A; 0 is off."""
    importance: Literal["none", "token", "sequence"] = "none"
    """w, the proximal policy over what sampled, per token or as the product over a rollout."""
    importance_cap: NonNegative = 0.0
    """Larger w count as this (truncated importance sampling); 0 is off."""
    importance_bounds: tuple[NonNegative, NonNegative] = (0.0, 0.0)
    """Least and largest w that count; a token outside is taken out. 0 as the largest is off."""
    outside: Literal["token", "rollout"] = "token"
    """What a w outside its bounds takes out: the token, or its whole rollout."""
    masked: Literal["keep", "leave"] = "keep"
    """Whether what is taken out stays in the denominators (a constant one always does)."""
    aggregation: Literal["sequence", "token", "constant"] = "sequence"
    """Mean over a rollout's tokens and then over rollouts; over all tokens of the batch; or the sum
    over tokens, divided by rollouts times `constant_tokens`."""
    constant_tokens: NonNegativeInt = 0
    """Divisor of a rollout's sum under aggregation = "constant"."""
    baseline: Literal["mean", "leave_one_out", "none"] = "mean"
    """What a reward is compared with: its group's mean, the others' mean, or nothing."""
    scale: Literal["group", "batch", "none"] = "group"
    """Spread that advantages are divided by: of the group's rewards, of the batch's advantages."""
    uniform: Literal["keep", "drop"] = "keep"
    """drop: a group of equal rewards is replaced by another (dynamic sampling)."""
    overlong: Literal["keep", "mask"] = "keep"
    """mask: a rollout that was cut off at the limit is taken out of the loss."""
    entropy_coefficient: NonNegative = 0.0
    """Weight of the entropy bonus."""

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise ValueError(problem)


def _problems(config: Config) -> list[str]:
    low, high = config.importance_bounds
    bounded = high > 0
    return [
        words
        for is_wrong, words in (
            (0 < config.dual_clip <= 1, f"dual_clip = {config.dual_clip:g}: must be above 1, or 0"),
            (
                config.dual_clip > 0 and config.clip != "min",
                f'dual_clip = {config.dual_clip:g}: bounds the minimum of clip = "min" only',
            ),
            (
                low > high,
                f"importance_bounds = [{low:g}, {high:g}]: the least is above the largest",
            ),
            (
                config.importance == "none" and (bounded or config.importance_cap > 0),
                'importance_cap and importance_bounds: there is no weight with importance = "none"',
            ),
            (
                config.importance != "none" and config.ratio_to == "inference",
                f'importance = "{config.importance}": a ratio to what sampled has it already; set '
                'importance = "none" or ratio_to = "proximal"',
            ),
            (
                (config.aggregation == "constant") != (config.constant_tokens > 0),
                f"constant_tokens = {config.constant_tokens}: is the divisor of "
                'aggregation = "constant"; set both or neither',
            ),
            (
                config.uniform == "drop" and config.baseline == "none",
                'uniform = "drop": without a baseline a group of equal rewards teaches too',
            ),
        )
        if is_wrong
    ]


class Objective:
    """See `oapl.interfaces.Masking`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._masks = bool(config.importance_bounds[1]) or config.overlong == "mask"
        self.declares = replace(
            DECLARES,
            needs=frozenset(self._needs()),
            min_group_size=1 if config.baseline == "none" and config.scale != "group" else 2,
            needs_inference_logprobs=config.importance != "none" or config.ratio_to == "inference",
        )

    def _needs(self) -> list[Need]:
        config = self._config
        leaves = self._masks and config.masked == "leave" and config.aggregation != "constant"
        asked: dict[Need, bool] = {
            "entropy": True,
            "entropy_gradient": bool(config.entropy_coefficient),
            "proximal": config.ratio_to == "proximal",
            "prepared": leaves and bool(config.importance_bounds[1]),
            "kept_counts": leaves,
        }
        return [need for need, is_asked in asked.items() if is_asked]

    def credit(self, group: ScoredGroup) -> Credit:
        """Compare each reward with its group's, float32 [G]; the loss knows the batch's spread.

        Raises:
            InputError: A rollout has no inference log-probs, and the options use them.
        """
        if self.declares.needs_inference_logprobs:
            _check_logprobs(group)
        rewards = group.rewards.astype(np.float64)
        values = rewards - group_baseline(rewards, self._config.baseline)
        if self._config.scale == "group":
            values = values / (group_std(rewards) + STD_FLOOR)
        is_uniform = bool((rewards == rewards[0]).all())
        return Credit(
            values=values.astype(np.float32),
            dropped="uniform" if is_uniform and self._config.uniform == "drop" else None,
        )

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Sum the tokens' terms as `aggregation` says, over the denominators of the batch."""
        config, owner = self._config, inputs.rollout_index
        advantage = inputs.credit
        if config.scale == "batch":
            advantage = advantage / (inputs.global_credit_std + STD_FLOOR)
        ratio, surrogate, is_clipped = self._surrogate(inputs, advantage[owner])
        weight, counts = self._weights(inputs)
        terms = -surrogate if weight is None else -weight * surrogate
        if config.entropy_coefficient:
            assert inputs.entropy is not None, "an entropy bonus without entropy"
            terms = terms - config.entropy_coefficient * inputs.entropy
        if config.masked == "leave":
            terms = terms * counts
        else:
            counts = counts.new_ones(len(counts))
        metrics = {
            "grpo/advantage_*": advantage,
            "grpo/ratio_*": ratio.detach(),
            "grpo/clipped_rate": is_clipped.to(ratio.dtype),
            **policy_metrics(inputs),
        }
        if config.importance != "none" and weight is not None:
            metrics |= {"grpo/importance_*": weight, "grpo/importance_ess": weight}
        if self._masks:
            metrics["grpo/masked_rate"] = 1.0 - self._kept(inputs).to(ratio.dtype)
        return LossOutputs(loss=self._aggregate(terms, counts, inputs), metrics=metrics)

    def keeps(self, inputs: LossInputs) -> Tensor:
        """See `oapl.interfaces.Masking.keeps`."""
        return self._kept(inputs)

    def _surrogate(self, inputs: LossInputs, advantage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Ratio, surrogate to be maximised, and where it was clipped: [N] each."""
        config = self._config
        compared = inputs.proximal if config.ratio_to == "proximal" else inputs.inference_logprobs
        assert compared is not None, "a ratio to the proximal policy without its log-probs"
        log_ratio = inputs.logprobs - compared
        if config.policy_ratio == "sequence":
            owner = inputs.rollout_index
            log_ratio = segment_mean(log_ratio, owner, len(inputs.credit))[owner]
        ratio = log_ratio.exp()
        if config.clip == "min":
            bounds = {"low": config.eps_low, "high": config.eps_high, "dual": config.dual_clip}
            return ratio, *clipped_surrogate(ratio, advantage, **bounds)
        if config.clip == "none":
            return ratio, ratio * advantage, ratio.new_zeros(len(ratio)).bool()
        bounded = ratio.detach().clamp(1 - config.eps_low, 1 + config.eps_high)
        return ratio, bounded * advantage * inputs.logprobs, bounded != ratio.detach()

    def _weights(self, inputs: LossInputs) -> tuple[Tensor | None, Tensor]:
        """w without what is taken out, None where it is 1 everywhere; and what counts: [N] each."""
        kept = self._kept(inputs) if self._masks else None
        ones = inputs.logprobs.new_ones(len(inputs.logprobs))
        if self._config.importance == "none":
            return (None, ones) if kept is None else (kept.to(ones.dtype), kept.to(ones.dtype))
        weight = self._importance(inputs)
        if self._config.importance_cap:
            weight = weight.clamp(max=self._config.importance_cap)
        return (weight, ones) if kept is None else (weight * kept, kept.to(ones.dtype))

    def _importance(self, inputs: LossInputs) -> Tensor:
        """pi_proximal / pi_vllm without cap or bounds, [N]."""
        assert inputs.proximal is not None, "importance weights without proximal log-probs"
        log_weight = (inputs.proximal - inputs.inference_logprobs).detach()
        if self._config.importance == "sequence":
            owner = inputs.rollout_index
            log_weight = segment_sum(log_weight, owner, len(inputs.credit))[owner]
        return log_weight.exp()

    def _kept(self, inputs: LossInputs) -> Tensor:
        """Which tokens neither `importance_bounds` nor `overlong` takes out, bool [N]."""
        owner, count = inputs.rollout_index, len(inputs.credit)
        out = inputs.logprobs.new_zeros(len(owner)).bool()
        low, high = self._config.importance_bounds
        if high:
            weight = self._importance(inputs)
            out = (weight < low) | (weight > high)
            if self._config.outside == "rollout":
                out = (segment_sum(out.to(weight.dtype), owner, count) > 0)[owner]
        if self._config.overlong == "mask":
            out = out | inputs.is_truncated[owner]
        return ~out

    def _aggregate(self, terms: Tensor, counts: Tensor, inputs: LossInputs) -> Tensor:
        """[N] terms to a scalar; `counts` are 1, or 0 where a token left the denominators."""
        config, owner = self._config, inputs.rollout_index
        if config.aggregation == "token":
            return terms.sum() / max(inputs.global_tokens, 1)
        if config.aggregation == "constant":
            return terms.sum() / (inputs.global_rollouts * config.constant_tokens)
        sizes = segment_sum(counts, owner, len(inputs.credit)).clamp(min=1)
        means = segment_sum(terms, owner, len(inputs.credit)) / sizes
        return means.sum() / max(inputs.global_rollouts, 1)


def _check_logprobs(group: ScoredGroup) -> None:
    if any(rollout.inference_logprobs is None for rollout in group.group.rollouts):
        raise InputError(
            f"{group.group.prompt.id}: a rollout has no inference log-probs, which "
            "objective.ratio_to and objective.importance use; set "
            'ratio_to = "proximal" and importance = "none"'
        )
