"""The least objective with a critic and credit per token: what tests of the learner train.

Reward on the last token, less a penalty per token for leaving the reference; the return is what is
still to come of both, the advantage is the return less the value; PPO's two clipped losses.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from oapl.config.fields import Flag, NonNegative, section
from oapl.config.objective import Declarations
from oapl.records import Credit, LossInputs, LossOutputs, ScoredGroup, TokenCredit

CLIP, VALUE_CLIP = 0.2, 0.2

DECLARES = Declarations(
    needs=frozenset({"proximal", "prepared", "reference", "token_credit", "values"}),
    min_group_size=1,
    samples=True,
    needs_inference_logprobs=False,
)


@section
class Config:
    penalty: NonNegative = 0.05
    """Of a token's ln pi - ln pi_ref."""
    has_critic: Flag = True
    """false: the advantage is the return."""


class Objective:
    """See `oapl.interfaces.Valued`."""

    def __init__(self, config: Config) -> None:
        self._penalty = config.penalty
        needs = DECLARES.needs if config.has_critic else DECLARES.needs - {"values"}
        self.declares = replace(DECLARES, needs=needs)

    def credit(self, group: ScoredGroup) -> Credit:
        return Credit(values=group.rewards.astype(np.float32))

    def token_credit(self, inputs: LossInputs) -> TokenCredit:
        assert inputs.reference is not None
        assert not inputs.logprobs.requires_grad
        owner = inputs.rollout_index
        penalty = to_come(inputs.logprobs - inputs.reference, owner)
        returns = inputs.credit[owner] - self._penalty * penalty
        if inputs.old_values is None:
            return TokenCredit(advantage=returns)
        return TokenCredit(advantage=returns - inputs.old_values, returns=returns)

    def loss(self, inputs: LossInputs) -> LossOutputs:
        assert inputs.token_credit is not None
        assert inputs.proximal is not None
        advantage = inputs.token_credit.advantage - inputs.token_credit_mean
        advantage = advantage / inputs.token_credit_std
        ratio = (inputs.logprobs - inputs.proximal).exp()
        bounded = ratio.clamp(1 - CLIP, 1 + CLIP)
        gain = torch.minimum(ratio * advantage, bounded * advantage)
        metrics = {"valued/advantage_*": advantage, "valued/ratio_*": ratio.detach()}
        return LossOutputs(loss=-gain.sum() / inputs.global_tokens, metrics=metrics)

    def value_loss(self, inputs: LossInputs) -> LossOutputs:
        values, old, credit = inputs.values, inputs.old_values, inputs.token_credit
        assert values is not None
        assert old is not None
        assert credit is not None
        assert not inputs.logprobs.requires_grad
        near = old + (values - old).clamp(-VALUE_CLIP, VALUE_CLIP)
        worse = torch.maximum((values - credit.returns) ** 2, (near - credit.returns) ** 2)
        metrics = {"valued/moved_*": (values - old).abs()}
        return LossOutputs(loss=worse.sum() / (2 * inputs.global_tokens), metrics=metrics)


def to_come(numbers: Tensor, owner: Tensor) -> Tensor:
    """Sum each token's number with those of the later tokens of its rollout, [N]."""
    sums = numbers.double().cumsum(0)
    is_last = torch.cat([owner[1:] != owner[:-1], owner.new_ones(1).bool()])
    run = torch.cat([owner.new_zeros(1), is_last[:-1].long()]).cumsum(0)
    return (sums[is_last][run] - sums + numbers).to(numbers.dtype)
