"""How often what died, hung or failed is started again: one record per part of a run.

Pure settings; `deploy.run.restarts` counts by them.
"""

from __future__ import annotations

from dataclasses import field

from oapl.config.fields import NonNegative, NonNegativeInt, section

DAY_S = 86400.0


@section
class RestartPolicy:
    """What is done about failures of one part."""

    max_restarts: NonNegativeInt = 3
    """Failures that count and are followed by another start; 0: none is."""
    window_s: NonNegative = 0.0
    """A failure counts for so long; 0: for as long as the run."""
    forgiven_after_s: NonNegative = 0.0
    """Failures before a life longer than this count no more: it was not its start that ended it. 0:
    no life is long enough."""


@section
class PausingPolicy(RestartPolicy):
    """The same of a part that oapl itself starts again."""

    first_pause_s: NonNegative = 1.0
    """Before the start that follows a second failure; doubles with each one more. A first failure
    is bad luck, and waits for nothing."""
    longest_pause_s: NonNegative = 30.0
    """What the pause grows to: long against what a start in vain costs."""


@section
class WorkerRestarts(PausingPolicy):
    """Of a rollout worker, each; a worker whose node has left is waited for, and not counted."""

    max_restarts: NonNegativeInt = 10
    forgiven_after_s: NonNegative = 300.0


@section
class WholeRestarts(PausingPolicy):
    """Of all together, which go back to the last checkpoint."""

    window_s: NonNegative = DAY_S


@section
class RewardServerRestarts(RestartPolicy):
    """Of a reward server, each; Ray starts it again at once."""

    max_restarts: NonNegativeInt = 20
    window_s: NonNegative = 3600.0


@section
class RestartsSection:
    """How often what died, hung or failed is started again. A worker and a reward server are
    replaced alone; for a learner rank, or the replay buffer, the run goes back to its last
    checkpoint by itself (`oapl generate`: to its last whole shard)."""

    worker: WorkerRestarts = field(default_factory=WorkerRestarts)
    rank: WholeRestarts = field(default_factory=WholeRestarts)
    replay: WholeRestarts = field(default_factory=WholeRestarts)
    reward_server: RewardServerRestarts = field(default_factory=RewardServerRestarts)
