"""What the replay buffer reports: counts and moments since the last report, under metric names.

Invariant: a number that was not observed is absent, never zero or NaN; a count of `ALWAYS` is
always there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from oapl.counters import STATISTICS, Counters, Moments
from oapl.records import Credit, Metrics, ScoredGroup
from oapl.repetition import ends_in_loop, repetition_rate

ALWAYS = (
    "replay/accepted",
    "replay/accepted_rollouts",
    "replay/accepted_tokens",
    "replay/dropped",
    "replay/failed",
    "replay/returned",
    "replay/deaths",
    "replay/refused_stale",
    "replay/refused_tokens",
    "replay/duplicates",
    "replay/cleared_groups",
    "replay/cleared_tokens",
    "rollout/aborted_groups",
    "replay/wasted_tokens",
)
REPORTED = {
    "replay/lag_*": ("mean", "max"),
    "reward/*": ("mean", "std"),
    "rollout/length_*": ("mean", "max"),
    "rollout/group_seconds_*": ("mean", "max"),
}
"""Of these not all statistics."""


def observed(scored: ScoredGroup, credit: Credit) -> dict[str, Moments]:
    """What an accepted group adds to the report, whether the objective keeps it or drops it.

    Args:
        scored: Rewards float32 [G] and the rollouts behind them.
        credit: Of which only the metrics are reported.
    """
    rollouts = scored.group.rollouts
    is_uniform, is_right = bool(np.ptp(scored.rewards) == 0), bool(scored.rewards[0] > 0)
    streams: dict[str, Iterable[float] | np.ndarray] = {
        "reward/*": scored.rewards,
        "reward/uniform_groups": [is_uniform],
        "reward/uniform_right_groups": [is_uniform and is_right],
        "reward/uniform_wrong_groups": [is_uniform and not is_right],
        "rollout/length_*": [len(rollout.token_ids) for rollout in rollouts],
        "rollout/repetition_rate": [repetition_rate(r.token_ids) for r in rollouts],
        "rollout/loop_rate": [ends_in_loop(r.token_ids) for r in rollouts],
        "rollout/truncated_rate": [rollout.is_truncated for rollout in rollouts],
        "rollout/group_seconds_*": [scored.group.seconds],
        **{name: [value] for name, value in credit.metrics.items()},
    }
    moments = {name: Moments() for name in streams}
    for name, values in streams.items():
        moments[name].add(values)
    return moments


class ReplayCounts:
    """Collects since the last `take`."""

    def __init__(self) -> None:
        self._counters = Counters()
        self._moments: defaultdict[str, Moments] = defaultdict(Moments)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a count.

        Args:
            name: A metric's, `replay/...` or `rollout/...`.
            number: How much.
        """
        self._counters.add({name: number})

    def refuse(self, why: str, num_tokens: int) -> None:
        """A group was not accepted.

        Args:
            why: As in `Ledger.put`, or `released`.
            num_tokens: Response tokens of the group.
        """
        self.count("replay/duplicates" if why == "duplicate" else f"replay/refused_{why}")
        self.count("replay/refused_tokens", num_tokens)

    def clear(self, num_groups: int, lengths: Sequence[int], in_flight: int) -> None:
        """A synchronisation threw finished groups away and took draws back.

        Args:
            num_groups: Finished groups.
            lengths: Response tokens of each of their rollouts.
            in_flight: Draws taken back.
        """
        self.count("replay/cleared_groups", num_groups)
        self.count("replay/cleared_tokens", sum(lengths))
        self._moments["replay/cleared_length_mean"].add(lengths)
        self.count("rollout/aborted_groups", in_flight)

    def waste(self, num_tokens: int, group_size: int) -> None:
        """A group ended unfinished.

        Args:
            num_tokens: Response tokens generated for it.
            group_size: G.
        """
        self.count("replay/wasted_tokens", num_tokens)
        self._moments["rollout/aborted_length_mean"].add([num_tokens / group_size])

    def lease(self, lags: Iterable[int]) -> None:
        """Groups went to the learner, so many learner steps after their version."""
        self._moments["replay/lag_*"].add(lags)

    def use_again(self, in_period: int, of_history: int) -> None:
        """Groups that have their fate were used once more.

        Args:
            in_period: Of the present period.
            of_history: Of earlier iterations.
        """
        if in_period:
            self.count("replay/reused", in_period)
        if of_history:
            self.count("replay/history", of_history)

    def accept(self, moments: Mapping[str, Moments]) -> None:
        """A group was accepted, of which these are `observed`."""
        self.count("replay/accepted")
        lengths = moments["rollout/length_*"]
        self.count("replay/accepted_rollouts", lengths.count)
        self.count("replay/accepted_tokens", round(lengths.count * lengths.mean))
        for name, one in moments.items():
            self._moments[name].merge(one)

    def take(self) -> Metrics:
        """The report, and a fresh start."""
        report: Metrics = dict.fromkeys(ALWAYS, 0.0) | self._counters.take()
        for name, moments in self._moments.items():
            report |= moments.report(name, REPORTED.get(name, STATISTICS))
        self._moments.clear()
        return report
