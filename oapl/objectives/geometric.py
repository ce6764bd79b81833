r"""PCL's objective: raise the geometric mean of token probabilities of right answers, lower it of
wrong ones.

    pi(y|x) = exp(mean over the response's tokens of ln pi)
    loss    = mean over rollouts of  -R pi                                   (`normalised = false`)
            = mean over rollouts of  (R + 1)/2 (1 - pi) + (1 - (R + 1)/2) pi (`normalised = true`)

R is +1 or -1: the reward of a rollout above `threshold`, or not. Both forms have the same gradient;
the second is never negative. There is no baseline and no importance ratio, although another policy
sampled the rollouts, so nothing is compared with what was sampled: logits are not divided by the
sampling temperature, and no metric tells a distance from the policy that sampled.

Source: PCL-Reasoner-V1.5, Eq. 1 to 3. Departures: a mean over rollouts in place of a sum, as its
released trainer takes it.
"""

from __future__ import annotations

import numpy as np

from oapl.config.fields import Flag, Number, section
from oapl.config.objective import Declarations
from oapl.estimators import segment_mean
from oapl.objectives.base import entropy_metrics
from oapl.records import Credit, LossInputs, LossOutputs, ScoredGroup

DECLARES = Declarations(
    needs=frozenset({"entropy"}),
    min_group_size=1,
    samples=True,
    needs_inference_logprobs=False,
    at_temperature=False,
    lacks={
        **dict.fromkeys(("clip", "eps_", "dual_clip", "importance"), "it has no ratio to a policy"),
        **dict.fromkeys(("critic", "value", "gae", "gamma", "baseline"), "R is +1 or -1"),
    },
)


@section
class Config:
    """Options of `geometric`."""

    normalised: Flag = True
    """The form that is never negative; the gradient is the same."""
    threshold: Number = 0.0
    """A rollout counts as right where its reward is above this."""


class Objective:
    """See `oapl.interfaces.Objective`."""

    declares = DECLARES

    def __init__(self, config: Config) -> None:
        self._config = config

    def credit(self, group: ScoredGroup) -> Credit:
        """Give each rollout +1 or -1, float32 [G]; no group is dropped."""
        is_right = group.rewards > self._config.threshold
        return Credit(values=np.where(is_right, 1.0, -1.0).astype(np.float32))

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Sum the rollouts' terms here, over the rollouts of the global batch."""
        sign = inputs.credit  # [B]
        mean = segment_mean(inputs.logprobs, inputs.rollout_index, len(sign))
        probability = mean.exp()
        terms = -sign * probability
        if self._config.normalised:
            terms = terms + (sign + 1) / 2
        found = probability.detach()
        metrics = {
            "geometric/probability_right": found[sign > 0],
            "geometric/probability_wrong": found[sign < 0],
            **entropy_metrics(inputs),
        }
        return LossOutputs(loss=terms.sum() / inputs.global_rollouts, metrics=metrics)
