"""How good the answers are: mean@n, maj@n, pass@k, greedy, each with its standard error.

mean@n is the mean reward over n samples per problem, pass@k the unbiased estimate that one of k
samples is right (k up to n), maj@n the share of problems whose most frequent answer is right,
greedy the mean reward at temperature 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from oapl.evaluation import per_problem
from oapl.evaluation.measures.base import over_problems
from oapl.evaluation.per_problem import Number
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics


def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:
    """See `oapl.evaluation.measures.base.MeasureFile`."""
    n = protocol.num_samples
    numbers: dict[str, Number] = {f"mean@{n}": per_problem.mean, f"maj@{n}": per_problem.maj}
    numbers |= {f"pass@{k}": per_problem.passed(k) for k in sorted(set(protocol.ks)) if k <= n}
    numbers |= {"greedy": per_problem.greedy}
    metrics: Metrics = {}
    for name, number in numbers.items():
        metrics |= over_problems(name, number, problems, protocol)
    unjudged = sum(problem.unjudged for problem in problems)
    return metrics | ({"unjudged": float(unjudged)} if unjudged else {})
