"""How rollouts are drawn in a run, and how the answers of its evaluations are."""

from __future__ import annotations

from oapl.config import RunConfig
from oapl.records import Sampling


def of_rollouts(config: RunConfig) -> Sampling:
    """As the section `rollout` says."""
    section = config.rollout
    return Sampling(
        temperature=section.temperature,
        top_p=section.top_p,
        top_k=section.top_k,
        max_tokens=section.max_tokens,
    )


def of_evaluations(config: RunConfig) -> Sampling:
    """As the section `eval` says, or, where it asks for that, as rollouts are."""
    section = config.eval
    if section.as_rollouts:
        return of_rollouts(config)
    return Sampling(
        temperature=section.temperature,
        top_p=section.top_p,
        top_k=section.top_k,
        max_tokens=section.max_tokens or config.rollout.max_tokens,
    )
