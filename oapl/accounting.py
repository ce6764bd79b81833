"""Where a run's seconds went, from its lines of metrics: sums of what each line says of itself.

A line tells the learner's seconds since the line before by state, and the engines' too. Invariants:
a line's learner seconds are the time that it closes, and its engines' seconds that time by the
engines there are; what was set aside by a resume was spent as well, and counts as made in vain.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

LEARNER, ENGINES = "seconds/learner/", "seconds/engines/"
"""How the names of seconds begin; the rest is the state."""
DEVICES = "seconds/devices"
START, RESTART = "start", "restart"
"""Until an engine holds the first weights: after a start of the command, and after a failure in the
same command."""
DATA, SYNCHRONISE = "data", "synchronise"
"""Waiting for a batch: of the period under way, and for the first one after a publication."""
PUBLISH, EVALUATE, CHECKPOINT = "publish", "evaluate", "checkpoint"
PREPARE, UPDATE, OTHER = "prepare", "update", "other"
FINISH = "finish"
"""From the last line of a step to the end: the last evaluation, the model that is saved."""
WAITS = (DATA, SYNCHRONISE)
ON_WORKERS = (WAITS, (PUBLISH,))
"""States in which the learner waits for workers, each group with a usual time of its own."""
SETTING_UP = (START, RESTART)
AWAITS_EVALUATION = (*SETTING_UP, PUBLISH, CHECKPOINT)
"""States in which the learner waits for an evaluation, if one is made meanwhile."""
GENERATE, THROWN_AWAY, LOAD, IDLE, ABSENT = "generate", "thrown_away", "load", "idle", "absent"
"""Of engines: at work for what was kept and for what was not; absent is what none has told: they
were not there yet, or are silent."""
FAULTS = (
    "faults/worker_restarts",
    "faults/engine",
    "faults/reward_servers_down",
    "faults/reward_server_restarts",
)
"""From a line that counts one to the first in which no engine is missing, a learner that waits
longer than usual waits on a fault."""
MISSING = 0.5
"""Engines absent on average, in a line, of which one is missing."""
USUAL = 50
"""Lines without a fault whose median wait is the usual one."""

Row = Mapping[str, float | None]


@dataclass(slots=True)
class Account:
    """Sums over lines.

    Attributes:
        learner, engines: Seconds by state; of the engines added up over all of them.
        redone_s: The learner's seconds in lines that were set aside: that work was made again.
        held_s: Seconds of all devices that the run held.
        on_faults_s: What it waited beyond the usual from a fault until all engines are back.
    """

    learner: dict[str, float] = field(default_factory=dict)
    engines: dict[str, float] = field(default_factory=dict)
    redone_s: float = 0.0
    held_s: float = 0.0
    on_faults_s: float = 0.0
    _is_faulty: bool = False
    _waits: tuple[deque[float], ...] = field(
        default_factory=lambda: tuple(deque(maxlen=USUAL) for _ in ON_WORKERS)
    )

    def add(self, row: Row, *, is_lost: bool = False) -> None:
        """Take in a line; one without seconds changes nothing.

        Args:
            row: Of metrics, by name.
            is_lost: It was set aside, as its step was made again.
        """
        told, engines = _states(row, LEARNER), _states(row, ENGINES)
        _add(self.learner, told)
        _add(self.engines, engines)
        self.held_s += row.get(DEVICES) or 0.0
        if is_lost:
            self.redone_s += sum(told.values()) - _setting_up(told)
            return
        is_missing = engines.get(ABSENT, 0.0) > MISSING * sum(told.values())
        counts = any(row.get(name) for name in FAULTS)
        self._is_faulty = counts or (self._is_faulty and (is_missing or not told))
        for states, waits in zip(ON_WORKERS, self._waits, strict=True):
            there = [told[state] for state in states if state in told]
            if self._is_faulty:
                usual = statistics.median(waits) if waits else 0.0
                self.on_faults_s += max(sum(there) - usual, 0.0)
            elif UPDATE in told and (there or states == WAITS):
                waits.append(sum(there))

    @property
    def wall_s(self) -> float:
        """The learner's seconds."""
        return sum(self.learner.values())

    @property
    def ettr(self) -> float:
        """Effective training time ratio, from 0 to 1: 1 - (start and restarts + work made again +
        waits on faults) / wall time. 1 of no time at all.

        Source: productive over available time, as in "Revisiting Reliability in Large-Scale
        Machine Learning Research Clusters" (arXiv 2410.21680); without the time in which nothing
        runs, which a run cannot know.
        """
        if not self.wall_s:
            return 1.0
        lost_s = _setting_up(self.learner) + self.redone_s + self.on_faults_s
        return min(max(1.0 - lost_s / self.wall_s, 0.0), 1.0)


def account(rows: Iterable[Row], lost: Iterable[Row] = ()) -> Account:
    """Add up a run.

    Args:
        rows: Its lines of metrics, in order.
        lost: Those that resumes have set aside.
    """
    made = Account()
    for row in lost:
        made.add(row, is_lost=True)
    for row in rows:
        made.add(row)
    return made


def engine_seconds(
    counters: Mapping[str, float], tokens: Tokens, *, passed_s: float, num_engines: int
) -> dict[str, float]:
    """Divide what the engines did since the last line among the states.

    What they were at work for is divided by tokens: those of evaluations, those thrown away, the
    rest.

    Args:
        counters: `engine/busy_s`, `engine/idle_s`, `engine/load_s`, added up over the engines, and
            `engine/evaluation_busy_s` of those set aside.
        tokens: Of the same time.
        passed_s: Since the last line.
        num_engines: How many there should be.

    Returns:
        Seconds by state, whose sum is `passed_s` by `num_engines`; `ABSENT` is below 0 where
        counters of the time before came late.
    """
    busy_s = counters.get("engine/busy_s", 0.0)
    in_vain, examined = tokens.shares()
    found = {
        GENERATE: busy_s * (1.0 - in_vain - examined),
        THROWN_AWAY: busy_s * in_vain,
        EVALUATE: busy_s * examined + counters.get("engine/evaluation_busy_s", 0.0),
        LOAD: counters.get("engine/load_s", 0.0),
        IDLE: counters.get("engine/idle_s", 0.0),
    }
    return {**found, ABSENT: passed_s * num_engines - sum(found.values())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens that engines made in a while.

    Attributes:
        total: All of them.
        thrown_away: Of those, for groups that nobody will train on.
        evaluated: Of those, for evaluations.
    """

    total: float
    thrown_away: float
    evaluated: float

    def shares(self) -> tuple[float, float]:
        """The shares thrown away and evaluated, together at most 1: groups that are thrown away
        may have been made before."""
        most = max(self.total, self.thrown_away + self.evaluated, 1.0)
        return self.thrown_away / most, self.evaluated / most


def _states(row: Row, prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): value
        for name, value in row.items()
        if name.startswith(prefix) and value is not None
    }


def _add(sums: dict[str, float], more: Mapping[str, float]) -> None:
    for state, seconds in more.items():
        sums[state] = sums.get(state, 0.0) + seconds


def _setting_up(seconds: Mapping[str, float]) -> float:
    return sum(seconds.get(state, 0.0) for state in SETTING_UP)
