"""Measures of an evaluation: mean@n, unbiased pass@k, maj@n, greedy, lengths, standard errors.

Invariants: every measure is the mean over *problems* of a number per problem, so that its standard
error (over problems) allows for the correlation of samples of one problem; a sample that nobody
could judge (our fault) is left out and counted, never taken for wrong; a measure without a single
sample is absent.

Source: pass@k is the estimator of Chen et al. 2021 (arXiv 2107.03374, section 2.1), as in OAPL
footnote 1.
"""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oapl.comparison import SE
from oapl.records import EvalAnswers, Judgement, Metrics, Rollout

BOXED = r"\boxed{"
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def pass_at_k(n: int, c: int, k: int) -> float:
    """Estimate without bias that one of k samples is right: 1 - C(n - c, k) / C(n, k).

    As the product 1 - prod_{i = n - c + 1}^{n} (1 - k / i): no large binomials; exactly 0 for
    c = 0 and exactly 1 when fewer than k samples are wrong (so for k = n with c > 0).

    Args:
        n: Samples of the problem.
        c: Right ones among them.
        k: Tries.

    Raises:
        ValueError: Not 1 <= k <= n or not 0 <= c <= n.

    Source: Chen et al. 2021 (arXiv 2107.03374), section 2.1.
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} cannot be estimated from {n} samples; k must lie in 1 to {n}")
    if not 0 <= c <= n:
        raise ValueError(f"{c} of {n} samples cannot be right")
    if c == 0:
        return 0.0
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def majority(votes: Sequence[str]) -> str | None:
    """The most frequent vote, the earliest one among equals; empty votes abstain."""
    counts = Counter(vote for vote in votes if vote)
    return max(counts, key=counts.__getitem__) if counts else None


def extract_answer(text: str) -> str:
    r"""What a response votes for: its last \boxed{...}, else last <answer>, else last line."""
    if BOXED in text:
        return _normal(_braced(text[text.rindex(BOXED) + len(BOXED) :]))
    if tagged := TAGGED.findall(text):
        return _normal(tagged[-1])
    lines = [line for line in text.splitlines() if line.strip()]
    return _normal(lines[-1]) if lines else ""


def _braced(text: str) -> str:
    """Up to the brace that closes one opened before `text`; all of it when none does."""
    depth = 1
    for index, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return text[:index]
    return text


def _normal(answer: str) -> str:
    return " ".join(answer.split())


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over problems, and its standard error s / sqrt(P) with s^2 over P - 1.

    With one problem the error is not known: NaN.
    """
    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2:
        return float(numbers.mean()), math.nan
    return float(numbers.mean()), float(numbers.std(ddof=1) / math.sqrt(len(numbers)))


Samples = list[tuple[Rollout, Judgement]]


def summarise(
    name: str, answers: Sequence[EvalAnswers], ks: Sequence[int], threshold: float
) -> Metrics:
    """The measures of one evaluation set.

    Args:
        name: Name of the set, SET below.
        answers: One record per problem.
        ks: The k of pass@k; one above the number of samples is left out.
        threshold: Smallest reward that counts as right in pass@k and maj@n.

    Returns:
        `eval/SET/mean@n` (mean reward), `pass@k`, `maj@n`, `greedy` (reward at temperature 0),
        each with its standard error over problems under the name + `_se`; `length_mean` (response
        tokens), `truncated_rate`, `malformed_rate` (of those that ended, the share without an
        answer in the form asked for), `entropy` (nats a token: the mean of -ln p over the samples'
        tokens, p what they were drawn with; no figure where the engine recorded none), and
        `unjudged` when there was any such sample.
    """
    problems = [_judged(answer) for answer in answers]
    n = max((len(answer.rollouts) for answer in answers), default=0)
    per_problem: dict[str, list[float]] = {f"mean@{n}": [], f"maj@{n}": []}
    per_problem |= {f"pass@{k}": [] for k in sorted(set(ks)) if k <= n}
    for samples in problems:
        if samples:
            per_problem[f"mean@{n}"].append(_mean_reward(samples))
            per_problem[f"maj@{n}"].append(_majority_is_right(samples, threshold))
        right = sum(judgement.reward >= threshold for _, judgement in samples)
        for k in ks:
            if k <= len(samples):
                per_problem[f"pass@{k}"].append(pass_at_k(len(samples), right, k))
    per_problem["greedy"] = _greedy_rewards(answers)
    metrics: Metrics = {}
    for measure, values in per_problem.items():
        if values:
            mean, error = mean_and_error(values)
            metrics |= {measure: mean} | ({} if math.isnan(error) else {measure + SE: error})
    metrics |= _endings(problems) | _entropy(problems) | _unjudged(answers, problems)
    return {f"eval/{name}/{measure}": value for measure, value in metrics.items()}


def score_of(metrics: Metrics) -> float | None:
    """The mean over the evaluation sets of their mean@n, or, without samples, of their greedy.

    Args:
        metrics: Of `summarise`, of all sets together.

    Returns:
        None where there is neither.
    """
    means = [v for name, v in metrics.items() if "/mean@" in name and not name.endswith(SE)]
    means = means or [value for name, value in metrics.items() if name.endswith("/greedy")]
    return statistics.fmean(means) if means else None


def _judged(answer: EvalAnswers) -> Samples:
    pairs = zip(answer.rollouts, answer.judgements, strict=True)
    return [(rollout, judgement) for rollout, judgement in pairs if judgement.failure is None]


def _mean_reward(samples: Samples) -> float:
    return float(np.mean([judgement.reward for _, judgement in samples]))


def _majority_is_right(samples: Samples, threshold: float) -> float:
    """Whether the winning answer is right, as its first sample was judged."""
    votes = [extract_answer(rollout.text) for rollout, _ in samples]
    winner = majority(votes)
    if winner is None:
        return 0.0
    return float(samples[votes.index(winner)][1].reward >= threshold)


def _greedy_rewards(answers: Sequence[EvalAnswers]) -> list[float]:
    judged = [answer.greedy_judgement for answer in answers]
    return [j.reward for j in judged if j is not None and j.failure is None]


def _endings(problems: Sequence[Samples]) -> Metrics:
    judged = [sample for samples in problems for sample in samples]
    if not judged:
        return {}
    ended = [judgement for rollout, judgement in judged if not rollout.is_truncated]
    malformed = [any(v.kind == "malformed" for v in j.verdicts.values()) for j in ended]
    return {
        "length_mean": float(np.mean([len(rollout.token_ids) for rollout, _ in judged])),
        "truncated_rate": 1 - len(ended) / len(judged),
        "malformed_rate": sum(malformed) / max(len(ended), 1),
    }


def _entropy(problems: Sequence[Samples]) -> Metrics:
    """Without bias, since the tokens were drawn from the very distribution that is measured."""
    rollouts = [rollout for samples in problems for rollout, _ in samples]
    found = [r.inference_logprobs for r in rollouts if r.inference_logprobs is not None]
    if not rollouts or len(found) < len(rollouts) or not (tokens := sum(map(len, found))):
        return {}
    return {"entropy": -float(sum(part.sum(dtype=np.float64) for part in found)) / tokens}


def _unjudged(answers: Sequence[EvalAnswers], problems: Sequence[Samples]) -> Metrics:
    missing = sum(len(answer.rollouts) for answer in answers) - sum(map(len, problems))
    return {"unjudged": float(missing)} if missing else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBin:
    """Responses of `low` to below `high` tokens: how many, and the share that is right."""

    low: int
    high: int
    count: int
    accuracy: float


def by_length(
    answers: Sequence[EvalAnswers], edges: Sequence[int], threshold: float
) -> list[LengthBin]:
    """Tell accuracy by response length; bin i holds edges[i] <= length < edges[i + 1].

    Args:
        answers: One record per problem.
        edges: Response tokens, rising.
        threshold: Smallest reward that counts as right.

    Returns:
        Bins in order, without empty ones; responses outside the edges are left out.
    """
    samples = [sample for answer in answers for sample in _judged(answer)]
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
