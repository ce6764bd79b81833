"""Imitation: cross-entropy of the response tokens, the prompt masked.

    loss = - sum over response tokens of ln pi(token) / response tokens of the global batch

Rejection-sampling fine-tuning, the imitation of right answers alone, is this on a file that holds
only those: of a run's stored rollouts (columns `question`, `response`, `reward`) the rows whose
reward says so, read with prompt_key = "question". Nothing here looks at a reward.

Source: PCL-Reasoner-V1.5, section 3.2, for the packing (sequences in a pack do not attend to one
another) and the mask. Every token weighs the same, so a long response weighs more than a short one.
"""

from __future__ import annotations

import numpy as np

from oapl.config.fields import section
from oapl.config.objective import Declarations
from oapl.records import Credit, LossInputs, LossOutputs, ScoredGroup

DECLARES = Declarations(
    needs=frozenset(),
    min_group_size=1,
    samples=False,
    needs_inference_logprobs=False,
    at_temperature=False,
    lacks={
        **dict.fromkeys(
            ("clip", "eps_", "dual_clip", "importance", "kl_", "beta"),
            "given responses are compared with no policy",
        ),
        **dict.fromkeys(("critic", "value", "gae", "gamma"), "there are no rewards"),
    },
)


@section
class Config:
    """`sft` has no options."""


class Objective:
    """See `oapl.interfaces.Objective`."""

    declares = DECLARES

    def __init__(self, config: Config) -> None:
        self._config = config

    def credit(self, group: ScoredGroup) -> Credit:
        """Give every rollout 1, float32 [G]."""
        return Credit(values=np.ones(len(group.rewards), dtype=np.float32))

    def loss(self, inputs: LossInputs) -> LossOutputs:
        """Sum the negative log-likelihood here, over the response tokens of the global batch."""
        nll = -inputs.logprobs
        return LossOutputs(
            loss=nll.sum() / inputs.global_tokens, metrics={"loss/nll": nll.detach()}
        )
