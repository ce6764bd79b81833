"""What an objective sees of a micro-batch: as it was packed, with what was computed for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oapl.records import Batch, LossInputs

PROXIMAL = "proximal"


def inputs_of(
    batch: Batch,
    index: int,
    *,
    device: torch.device,
    iteration: int,
    prepared: Mapping[str, Any],
    counts: tuple[float, float] | None = None,
    logprobs: Tensor | None = None,
    **computed: Any,
) -> LossInputs:
    """Put together what an objective sees.

    Args:
        batch: This rank's share of a mini-batch.
        index: Of the micro-batch in it: N response tokens of B rollouts.
        device: Where the tensors belong.
        iteration: Iterations made before this one.
        prepared: Fields of `LossInputs` that were computed before the iteration's first update.
        counts: Rollouts and tokens in the denominators; default: all of the global batch.
        logprobs: The policy's, float32 [N]; default: the proximal policy's, or 0 where they were
            not computed.
        computed: Other fields, of this step.
    """
    micro_batch = batch.micro_batches[index]
    chosen = micro_batch.response_mask  # row by row, as the models answer

    def tensor(array: np.ndarray) -> Tensor:
        return torch.tensor(array, device=device)

    recorded = tensor(micro_batch.inference_logprobs[chosen])
    if logprobs is None:
        logprobs = prepared.get(PROXIMAL, torch.zeros_like(recorded))
    rollouts, tokens = counts or (batch.global_rollouts, batch.global_tokens)
    fields = {PROXIMAL: logprobs.detach(), **prepared, **computed}
    return LossInputs(
        step=batch.step,
        logprobs=logprobs,
        inference_logprobs=recorded,
        rollout_index=tensor(micro_batch.rollout_index[chosen]),
        credit=tensor(micro_batch.credit),
        reward=tensor(micro_batch.reward),
        lag=tensor(micro_batch.lag),
        is_truncated=tensor(micro_batch.is_truncated),
        is_history=tensor(micro_batch.is_history),
        iteration=iteration,
        global_rollouts=float(rollouts),
        global_tokens=float(tokens),
        global_credit_std=batch.global_credit_std,
        **fields,
    )
