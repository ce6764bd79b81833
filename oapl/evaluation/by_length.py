"""Accuracy by response length (PCL, figure 5)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oapl.evaluation.problem import Problem

HALVINGS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBin:
    """Responses of `low` to below `high` tokens: how many, and the share that is right."""

    low: int
    high: int
    count: int
    accuracy: float


def edges_to(max_tokens: int) -> list[int]:
    """Give the edges of bins for responses up to a limit: 0, a sixteenth, an eighth ... and all.

    Args:
        max_tokens: Longest response; one that long lies in the last bin.
    """
    below = {max_tokens >> halving for halving in range(1, HALVINGS + 1)}
    return [0, *sorted(below - {0}), max_tokens + 1]


def by_length(
    problems: Sequence[Problem], edges: Sequence[int], threshold: float
) -> list[LengthBin]:
    """Tell accuracy by response length; bin i holds edges[i] <= length < edges[i + 1].

    Args:
        problems: Of one set, or of several.
        edges: Response tokens, rising.
        threshold: Smallest reward that counts as right.

    Returns:
        Bins in order, without empty ones; responses outside the edges are left out.
    """
    samples = [sample for problem in problems for sample in problem.responses]
    bins = []
    for low, high in itertools.pairwise(edges):
        inside = [
            judgement.reward >= threshold
            for rollout, judgement in samples
            if low <= len(rollout.token_ids) < high
        ]
        if inside:
            accuracy = float(np.mean(inside))
            bins.append(LengthBin(low=low, high=high, count=len(inside), accuracy=accuracy))
    return bins
