"""Format: the share of responses with a thought between paired `<think>` and `</think>`, also where
the prompt opened it. Whether the answer is right is another matter.

Source: ReMix section 4.4.4, Table 5.
"""

from __future__ import annotations

from collections.abc import Sequence

from oapl.evaluation import per_problem
from oapl.evaluation.measures.base import over_problems
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics


def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:
    """See `oapl.evaluation.measures.base.MeasureFile`."""
    return over_problems("think_rate", per_problem.think, problems, protocol)
