"""Chunked log-probs against the full table in float64."""

import math

import pytest
import torch

from oapl.logprobs import token_logprobs
from tests.support.tables import LargestTable

N, H, V = 23, 16, 37


def problem(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    hidden = torch.randn(N, H, generator=chance).to(dtype).requires_grad_()
    weight = torch.randn(V, H, generator=chance).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(V, (N,), generator=chance)


def table(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    """The oracle: ln softmax of all logits, float64 [N, V]."""
    return (hidden.double() @ weight.double().t() / temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 23, 1000])
def test_values_entropy_and_gradients_agree_with_the_full_table(
    chunk_tokens: int, temperature: float
):
    hidden, weight, targets = problem()
    slope = torch.randn(N, generator=torch.Generator().manual_seed(1))
    logprobs, entropy = token_logprobs(
        hidden, weight, targets,
        temperature=temperature, chunk_tokens=chunk_tokens, with_entropy=True,
    )  # fmt: skip
    (logprobs * slope).sum().backward()
    exact_hidden, exact_weight = (x.detach().double().requires_grad_() for x in (hidden, weight))
    full = table(exact_hidden, exact_weight, temperature)
    chosen = full.gather(1, targets[:, None])[:, 0]
    (chosen * slope).sum().backward()
    assert logprobs.dtype == entropy.dtype == torch.float32
    assert (logprobs - chosen).abs().max() < 1e-5
    assert (entropy + (full.exp() * full).sum(-1)).abs().max() < 1e-5
    assert (hidden.grad - exact_hidden.grad).norm() / exact_hidden.grad.norm() < 1e-6
    assert (weight.grad - exact_weight.grad).norm() / exact_weight.grad.norm() < 1e-6
    assert not entropy.requires_grad


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("chunk_tokens", [1, 7, 1000])
def test_the_gradient_of_the_entropy_agrees_with_the_full_table(
    chunk_tokens: int, temperature: float
):
    hidden, weight, targets = problem()
    slope, push = torch.randn(2, N, generator=torch.Generator().manual_seed(1))
    options = {"temperature": temperature, "chunk_tokens": chunk_tokens}
    logprobs, entropy = token_logprobs(
        hidden, weight, targets, with_entropy=True, entropy_gradient=True, **options
    )
    ((logprobs * slope).sum() + (entropy * push).sum()).backward()
    exact_hidden, exact_weight = (x.detach().double().requires_grad_() for x in (hidden, weight))
    full = table(exact_hidden, exact_weight, temperature)
    chosen, spread = full.gather(1, targets[:, None])[:, 0], -(full.exp() * full).sum(-1)
    ((chosen * slope).sum() + (spread * push).sum()).backward()
    assert (hidden.grad - exact_hidden.grad).norm() / exact_hidden.grad.norm() < 1e-6
    assert (weight.grad - exact_weight.grad).norm() / exact_weight.grad.norm() < 1e-6


def test_three_tokens_by_hand():
    # Logits 0 and ln 3: probabilities 1/4 and 3/4, entropy 0.25 ln 4 + 0.75 ln(4/3).
    weight = torch.tensor([[0.0], [math.log(3.0)]])
    logprobs, entropy = token_logprobs(
        torch.ones(3, 1), weight, torch.tensor([0, 1, 1]), with_entropy=True
    )
    expected = [math.log(1 / 4), math.log(3 / 4), math.log(3 / 4)]
    assert logprobs.tolist() == pytest.approx(expected)
    spread = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert entropy.tolist() == pytest.approx([spread] * 3)


def test_bf16_inputs_give_float32_and_gradients_in_bf16():
    hidden, weight, targets = problem(torch.bfloat16)
    logprobs, _ = token_logprobs(hidden, weight, targets, chunk_tokens=5)
    logprobs.sum().backward()
    chosen = table(hidden, weight, 1.0).gather(1, targets[:, None])[:, 0]
    assert logprobs.dtype == torch.float32
    assert hidden.grad.dtype == weight.grad.dtype == torch.bfloat16
    assert (logprobs - chosen).abs().max() < 0.1  # logits of up to 16 in 8 bits of mantissa


def test_under_autocast_both_passes_multiply_in_its_dtype():
    hidden, weight, targets = problem()
    halves = [x.detach().half().requires_grad_() for x in (hidden, weight)]
    with torch.autocast("cpu", torch.float16):
        logprobs, _ = token_logprobs(hidden, weight, targets, chunk_tokens=5)
    logprobs.sum().backward()
    expected, _ = token_logprobs(*halves, targets, chunk_tokens=5)
    expected.sum().backward()
    assert torch.equal(logprobs, expected)
    for ours, theirs in zip((hidden, weight), halves, strict=True):
        assert ours.grad.dtype == torch.float32
        assert torch.equal(ours.grad, theirs.grad.float())


def test_no_response_tokens_give_nothing_and_a_gradient_of_zero():
    hidden, weight, targets = problem()
    logprobs, _ = token_logprobs(hidden[:0], weight, targets[:0])
    logprobs.sum().backward()
    assert len(logprobs) == 0
    assert weight.grad.abs().max() == 0


def test_only_a_chunk_of_logits_exists_in_both_passes():
    hidden, weight, targets = problem()
    with LargestTable(V) as seen:
        logprobs, entropy = token_logprobs(
            hidden, weight, targets, chunk_tokens=4, with_entropy=True, entropy_gradient=True
        )
        (logprobs.sum() + entropy.sum()).backward()
    assert seen.rows == 4
