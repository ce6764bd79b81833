"""The measures of an evaluation set together, under their metric names.

Invariants: what has a standard error is the mean over *problems* of a number per problem, so that
the error (over problems) allows for the correlation of samples of one problem; a measure without a
single sample is absent.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence

from oapl.comparison import SE, score
from oapl.evaluation.measures.base import MEASURES, mean_and_error
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import EvalAnswers, Metrics

__all__ = ["averages", "mean_and_error", "score_of", "summarise"]


def summarise(name: str, answers: Sequence[EvalAnswers], protocol: Protocol) -> Metrics:
    """Measure one evaluation set.

    Args:
        name: Name of the set, SET below.
        answers: One record per problem.
        protocol: How they were answered, and what counts as right.

    Returns:
        `eval/SET/MEASURE`, of every file of `oapl/evaluation/measures/`; a standard error over
        problems stands under the measure's name + `_se`.
    """
    problems = [Problem.of(answer, protocol) for answer in answers]
    metrics: Metrics = {}
    for file in MEASURES.names():
        metrics |= MEASURES.load(file).measure(problems, protocol)
    return {f"eval/{name}/{measure}": value for measure, value in metrics.items()}


def score_of(metrics: Mapping[str, float]) -> float | None:
    """The mean over the evaluation sets of their mean@n, or, without samples, of their greedy.

    Args:
        metrics: Of `summarise`, of all sets together.

    Returns:
        None where there is neither.
    """
    found = score(metrics)
    return None if found is None else found[1]


def averages(metrics: Mapping[str, float]) -> Metrics:
    """Average every measure over the sets, each set counting the same.

    Args:
        metrics: Of `summarise`, of all sets together.

    Returns:
        By measure; those that every set has, where there are several sets. Errors are left out:
        sets are no draws of anything.
    """
    by_measure: defaultdict[str, dict[str, float]] = defaultdict(dict)
    sets = set()
    for name, value in metrics.items():
        parts = name.split("/")
        if len(parts) == 3 and parts[0] == "eval":
            sets.add(parts[1])
            by_measure[parts[2]][parts[1]] = value
    return {
        measure: statistics.fmean(values.values())
        for measure, values in by_measure.items()
        if len(sets) > 1 and len(values) == len(sets) and not measure.endswith(SE)
    }
