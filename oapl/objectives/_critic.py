"""What objectives with a critic share: a token's advantage in the loss, and the critic's loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oapl.objectives._options import CriticOptions
from oapl.objectives._policy_gradient import STD_FLOOR, aggregate
from oapl.records import LossInputs, LossOutputs

if TYPE_CHECKING:
    from torch import Tensor


def token_advantage(inputs: LossInputs, options: CriticOptions) -> Tensor:
    """Whiten the advantages by the iteration's mean and spread, where the options say so.

    Args:
        inputs: Of the micro-batch, with `token_credit`.
        options: Of the objective.

    Returns:
        [N].
    """
    assert inputs.token_credit is not None, "an advantage per token that nobody computed"
    advantage = inputs.token_credit.advantage
    if not options.whiten:
        return advantage
    return (advantage - inputs.token_credit_mean) / (inputs.token_credit_std + STD_FLOOR)


def critic_loss(inputs: LossInputs, options: CriticOptions) -> LossOutputs:
    """Take the squared error of the values, or where it is larger that of the clipped ones.

    Args:
        inputs: Of the micro-batch, with `values`, `old_values` and `token_credit`, [N] each.
        options: Of the objective.

    Returns:
        value_coefficient / 2 times the mean that `aggregation` says, and metrics.

    Source: the value clip of PPO's public implementations (OpenAI baselines, verl, TRL).
    """
    values, old, credit = inputs.values, inputs.old_values, inputs.token_credit
    assert values is not None, "a critic's loss without its values"
    assert old is not None, "a critic's loss without its values before the iteration"
    assert credit is not None, "a critic's loss without returns"
    assert credit.returns is not None, "a critic's loss without returns"
    error = plain = (values - credit.returns).square()
    if options.value_clip:
        near = values.clamp(old - options.value_clip, old + options.value_clip)
        error = plain.maximum((near - credit.returns).square())
    terms = options.value_coefficient / 2 * error
    metrics = {
        "critic/return_*": credit.returns,
        "critic/squared_error": plain.detach(),
        "critic/clipped_rate": (error > plain).to(values.dtype).detach(),
    }
    return LossOutputs(loss=aggregate(terms, inputs, options), metrics=metrics)
