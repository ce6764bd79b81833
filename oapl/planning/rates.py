"""What machines do in a second, and who says so.

Invariant: a rate that nobody measured or gave is an assumption, and stays one in whatever is made
of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

ASSUMED, MEASURED, GIVEN = "assumed", "measured", "given"


@dataclass(frozen=True, slots=True)
class Rate:
    """A number.

    Attributes:
        value: In the unit of its field in `Rates`.
        kind: `ASSUMED`, `MEASURED` or `GIVEN`.
        why: Where it was measured, or what the assumption rests on.
    """

    value: float
    kind: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """All that a forecast wants to know of machines, model and data.

    Attributes:
        learner_tokens_per_s: Of one rank: a pass over a token, forward and backward, and whatever
            else the objective computes.
        step_s: Of a learner step, beside its tokens.
        between_s: From one learner step to the next, beside waiting for groups.
        engine_tokens_per_s: Of one engine that is full.
        engine_rollouts: Rollouts at work at a time in an engine that is full.
        alone: How many times as fast a rollout is alone as in a full engine.
        prompt_tokens: Of a prompt.
        kept: Share of the groups that the objective's filter leaves.
        judge_s: Of a response in one reward process, over all verifiers that judge it.
        host_bytes_per_s: Of a publication inside hosts: gather, cast, copy, check, load, probe.
        network_bytes_per_s: From one machine to another.
        disk_bytes_per_s: Of a storage that all machines share, all together.
        replay_tokens_per_s: Through the replay buffer.
    """

    learner_tokens_per_s: Rate
    step_s: Rate
    between_s: Rate
    engine_tokens_per_s: Rate
    engine_rollouts: Rate
    alone: Rate
    prompt_tokens: Rate
    kept: Rate
    judge_s: Rate
    host_bytes_per_s: Rate
    network_bytes_per_s: Rate
    disk_bytes_per_s: Rate
    replay_tokens_per_s: Rate

    def updated(self, known: Mapping[str, Rate]) -> Rates:
        """Put what is known in the place of what was assumed.

        Args:
            known: By the name of the field.
        """
        return dataclasses.replace(self, **known)

    def assumed(self) -> list[str]:
        """Name the fields that nobody measured or gave."""
        return [name for name in FIELDS if getattr(self, name).kind == ASSUMED]


FIELDS = tuple(field.name for field in dataclasses.fields(Rates))
UNITS = {
    "learner_tokens_per_s": "tokens/s a rank",
    "step_s": "s a learner step",
    "between_s": "s a learner step",
    "engine_tokens_per_s": "tokens/s an engine",
    "engine_rollouts": "rollouts an engine",
    "alone": "times",
    "prompt_tokens": "tokens",
    "kept": "of the groups",
    "judge_s": "s a response",
    "host_bytes_per_s": "bytes/s",
    "network_bytes_per_s": "bytes/s",
    "disk_bytes_per_s": "bytes/s",
    "replay_tokens_per_s": "tokens/s",
}
