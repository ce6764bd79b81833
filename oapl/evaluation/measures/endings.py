"""How the responses end: cut off at the limit, or without an answer in the form asked for."""

from __future__ import annotations

from collections.abc import Sequence

from oapl.evaluation.per_problem import samples_of
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics


def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:
    """See `oapl.evaluation.measures.base.MeasureFile`.

    `malformed_rate` is of those that ended: what was cut off is not blamed for its form.
    """
    judged = samples_of(problems)
    if not judged:
        return {}
    ended = [judgement for rollout, judgement in judged if not rollout.is_truncated]
    malformed = [any(v.kind == "malformed" for v in j.verdicts.values()) for j in ended]
    return {
        "truncated_rate": 1 - len(ended) / len(judged),
        "malformed_rate": sum(malformed) / max(len(ended), 1),
    }
