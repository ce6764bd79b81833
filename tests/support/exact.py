"""The oracle of the learner: every rollout by itself, unpacked, in float64, in one process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from oapl.config.sections import OptimizerSection
from oapl.records import CreditedGroup

Named = dict[str, Tensor]


def alone_logprobs(
    model: Any, prompt: np.ndarray, response: np.ndarray, temperature: float = 1.0
) -> Tensor:
    """ln pi of a response's tokens, its sequence alone in the model."""
    ids = torch.tensor(np.concatenate([prompt, response])).long()
    table = (model(ids[None], use_cache=False).logits[0] / temperature).log_softmax(-1)
    return table[len(prompt) - 1 : -1].gather(1, ids[len(prompt) :, None])[:, 0]


def exact_gradients(
    path: Path, groups: list[CreditedGroup], beta2: float, dtype: torch.dtype = torch.float64
) -> Named:
    """Of the OAPL loss over the whole batch; in another `dtype`, what plain torch makes of it."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    terms = []
    for group in groups:
        credits_ = group.credit.values.astype(np.float64)
        sampled = group.scored.group
        for rollout, credit in zip(sampled.rollouts, credits_, strict=True):
            logprobs = alone_logprobs(
                model, sampled.prompt.token_ids, rollout.token_ids, sampled.sampling.temperature
            )
            log_ratio = (logprobs - torch.tensor(rollout.inference_logprobs).to(dtype)).sum()
            terms.append((beta2 * log_ratio - credit) ** 2)
    torch.stack(terms).mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def exact_iteration(
    path: Path,
    parts: Sequence[Sequence[CreditedGroup]],
    optimizer: OptimizerSection,
    *,
    passes: int,
    clip: float,
) -> Named:
    """Parameters after an iteration of GRPO with token importance: ratios to the policy before it.

    Args:
        path: The model's folder.
        parts: Mini-batches.
        optimizer: AdamW without clipping.
        passes: Over them.
        clip: The ratio counts within 1 -+ this.
    """
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float64)
    adam = _adam(model, optimizer)

    def scored(group: CreditedGroup) -> list[Tensor]:
        sampled = group.scored.group
        temperature = sampled.sampling.temperature
        return [
            alone_logprobs(model, sampled.prompt.token_ids, rollout.token_ids, temperature)
            for rollout in sampled.rollouts
        ]

    with torch.no_grad():
        before = {group.id: scored(group) for part in parts for group in part}
    for part in [*parts] * passes:
        terms = []
        for group in part:
            rollouts, credits_ = group.scored.group.rollouts, group.credit.values.tolist()
            for now, old, rollout, credit in zip(
                scored(group), before[group.id], rollouts, credits_, strict=True
            ):
                weight = (old - torch.tensor(rollout.inference_logprobs).double()).exp()
                ratio = (now - old).exp()
                bounded = ratio.clamp(1 - clip, 1 + clip)
                terms.append((weight * torch.minimum(ratio * credit, bounded * credit)).mean())
        adam.zero_grad()
        (-torch.stack(terms).mean()).backward()
        adam.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def exact_parameters(path: Path, gradients: Named, optimizer: OptimizerSection) -> Named:
    """The model's after one unclipped AdamW step along `gradients`, in their data type."""
    dtype = next(iter(gradients.values())).dtype
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    adam = _adam(model, optimizer)
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name].clone()
    adam.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _adam(model: Any, optimizer: OptimizerSection) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        model.parameters(),
        lr=optimizer.lr,
        betas=optimizer.betas,
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
    )


def relative_error(found: Named, exact: Named) -> float:
    """L2 norm of the difference over that of `exact`, all tensors together."""
    assert found.keys() == exact.keys()
    wrong = sum(float((found[n].double() - exact[n]).square().sum()) for n in exact)
    return math.sqrt(wrong / sum(float(exact[n].square().sum()) for n in exact))


def worst_error(found: Named, exact: Named) -> float:
    """Largest difference within a tensor over that tensor's largest number; the worst tensor's."""
    return max(
        float((found[n].double() - exact[n]).abs().max() / exact[n].abs().max()) for n in exact
    )
