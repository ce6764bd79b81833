"""The learner's books: what of a run adds up, closed once per line of metrics.

Seconds of learner and engines by state, rollouts, tokens and hours so far, the effective training
time, and the length of responses beside a baseline's. Invariant: what has passed is in one line, in
one state, and is counted on over restarts, resumes and stages.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from oapl import accounting
from oapl.accounting import Row, Tokens
from oapl.config import RunConfig
from oapl.config.objective import has_engines
from oapl.counters import Counters, Stopwatch
from oapl.devices.base import num_held
from oapl.records import Metrics

THROWN_AWAY = ("replay/wasted_tokens", "replay/cleared_tokens", "replay/refused_tokens")
"""Of groups given back or failed (what was aborted with them is in it), cleared, and refused."""
MADE = ("rollout/tokens", "rollout/aborted_tokens")
SUMS = ("total/rollouts", "total/weighted_rollouts", "total/tokens", "total/iterations")


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is written of a run before it goes on.

    Attributes:
        rows: Its lines of metrics, in order.
        lost: Those that resumes have set aside.
        lengths: By learner step, the mean response length of the run to compare with.
        state: What the learner does first, `start` or `restart`.
        since: When that began, by the monotonic clock; None means now.
    """

    rows: Sequence[Row] = ()
    lost: Sequence[Row] = ()
    lengths: Mapping[int, float] = field(default_factory=dict)
    state: str = accounting.START
    since: float | None = None


class Books:
    """Closes the lines of one attempt.

    Args:
        config: The run's.
        past: What came before; None: nothing.

    Attributes:
        watch: Knows what the learner does; whoever changes that tells it.
        takes: Since the last line.
    """

    def __init__(self, config: RunConfig, past: Past | None = None) -> None:
        past = past or Past()
        self._since = time.monotonic() if past.since is None else past.since
        self._seconds = Counters()
        self.watch = Stopwatch(self._seconds, "{}", past.state, self._since)
        self.takes = 0
        self._account = accounting.account(past.rows, past.lost)
        self._lengths = past.lengths
        self._sums = _last_sums(past.rows)
        self._num_engines = config.rollout.num_engines if has_engines(config) else 0
        self._num_devices = num_held(config)
        limit = config.rollout.max_tokens
        self._weight = limit / (config.tracking.full_rollout_tokens or limit)

    def close(self, values: Metrics, step: int, now: float) -> None:
        """Close a line: add what is known of its seconds, and the sums so far.

        Args:
            values: Of the line, with the engines' counters as they came; is added to.
            step: Learner steps of the run.
            now: By the monotonic clock.
        """
        self.watch.count(now)
        passed_s, self._since = now - self._since, now
        mine = self._seconds.take()
        values |= {f"seconds/learner/{state}": mine[state] for state in mine}
        values["seconds/devices"] = passed_s * self._num_devices
        if self._num_engines:
            spent = accounting.engine_seconds(
                values, _tokens(values), passed_s=passed_s, num_engines=self._num_engines
            )
            values |= {f"seconds/engines/{state}": spent[state] for state in spent}
        self._account.add(values)
        self._sum_up(values)
        if (length := self._lengths.get(step)) and "rollout/length_mean" in values:
            values["rollout/relative_length"] = values["rollout/length_mean"] - length

    def _sum_up(self, values: Metrics) -> None:
        rollouts = values.get("replay/accepted_rollouts", 0.0)
        tokens = values.get("replay/accepted_tokens", 0.0)
        takes, self.takes = self.takes, 0
        for name, more in zip(
            SUMS, (rollouts, rollouts * self._weight, tokens, takes), strict=True
        ):
            values[name] = self._sums[name] = self._sums[name] + more
        values["total/hours"] = self._account.wall_s / 3600
        values["total/device_hours"] = self._account.held_s / 3600
        values["total/ettr"] = self._account.ettr


def _tokens(values: Metrics) -> Tokens:
    return Tokens(
        total=sum(values.get(name, 0.0) for name in MADE),
        thrown_away=sum(values.get(name, 0.0) for name in THROWN_AWAY),
        evaluated=values.get("rollout/evaluated_tokens", 0.0),
    )


def _last_sums(rows: Sequence[Row]) -> Metrics:
    """Of the last line that has them; what was made in vain is not in it."""
    last: Row = next((row for row in reversed(rows) if SUMS[0] in row), {})
    return {name: last.get(name) or 0.0 for name in SUMS}
