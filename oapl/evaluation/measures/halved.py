"""What half the limit would cost: the stored responses cut again, without generating.

`halved_right` is the share of right responses when those of more than half of `max_tokens` count as
cut off, `halved_loss` what that loses against the whole limit, in points. A policy that knew of the
shorter limit could do better: it would be another evaluation.

Source: ReMix section 4.4.3, Table 4.
"""

from __future__ import annotations

from collections.abc import Sequence

from oapl.evaluation import per_problem
from oapl.evaluation.measures.base import over_problems
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics

POINTS = 100


def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:
    """See `oapl.evaluation.measures.base.MeasureFile`."""
    halved = over_problems("halved_right", per_problem.halved, problems, protocol)
    if not halved:
        return {}
    whole = over_problems("right", per_problem.right, problems, protocol)
    return halved | {"halved_loss": POINTS * (whole["right"] - halved["halved_right"])}
