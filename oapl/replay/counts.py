"""What the replay buffer reports: counts and moments since the last report, under metric names.

Invariant: a number that was not observed is absent, never zero or NaN; a count is always there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from oapl.records import Credit, Metrics, ScoredGroup

ALWAYS = (
    "replay/accepted",
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


@dataclass(slots=True)
class Moments:
    """Count, mean, spread and range of a stream of numbers, in constant memory."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0  # sum of squared deviations from the mean (Chan's merge)
    low: float = math.inf
    high: float = -math.inf

    def add(self, values: Iterable[float] | np.ndarray) -> None:
        new = np.asarray(values if isinstance(values, np.ndarray) else list(values), np.float64)
        if new.size == 0:
            return
        total, shift = self.count + new.size, float(new.mean()) - self.mean
        self.squares += float(((new - new.mean()) ** 2).sum())
        self.squares += shift**2 * self.count * new.size / total
        self.mean += shift * new.size / total
        self.count = total
        self.low, self.high = min(self.low, float(new.min())), max(self.high, float(new.max()))

    @property
    def std(self) -> float:
        """Population standard deviation."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


class ReplayCounts:
    """Collects since the last `drain`."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._moments: dict[str, Moments] = {}

    def count(self, name: str, number: int = 1) -> None:
        self._counts[name] += number

    def refuse(self, why: str, num_tokens: int) -> None:
        """A group was not accepted."""
        self.count("replay/duplicates" if why == "duplicate" else f"replay/refused_{why}")
        self.count("replay/refused_tokens", num_tokens)

    def clear(self, num_groups: int, lengths: Sequence[int], in_flight: int) -> None:
        """A synchronisation threw finished groups away and took draws back."""
        self.count("replay/cleared_groups", num_groups)
        self.count("replay/cleared_tokens", sum(lengths))
        self._add("cleared", lengths)
        self.count("rollout/aborted_groups", in_flight)

    def waste(self, num_tokens: int, group_size: int) -> None:
        """A group ended unfinished after `num_tokens` response tokens."""
        self.count("replay/wasted_tokens", num_tokens)
        self._add("aborted", [num_tokens / group_size])

    def lease(self, lags: Iterable[int]) -> None:
        """Groups went to the learner, so many learner steps after their version."""
        self._add("lag", lags)

    def accept(self, scored: ScoredGroup, credit: Credit) -> None:
        """A group was accepted, whether the objective keeps it or drops it."""
        rollouts = scored.group.rollouts
        self.count("replay/accepted")
        self._add("reward", np.asarray(scored.rewards))
        self._add("uniform", [float(np.ptp(scored.rewards) == 0)])
        self._add("length", [len(rollout.token_ids) for rollout in rollouts])
        self._add("truncated", [rollout.is_truncated for rollout in rollouts])
        self._add("seconds", [scored.group.seconds])
        for name, value in credit.metrics.items():
            self._add(f"credit:{name}", [value])

    def _add(self, name: str, values: Iterable[float] | np.ndarray) -> None:
        self._moments.setdefault(name, Moments()).add(values)

    def drain(self) -> Metrics:
        """The report, and a fresh start."""
        report: Metrics = dict.fromkeys(ALWAYS, 0.0)
        report |= {name: float(number) for name, number in self._counts.items()}
        for name, moments in self._moments.items():
            if moments.count:
                report |= _report(name, moments)
        self._counts.clear()
        self._moments.clear()
        return report


def _report(name: str, m: Moments) -> Metrics:
    if name.startswith("credit:"):
        return expand(name.removeprefix("credit:"), m)
    return {
        "cleared": {"replay/cleared_length_mean": m.mean},
        "aborted": {"rollout/aborted_length_mean": m.mean},
        "lag": {"replay/lag_mean": m.mean, "replay/lag_max": m.high},
        "reward": {"reward/mean": m.mean, "reward/std": m.std},
        "uniform": {"reward/uniform_groups": m.mean},
        "length": {"rollout/length_mean": m.mean, "rollout/length_max": m.high},
        "truncated": {"rollout/truncated_rate": m.mean},
        "seconds": {"rollout/group_seconds_mean": m.mean, "rollout/group_seconds_max": m.high},
    }[name]


def expand(name: str, m: Moments) -> Metrics:
    """A plain name is the mean; one that ends in `_*` gives mean, std, min and max."""
    if not name.endswith("_*"):
        return {name: m.mean}
    base = name.removesuffix("*")
    return {base + "mean": m.mean, base + "std": m.std, base + "min": m.low, base + "max": m.high}
