r"""GRPO and its kin: a clipped ratio times an advantage that compares the rollouts of a group.

    loss = - mean over tokens of  w * min(r A, clip(r, 1 - eps_low, 1 + eps_high) A)
           + kl_coefficient * KL - entropy_coefficient * H
    r = pi / pi_proximal, or pi / pi_vllm (`ratio_to`);  w = pi_proximal / pi_vllm (`importance`)

pi_proximal is the policy before the first update on the batch, pi_vllm what sampled. w is a
constant of the gradient, stands outside the minimum, and multiplies neither KL nor entropy. What
the switches make of it (the rest as by default; names are those of the sources):

| method | switches | source |
|---|---|---|
| REINFORCE | clip none, baseline none, scale none, aggregation constant | Williams, 1992 |
| RLOO | clip none, baseline leave_one_out, scale none, aggregation constant | arXiv 2402.14740 |
| REINFORCE++ | baseline none, scale batch, aggregation token | arXiv 2501.03262 |
| GRPO | (the defaults) | arXiv 2402.03300, Eq. 3 |
| GRPO + IS | importance token | arXiv 2602.19362, section 2 |
| Dr. GRPO | scale none, aggregation constant | arXiv 2503.20783 |
| DAPO | eps_high 0.28, aggregation token, uniform drop | arXiv 2503.14476 |
| ProRL | as DAPO with eps_high 0.4, kl_coefficient 1e-4 | arXiv 2507.12507 |
| GSPO | policy_ratio sequence, eps 3e-4 and 4e-4 | arXiv 2507.18071, Eq. 5 |
| CISPO | clip weights, eps_low 1, aggregation token | arXiv 2506.13585, Eq. 4 |

With clip = "none" the surrogate is w r A: its gradient at r = 1 is A times that of ln pi. A token
that `importance` or `overlong` takes out has w = 0; with masked = "leave" it is also missing from
the denominators of `sequence` and `token`, and from KL and entropy.

KL is of the policy from the reference, KL(pi || pi_ref), by one estimator per token of
d = ln pi_ref - ln pi. As a loss their gradients differ, where the tokens are the policy's own: that
of k1 = -d is 0 on average, that of k2 = d^2 / 2 the gradient of KL(pi || pi_ref), and that of
k3 = exp(d) - 1 - d the gradient of KL(pi_ref || pi).

Source: DeepSeekMath, arXiv 2402.03300, section 4.1. Departures: the spread of a group is taken with
n - 1, as its public implementations do, and 1e-6 is added to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from oapl.config.objective import Declarations, Need
from oapl.estimators import kl_k3, segment_mean, segment_sum
from oapl.objectives._grpo_options import Config
from oapl.objectives._policy_gradient import (
    EntropyBonus,
    WithBonus,
    aggregate,
    clipped,
    demand_logprobs,
    group_advantage,
    group_credit,
    kl_to,
    policy_needs,
)
from oapl.objectives.base import policy_metrics
from oapl.records import Credit, LossInputs, LossOutputs, ScoredGroup

if TYPE_CHECKING:
    from torch import Tensor

DECLARES = Declarations(
    needs=frozenset(
        {
            *("entropy", "entropy_gradient", "proximal", "prepared", "kept_counts"),
            *("reference", "state"),
        }
    ),
    min_group_size=2,
    samples=True,
    needs_inference_logprobs=True,
    lacks=dict.fromkeys(("critic", "value", "gae", "gamma"), "its advantages come from the group"),
)


class Objective(WithBonus):
    """See `oapl.interfaces.Objective`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._bonus = EntropyBonus(config)
        self._masks = bool(config.importance_bounds[1]) or config.overlong == "mask"
        self.declares = replace(
            DECLARES,
            needs=frozenset(self._needs()),
            min_group_size=1 if config.baseline == "none" and config.scale != "group" else 2,
            needs_inference_logprobs=config.importance != "none" or config.ratio_to == "inference",
        )

    def _needs(self) -> set[Need]:
        config = self._config
        leaves = self._masks and config.masked == "leave" and config.aggregation != "constant"
        asked: dict[Need, bool] = {
            "proximal": config.ratio_to == "proximal",
            "prepared": leaves and bool(config.importance_bounds[1]),
            "kept_counts": leaves,
            "reference": bool(config.kl_coefficient),
        }
        return policy_needs(config) | {need for need, is_asked in asked.items() if is_asked}

    def credit(self, group: ScoredGroup) -> Credit:
        """Compare each reward with its group's, float32 [G]; the loss knows the batch's spread.

        Raises:
            InputError: A rollout has no inference log-probs, and the options use them.
        """
        if self.declares.needs_inference_logprobs:
            demand_logprobs(
                group,
                "objective.ratio_to and objective.importance use; set "
                'ratio_to = "proximal" and importance = "none"',
            )
        return group_credit(group, self._config)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Sum the tokens' terms as `aggregation` says, over the denominators of the batch."""
        config = self._config
        advantage = group_advantage(inputs, config)
        ratio, surrogate, is_clipped = self._surrogate(inputs, advantage[inputs.rollout_index])
        weight, counts = self._weights(inputs)
        policy = -surrogate if weight is None else -weight * surrogate
        terms = policy + self._penalties(inputs)
        if config.masked == "leave":
            terms = terms * counts
        else:
            counts = counts.new_ones(len(counts))
        metrics = {
            "grpo/advantage_*": advantage,
            "grpo/ratio_*": ratio.detach(),
            "grpo/clipped_rate": is_clipped.to(ratio.dtype),
            **policy_metrics(inputs),
            **self._bonus.metrics(inputs),
        }
        if config.importance != "none" and weight is not None:
            metrics |= {"grpo/importance_*": weight, "grpo/importance_ess": weight}
        if inputs.reference is not None:
            metrics["policy/reference_kl"] = kl_k3(inputs.reference - inputs.logprobs.detach())
        if self._masks:
            metrics["grpo/masked_rate"] = 1.0 - self._kept(inputs).to(ratio.dtype)
        return LossOutputs(
            loss=aggregate(terms, inputs, config, counts),
            metrics=metrics,
            terms={"policy": aggregate(policy.detach() * counts, inputs, config, counts)},
        )

    def keeps(self, inputs: LossInputs) -> Tensor:
        """See `oapl.interfaces.Masking.keeps`."""
        return self._kept(inputs)

    def _penalties(self, inputs: LossInputs) -> Tensor | float:
        """KL and entropy, [N]."""
        config, found = self._config, self._bonus.term(inputs)
        if config.kl_coefficient:
            divergence = kl_to(inputs.reference, inputs.logprobs, config)
            found = found + config.kl_coefficient * divergence
        return found

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
            return ratio, *clipped(ratio, advantage, config)
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
