"""The score of each category of a set: `CATEGORY/mean@n`, or `CATEGORY/greedy` without samples.

The category of a problem is what the column `category` of its source says, a subject or a puzzle's
task; a dot leads into a column.

Source: ProRL section 4.3, Figure 2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from oapl.evaluation import per_problem
from oapl.evaluation.measures.base import over_problems
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics


def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:
    """See `oapl.evaluation.measures.base.MeasureFile`."""
    groups: defaultdict[str, list[Problem]] = defaultdict(list)
    for problem in problems if protocol.category else ():
        if (name := category_of(problem.prompt.reference, protocol.category)) is not None:
            groups[name].append(problem)
    metrics: Metrics = {}
    for name, those in sorted(groups.items()):
        if protocol.num_samples:
            measured = f"{name}/mean@{protocol.num_samples}"
            metrics |= over_problems(measured, per_problem.mean, those, protocol)
        else:
            metrics |= over_problems(f"{name}/greedy", per_problem.greedy, those, protocol)
    return metrics


def category_of(reference: Mapping[str, Any], column: str) -> str | None:
    """Read a problem's category; None where it has none.

    Args:
        reference: Columns of its row.
        column: A dot leads into one.

    Returns:
        Fit to be a part of a metric's name.
    """
    value: Any = reference
    for part in (column,) if column in reference else column.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return None if value is None else "_".join(str(value).split()).replace("/", "_")
