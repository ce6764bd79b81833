"""A micro-batch through the policy, or the critic: what an update and a probe have in common."""

from __future__ import annotations

import torch
from torch import Tensor

from learner.zero_engine import ZeroEngine
from oapl.records import MicroBatch


def logprobs_of(
    engine: ZeroEngine,
    micro_batch: MicroBatch,
    *,
    temperature: float,
    with_entropy: bool = False,
    entropy_gradient: bool = False,
    is_last: bool = False,
) -> tuple[Tensor, Tensor]:
    """Score the response tokens of a micro-batch. All ranks make equal calls: stage 3 gathers.

    Args:
        engine: Around a `learner.models.policy.Policy`.
        micro_batch: N response tokens in R rows.
        temperature: Divides the logits.
        with_entropy: Also the entropies.
        entropy_gradient: The entropies carry a gradient.
        is_last: Of the micro-batches whose gradients make one step.

    Returns:
        ln pi, float32 [N], row by row, and entropies, float32 [N] (empty if not asked for).
    """
    outputs: tuple[Tensor, Tensor] = engine.forward(
        *_tensors(engine, micro_batch),
        temperature=temperature,
        with_entropy=with_entropy,
        entropy_gradient=entropy_gradient,
        is_last=is_last,
    )
    return outputs


def values_of(engine: ZeroEngine, micro_batch: MicroBatch, *, is_last: bool = False) -> Tensor:
    """Value what stands before each response token. All ranks make equal calls: stage 3 gathers.

    Args:
        engine: Around a `learner.models.critic.Critic`.
        micro_batch: N response tokens in R rows.
        is_last: Of the micro-batches whose gradients make one step.

    Returns:
        float32 [N], row by row.
    """
    values: Tensor = engine.forward(*_tensors(engine, micro_batch), is_last=is_last)
    return values


def _tensors(engine: ZeroEngine, micro_batch: MicroBatch) -> tuple[Tensor, ...]:
    arrays = (micro_batch.token_ids, micro_batch.positions, micro_batch.response_mask)
    return tuple(torch.tensor(array, device=engine.device) for array in arrays)
