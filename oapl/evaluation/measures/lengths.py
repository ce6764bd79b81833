"""How long the responses are: their mean, and what half, nine tenths and 99 % of them stay within.

A quantile is a length that occurs: the smallest within which that share lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oapl.evaluation.per_problem import samples_of
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics

QUANTILES = {"length_p10": 10, "length_p50": 50, "length_p90": 90, "length_p99": 99}
"""Per cent of the responses."""


def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:
    """See `oapl.evaluation.measures.base.MeasureFile`."""
    lengths = [len(rollout.token_ids) for rollout, _ in samples_of(problems)]
    if not lengths:
        return {}
    at = np.percentile(lengths, list(QUANTILES.values()), method="inverted_cdf")
    quantiles = {name: float(length) for name, length in zip(QUANTILES, at, strict=True)}
    return {"length_mean": float(np.mean(lengths)), **quantiles}
