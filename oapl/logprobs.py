"""Hidden states to token log-probs without the full table of logits.

Invariants: everything that leaves this file is float32; at no time do more than `chunk_tokens` rows
of logits exist, in the forward or the backward pass. Shape letters: N response tokens, H hidden,
V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

VOCABULARY_BLOCK = 8192


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    chunk_tokens: int = 1024,
    with_entropy: bool = False,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """ln softmax(hidden @ weight.T / temperature)[target] of every token, differentiable once.

    The weight is read once and chunked here, with no module call per chunk: ranks may differ in
    tokens, and so in chunks, even when ZeRO-3 gathers the weight on access. Under autocast both
    passes multiply in its dtype.

    Args:
        hidden: [N, H], the states that predict the targets.
        weight: [V, H], of the output layer (which has no bias).
        targets: int64 [N].
        temperature: Divides the logits; the one at which the tokens were sampled.
        chunk_tokens: Rows of logits that exist at a time; logits are float32.
        with_entropy: Also the entropy of each distribution.
        entropy_gradient: The entropy carries a gradient, which costs a table more per chunk.

    Returns:
        Log-probs float32 [N] in nats, and entropies float32 [N] in nats (empty if not asked for).

    Source: none. The backward pass recomputes each chunk of logits.
    """
    if torch.is_autocast_enabled(hidden.device.type):  # which would not reach the backward pass
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    logprobs, entropy = _TokenLogprobs.apply(
        hidden, weight, targets, temperature, chunk_tokens, with_entropy, entropy_gradient
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
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        count = len(targets)
        logprobs = hidden.new_empty(count, dtype=torch.float32)
        entropy = torch.empty_like(logprobs if with_entropy else logprobs[:0])
        for start in range(0, count, chunk_tokens):
            part = slice(start, start + chunk_tokens)
            table = _logits(hidden[part], weight, temperature).float().log_softmax(-1)  # [n, V]
            logprobs[part] = table.gather(1, targets[part, None])[:, 0]
            if with_entropy:
                entropy[part] = -(table.exp() * table).sum(-1)
        ctx.save_for_backward(hidden, weight, targets)
        ctx.temperature, ctx.chunk_tokens = temperature, chunk_tokens
        ctx.entropy_gradient = with_entropy and entropy_gradient
        if not ctx.entropy_gradient:
            ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, entropy_gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """With slope g per token and P = softmax(logits): d hidden = g (W[target] - P W) / T, and
        d W = sum over tokens of g hidden (onehot(target) - P) / T. The one-hot part is never a
        table, and P is used in the weight's own dtype. Entropy has its own part (`_spread`)."""
        hidden, weight, targets = ctx.saved_tensors
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        for start in range(0, len(targets), ctx.chunk_tokens):
            part = slice(start, start + ctx.chunk_tokens)
            chosen, slope = targets[part], gradient[part, None] / ctx.temperature
            logits = _logits(hidden[part], weight, ctx.temperature)
            shares = logits.softmax(-1).to(weight.dtype)
            grad_hidden[part] = (weight[chosen].float() - (shares @ weight).float()) * slope
            pull = hidden[part].float() * slope
            _subtract_product(grad_weight, shares, pull)
            grad_weight.index_add_(0, chosen, pull)
            if ctx.entropy_gradient:
                spread = _spread(logits, entropy_gradient[part, None] / ctx.temperature)
                grad_hidden[part] -= (spread.to(weight.dtype) @ weight).to(hidden.dtype)
                _subtract_product(grad_weight, spread.to(weight.dtype), hidden[part].float())
        return grad_hidden, grad_weight.to(weight.dtype), *[None] * 5


def _logits(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    """In the dtype of the weight at temperature 1, which loses nothing; else divided in float32."""
    logits = hidden @ weight.t()
    return logits if temperature == 1.0 else logits.float().div_(temperature)


def _spread(logits: Tensor, slope: Tensor) -> Tensor:
    """What entropy H with a slope per token takes from the logits: slope * P (ln P + H), [n, V]."""
    table = logits.float().log_softmax(-1)
    shares = table.exp()
    entropy = -(shares * table).sum(-1, keepdim=True)
    return shares.mul_(table.add_(entropy)).mul_(slope)


def _subtract_product(target: Tensor, shares: Tensor, pull: Tensor) -> None:
    """target [V, H] -= shares.T [V, n] @ pull [n, H], summed in float32. Half precision in blocks
    that stay in a CPU's cache between product and sum: in one piece the sum took longer."""
    if shares.dtype == torch.float32:
        target.addmm_(shares.t(), pull, alpha=-1)
        return
    pull = pull.to(shares.dtype)
    for start in range(0, len(target), VOCABULARY_BLOCK):
        rows = slice(start, start + VOCABULARY_BLOCK)
        target[rows] -= (shares[:, rows].t() @ pull).float()
