"""Hidden states to token log-probs without the full table of logits, and what is made of them.

Invariants: everything that leaves this file is float32; at no time do more than `chunk_tokens` rows
of logits exist, in the forward or the backward pass. Shape letters: N response tokens, H hidden,
V vocabulary, B rollouts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int = 1024,
    with_entropy: bool = False,
) -> tuple[Tensor, Tensor]:
    """ln softmax(hidden @ weight.T / temperature)[target] of every token, differentiable once.

    The weight is read once and chunked here, with no module call per chunk: ranks may differ in
    tokens, and so in chunks, even when ZeRO-3 gathers the weight on access.

    Args:
        hidden: [N, H], the states that predict the targets.
        weight: [V, H], of the output layer (which has no bias).
        targets: int64 [N].
        temperature: Divides the logits; the one at which the tokens were sampled.
        chunk_tokens: Rows of logits that exist at a time; logits are float32.
        with_entropy: Also the entropy of each distribution. It carries no gradient.

    Returns:
        Log-probs float32 [N] in nats, and entropies float32 [N] in nats (empty if not asked for).

    Source: none. The backward pass recomputes each chunk of logits.
    """
    logprobs, entropy = _TokenLogprobs.apply(
        hidden, weight, targets, temperature, chunk_tokens, with_entropy
    )
    return logprobs, entropy


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        temperature: float,
        chunk_tokens: int,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        count = len(targets)
        normalizer = hidden.new_empty(count, dtype=torch.float32)  # ln sum exp(logits)
        chosen = torch.empty_like(normalizer)
        entropy = torch.empty_like(normalizer if with_entropy else normalizer[:0])
        for start in range(0, count, chunk_tokens):
            part = slice(start, start + chunk_tokens)
            logits = _logits(hidden[part], weight, temperature)  # [n, V]
            normalizer[part] = logits.logsumexp(-1)
            chosen[part] = logits.gather(1, targets[part, None])[:, 0]
            if with_entropy:
                mean_logit = (logits.softmax(-1) * logits).sum(-1)
                entropy[part] = normalizer[part] - mean_logit
        ctx.save_for_backward(hidden, weight, targets, normalizer)
        ctx.temperature, ctx.chunk_tokens = temperature, chunk_tokens
        ctx.mark_non_differentiable(entropy)
        return chosen - normalizer, entropy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        hidden, weight, targets, normalizer = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(targets), ctx.chunk_tokens):
            part = slice(start, start + ctx.chunk_tokens)
            logits = _logits(hidden[part], weight, ctx.temperature)
            # d ln p(target) / d logits = onehot(target) - softmax
            slope = logits.sub_(normalizer[part, None]).exp_().neg_()
            slope.scatter_add_(1, targets[part, None], torch.ones_like(slope[:, :1]))
            slope.mul_(gradient[part, None] / ctx.temperature)
            slope = slope.to(weight.dtype)
            grad_hidden[part] = slope @ weight
            grad_weight += slope.t() @ hidden[part]
        return grad_hidden, grad_weight.to(weight.dtype), None, None, None, None


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    logits = (hidden @ weight.t()).float()
    return logits if temperature == 1.0 else logits.div_(temperature)


def segment_sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sum per segment: [N] values to [count]; `index` int64 [N] names the segment of each."""
    return values.new_zeros(count).index_add(0, index, values)


def kl_k1(difference: Tensor) -> Tensor:
    """-d with d = model - sampler log-prob, per token; unbiased for KL(sampler || model).

    Source: J. Schulman, "Approximating KL Divergence" (2020).
    """
    return -difference


def kl_k2(difference: Tensor) -> Tensor:
    """d^2 / 2 with d = model - sampler log-prob; biased, never negative. Source: as `kl_k1`."""
    return difference.square() / 2


def kl_k3(difference: Tensor) -> Tensor:
    """exp(d) - 1 - d with d = model - sampler log-prob; unbiased, never negative.

    Source: as `kl_k1`; `expm1` keeps small d exact.
    """
    return difference.expm1() - difference
