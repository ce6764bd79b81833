"""The reward server: judges rollouts by their prompt's verifiers, in processes it can kill.

Invariants: every task gets exactly one judgement, in order; a reward is never a silent 0: what an
answer caused (a hang, a crash, an exception, a number that is not finite) gets
`reward.on_failure` and is counted, what we caused is a `failure` and has no reward (NaN).
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from oapl.config import RunConfig
from oapl.config.sections import RewardSection
from oapl.counters import Moments
from oapl.records import KINDS, Judgement, Metrics, Prompt, Rollout, Trouble, Verdict
from reward_server import settings
from reward_server.pool.fork_server import Setup
from reward_server.pool.forks import Forks
from reward_server.pool.lane import Lane
from reward_server.sandbox import jail, levels
from reward_server.settings import check, prepare
from reward_server.troubles import Troubles

__all__ = ["RewardServer", "build", "check", "prepare"]

FAILED = ("timeout", "error")
"""Kinds of verdict whose reward is `reward.on_failure`, whatever the verifier says; of the others
only where a worker process died of the answer, or forged its verdict."""
DEADLY = ("runtime_error", "resource_limit", "sandbox_violation")
FAULTS = (
    *FAILED,
    *DEADLY,
    "failures",
    "lost_workers",
    "failed_starts",
    "forged",
    "leaks",
    "fork_server_restarts",
)
"""What is counted as `faults/reward_*`: kinds of verdict, then what befell the pool."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class VerdictCounts:
    """Verdicts of one verifier since the last report."""

    rewards: Moments = field(default_factory=Moments)
    latencies_s: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    parts: defaultdict[str, Moments] = field(default_factory=lambda: defaultdict(Moments))
    kinds_by_source: Counter[tuple[str, str]] = field(default_factory=Counter)
    num_errors: int = 0
    num_failures: int = 0

    def add(self, verdicts: Sequence[Verdict], sources: Sequence[str]) -> None:
        """Count some verdicts.

        Args:
            verdicts: With their rewards as they stand after `reward.on_failure`.
            sources: Per verdict the data source of its prompt.
        """
        kinds = [verdict.kind for verdict in verdicts]
        self.rewards.add(verdict.reward for verdict in verdicts)
        self.kinds.update(kinds)
        self.kinds_by_source.update(zip(sources, kinds, strict=True))
        parts: defaultdict[str, list[float]] = defaultdict(list)
        for verdict in verdicts:
            for part, value in verdict.parts.items():
                parts[part].append(value)
        for part, values in parts.items():
            self.parts[part].add(values)

    def metrics(self, name: str) -> Metrics:
        """Report means of reward and parts, shares of what went wrong, and waiting plus work."""
        count = self.rewards.count
        if not count:
            return {f"reward/{name}/failures": float(self.num_failures)}
        rates = {
            "malformed_rate": self.kinds["malformed"] / count,
            "timeout_rate": self.kinds["timeout"] / count,
            "error_rate": self.num_errors / count,
        }
        for source in {source for source, _ in self.kinds_by_source}:
            judged = sum(self.kinds_by_source[source, kind] for kind in KINDS)
            place = source.replace("/", "_")
            rates[f"malformed_rate/{place}"] = self.kinds_by_source[source, "malformed"] / judged
            rates[f"timeout_rate/{place}"] = self.kinds_by_source[source, "timeout"] / judged
        p50, p95 = np.percentile(self.latencies_s, (50, 95))
        measures = {
            **{part: values.mean for part, values in self.parts.items()},
            "mean": self.rewards.mean,
            "judged": count,
            "failures": self.num_failures,
            **rates,
            "latency_p50_s": p50,
            "latency_p95_s": p95,
        }
        return {f"reward/{name}/{measure}": float(value) for measure, value in measures.items()}


class RewardServer:
    """Scores rollouts; implements `oapl.interfaces.Scorer`.

    Args:
        config: Workers per verifier, deadline, bounds of the queues, reward of a failure.
        setup: The verifiers and the module search path of the worker processes.
        most_in_vain: A verifier that gave no verdict on so many responses in a row does not work.
    """

    def __init__(self, config: RewardSection, *, setup: Setup, most_in_vain: int) -> None:
        self._config = config
        self._troubles = Troubles(most_in_vain)
        self._programs = setup.programs
        self._forks = Forks(setup)
        self._lanes = {
            name: Lane(
                name,
                self._forks,
                num_workers=limits.workers or config.workers,
                deadline_s=limits.deadline_s or config.deadline_s,
                limits=limits,
                capacity=config.max_waiting,
                wait_s=config.max_wait_s,
                retries=config.retries,
            )
            for name, limits in setup.limits().items()
        }
        self._counts: defaultdict[str, VerdictCounts] = defaultdict(VerdictCounts)
        self._faults: Counter[str] = Counter()

    async def score(self, tasks: Sequence[tuple[Prompt, Rollout]]) -> list[Judgement]:
        """Give one judgement per task, in order: the weighted sum of its prompt's verifiers."""
        per_lane: defaultdict[str, list[int]] = defaultdict(list)
        for index, (prompt, _) in enumerate(tasks):
            for name in prompt.verifiers:
                per_lane[name].append(index)
        verdicts: list[dict[str, Verdict]] = [{} for _ in tasks]
        failures: list[str | None] = [None] * len(tasks)
        await asyncio.gather(
            *(
                self._judge(name, indices, tasks, verdicts, failures)
                for name, indices in per_lane.items()
            )
        )
        return [
            _judgement(prompt, verdicts[index], failures[index])
            for index, (prompt, _) in enumerate(tasks)
        ]

    async def stats(self) -> Metrics:
        """Report what happened since the last call."""
        metrics: Metrics = {"reward/sandbox_level": self._level()}
        faults = Counter(self._faults)
        for name, lane in self._lanes.items():
            metrics |= self._counts[name].metrics(name)
            metrics[f"reward/{name}/queue_length"] = float(lane.take_peak())
            faults += lane.events
            lane.events.clear()
        faults["fork_server_restarts"] += self._forks.num_restarts
        self._forks.num_restarts = 0
        metrics |= {f"faults/reward_{name}": float(faults[name]) for name in FAULTS}
        self._counts.clear()
        self._faults.clear()
        return metrics

    async def troubles(self, timeout_s: float) -> list[Trouble]:
        """See `oapl.interfaces.RewardServer`."""
        return await self._troubles.take(timeout_s)

    def processes(self) -> list[int]:
        """Process ids of the fork server and of the present workers."""
        return [self._forks.pid, *(pid for lane in self._lanes.values() for pid in lane.pids)]

    def _level(self) -> int:
        """The level of the sandbox for programs, or of the workers' jail where none are run."""
        if self._programs is not None:
            return levels.LEVELS.index(self._programs)
        return jail.LEVELS.index(self._forks.level)

    async def close(self) -> None:
        """Kill every process; calls in progress end with a failure."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))
        await self._forks.close()

    async def _judge(
        self,
        name: str,
        indices: Sequence[int],
        tasks: Sequence[tuple[Prompt, Rollout]],
        verdicts: list[dict[str, Verdict]],
        failures: list[str | None],
    ) -> None:
        """Verdicts of one verifier on the tasks at `indices`, written where they belong."""
        lane = self._lanes.get(name)
        if lane is None:
            known = ", ".join(self._lanes)
            for index in indices:
                failures[index] = f"no verifier {name!r} is configured (there are {known})"
            self._faults["failures"] += len(indices)
            return
        call = await lane.judge([tasks[index] for index in indices])
        counts, judged, sources = self._counts[name], [], []
        for index, outcome in zip(indices, call.outcomes, strict=True):
            if not isinstance(outcome, Verdict):
                counts.num_failures += 1
                self._faults["failures"] += 1
                failures[index] = str(outcome)
                self._troubles.failed(name, tasks[index][0].id, "failure", str(outcome))
                continue
            if outcome.kind in FAILED or outcome.reward != outcome.reward:
                outcome = self._failed(name, tasks[index][0], outcome)
            else:
                self._troubles.worked(name)
            verdicts[index][name] = outcome
            judged.append(outcome)
            sources.append(tasks[index][0].source)
        counts.add(judged, sources)
        counts.latencies_s += call.latencies_s

    def _failed(self, name: str, prompt: Prompt, verdict: Verdict) -> Verdict:
        """The verdict with the configured reward."""
        self._faults[verdict.kind] += 1
        self._counts[name].num_errors += verdict.kind != "timeout"
        self._troubles.failed(name, prompt.id, verdict.kind, verdict.detail)
        return replace(verdict, reward=self._config.on_failure)


def build(config: RunConfig) -> RewardServer:
    """Make a reward server for the verifiers that judge something; its processes start at once.

    Raises:
        InputError: This machine's sandbox is weaker than `reward.min_level`.
    """
    measured = settings.sandbox(config)
    setup = Setup(
        path=list(sys.path),
        verifiers={one.name: (one.plugin, one.options) for one in settings.in_use(config)},
        programs=measured.level if measured else None,
    )
    if measured:
        log.info("%s", measured)
    return RewardServer(config.reward, setup=setup, most_in_vain=config.learner.batch_size)


def _judgement(prompt: Prompt, verdicts: Mapping[str, Verdict], failure: str | None) -> Judgement:
    if not prompt.verifiers:
        failure = f"prompt {prompt.id} names no verifier"
    if failure is not None:
        return Judgement(reward=math.nan, verdicts=verdicts, failure=failure)
    reward = 0.0
    for name, weight in prompt.verifiers.items():
        reward += weight * verdicts[name].reward
    return Judgement(reward=reward, verdicts=verdicts)
