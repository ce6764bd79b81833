"""What objectives are given in tests of their losses, and the oracle of a gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch

from oapl.records import LossInputs

Loss = Callable[[torch.Tensor], torch.Tensor]


def inputs(
    logprobs: torch.Tensor,
    inference: list[float],
    owner: list[int],
    credit: list[float],
    **more: object,
) -> LossInputs:
    """Of one micro-batch that is the whole batch; rewards are the credit, the lag is 1.

    Args:
        logprobs: [N], of the policy.
        inference: N log-probs of the sampler.
        owner: N, the rollout of each token.
        credit: B numbers.
        more: Other fields.
    """
    values = {
        "step": 3,
        "logprobs": logprobs,
        "inference_logprobs": torch.tensor(inference, dtype=logprobs.dtype),
        "rollout_index": torch.tensor(owner),
        "credit": torch.tensor(credit, dtype=logprobs.dtype),
        "reward": torch.tensor(credit, dtype=logprobs.dtype),
        "lag": torch.ones(len(credit), dtype=torch.long),
        "is_truncated": torch.zeros(len(credit), dtype=torch.bool),
        "is_history": torch.zeros(len(credit), dtype=torch.bool),
        "iteration": 0,
        "global_rollouts": len(credit),
        "global_tokens": len(owner),
        "global_credit_std": 1.0,
        "proximal": logprobs.detach(),
    }
    return LossInputs(**{**values, **more})  # type: ignore[arg-type]


def slopes(loss: Loss, point: torch.Tensor) -> list[float]:
    """The gradient of a loss by central differences.

    Args:
        loss: Of log-probs float64 [N].
        point: float64 [N], where.
    """
    found = []
    for i in range(len(point)):
        step = torch.zeros_like(point)
        step[i] = 1e-6
        found.append(float(loss(point + step) - loss(point - step)) / 2e-6)
    return found
