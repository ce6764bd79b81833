"""An objective that mixes history in and does nothing else: REINFORCE on the reward.

It drives replay, loop and learner with history, whatever the objectives of `oapl/objectives/` do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from oapl.config.fields import Count, Fraction, NonNegativeInt, section
from oapl.config.objective import Declarations, History
from oapl.records import Credit, LossInputs, LossOutputs, ScoredGroup

NAME = "tests.support.mixing"
DECLARES = Declarations(
    needs=frozenset({"history", "reference"}),
    min_group_size=1,
    samples=True,
    needs_inference_logprobs=False,
)


@section
class Config:
    """Those of `History`."""

    share: Fraction = 0.4
    """Of a take that is history."""
    iterations: Count = 2
    """N."""
    until: NonNegativeInt = 0
    """T; 0 means never."""


class Objective:
    """See `oapl.interfaces.Objective`."""

    def __init__(self, config: Config) -> None:
        history = History(share=config.share, iterations=config.iterations, until=config.until)
        self.declares = replace(DECLARES, history=history)

    def credit(self, group: ScoredGroup) -> Credit:
        return Credit(values=group.rewards.astype(np.float32))

    def loss(self, inputs: LossInputs) -> LossOutputs:
        terms = -inputs.credit[inputs.rollout_index] * inputs.logprobs  # [N]
        return LossOutputs(loss=terms.sum() / inputs.global_rollouts, metrics={})
