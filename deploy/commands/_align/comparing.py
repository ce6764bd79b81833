"""Recorded log-probs beside those of a plain forward pass of transformers: no packing, no engine.

Invariant: each response is scored alone, behind its own prompt, in one pass, at the temperature
that it was sampled at; what cannot be compared so is counted and left out.

Source: Perplexity's report, implementation details: mean over tokens of exp(|difference of
log-probs|), per rollout and over all, wanted in [1, 1.05].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oapl.errors import InputError, first_line
from oapl.groups_file import StoredGroup
from oapl.objectives.base import NUM_BINS
from oapl.records import Rollout, Sampling

CHUNK = 512
"""Tokens whose logits are float64 at a time."""
Score = Callable[[np.ndarray, int, float], np.ndarray]
"""Token ids int32 [T], how many of them are the prompt's (P), and a temperature; gives ln p of the
others, float64 [T - P]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """How far recorded log-probs are from scored ones.

    Attributes:
        ratio: Mean exp(|difference|) over all tokens.
        of_rollouts: float64 [B], the same mean over the tokens of each rollout.
        of_tenths: float64 [10], over those of each tenth of a response; NaN where there are none.
        largest: Of all differences, nats.
        num_tokens: Compared.
        left_out: Rollouts without log-probs, cut by top-p or top-k, or sampled at temperature 0.
    """

    ratio: float
    of_rollouts: np.ndarray
    of_tenths: np.ndarray
    largest: float
    num_tokens: int
    left_out: int


def compare(groups: Iterable[StoredGroup], score: Score, limit: int) -> Alignment:
    """Score rollouts, and compare.

    Args:
        groups: Stored, all of the weights that `score` has.
        score: Gives log-probs of a response.
        limit: Rollouts at most.

    Raises:
        InputError: None can be compared.
    """
    differences: list[np.ndarray] = []
    left_out = 0
    for group in groups:
        for rollout in group.rollouts:
            if len(differences) >= limit:
                break
            if _is_comparable(rollout, group.sampling):
                differences.append(_differences(group, rollout, score))
            else:
                left_out += 1
    if not differences:
        raise InputError(
            f"none of {left_out} rollouts can be compared: they have no log-probs, or were sampled "
            "with top-p, top-k or at temperature 0"
        )
    return _summed_up(differences, left_out)


def plain_scorer(path: str, dtype: str, *, trust_remote_code: bool = False) -> Score:
    """Load a model as anybody would.

    Args:
        path: Folder or hub name.
        dtype: Of its weights, as torch names it.
        trust_remote_code: Run code that comes with the weights.

    Raises:
        InputError: transformers makes no causal language model of it.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise InputError(f"--model {path}: {first_line(error)}") from error
    model.eval()

    def score(token_ids: np.ndarray, num_prompt: int, temperature: float) -> np.ndarray:
        ids = torch.tensor(token_ids[None], dtype=torch.int64)
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, num_prompt - 1 : -1]
        parts = zip(logits.split(CHUNK), ids[0, num_prompt:].split(CHUNK), strict=True)
        found = [
            (rows.double() / temperature).log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
            for rows, tokens in parts
        ]
        return np.concatenate([part.numpy() for part in found])

    return score


def _is_comparable(rollout: Rollout, sampling: Sampling) -> bool:
    is_whole = sampling.top_p == 1 and not sampling.top_k and sampling.temperature > 0
    logprobs = rollout.inference_logprobs
    return is_whole and logprobs is not None and len(logprobs) > 0


def _differences(group: StoredGroup, rollout: Rollout, score: Score) -> np.ndarray:
    """|ln p - recorded| of each token, float64 [T]."""
    assert rollout.inference_logprobs is not None, "asked before"
    prompt = group.prompt.token_ids
    token_ids = np.concatenate([prompt, rollout.token_ids])
    scored = score(token_ids, len(prompt), group.sampling.temperature)
    found: np.ndarray = np.abs(scored - rollout.inference_logprobs.astype(np.float64))
    return found


def _summed_up(differences: Sequence[np.ndarray], left_out: int) -> Alignment:
    ratios = [np.exp(part) for part in differences]
    bins = [NUM_BINS * np.arange(len(part)) // len(part) for part in differences]
    together, places = np.concatenate(ratios), np.concatenate(bins)
    counts = np.bincount(places, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):  # nothing by nothing
        of_tenths = np.bincount(places, together, minlength=NUM_BINS) / counts
    return Alignment(
        ratio=float(together.mean()),
        of_rollouts=np.array([part.mean() for part in ratios]),
        of_tenths=of_tenths,
        largest=float(max(part.max() for part in differences)),
        num_tokens=len(together),
        left_out=left_out,
    )
