"""Self-reflection: the share of responses with at least one word of `eval.reflection_words`.

Source: ReMix section 4.4.2, whose list ends in "etc."; that one word is enough is a reading.
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
    if not protocol.reflection_words:
        return {}
    return over_problems("reflection_rate", per_problem.reflection, problems, protocol)
