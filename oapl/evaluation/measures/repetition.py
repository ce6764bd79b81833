"""How much the responses repeat themselves; see `oapl.repetition`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oapl.evaluation.per_problem import samples_of
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics
from oapl.repetition import repetition_rate


def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:
    """See `oapl.evaluation.measures.base.MeasureFile`."""
    rates = [repetition_rate(rollout.token_ids) for rollout, _ in samples_of(problems)]
    return {"repetition_rate": float(np.mean(rates))} if rates else {}
