"""Entropy of the policy on its samples: the mean of -ln p over their tokens, p what they were drawn
with. Without bias, since the tokens were drawn from the very distribution that is measured; none
where the engine recorded no log-probs, and none of greedy answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.records import Metrics


def measure(problems: Sequence[Problem], protocol: Protocol) -> Metrics:
    """See `oapl.evaluation.measures.base.MeasureFile`."""
    rollouts = [rollout for problem in problems for rollout, _ in problem.samples]
    found = [r.inference_logprobs for r in rollouts if r.inference_logprobs is not None]
    if not rollouts or len(found) < len(rollouts) or not (tokens := sum(map(len, found))):
        return {}
    return {"entropy": -float(sum(part.sum(dtype=np.float64) for part in found)) / tokens}
