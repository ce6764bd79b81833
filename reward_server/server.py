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
from oapl.records import KINDS, Judgement, Metrics, Prompt, Rollout, Verdict
from reward_server import settings
from reward_server.pool.fork_server import Setup
from reward_server.pool.forks import Forks
from reward_server.pool.lane import Lane
from reward_server.sandbox import jail, levels
from reward_server.settings import check, prepare

__all__ = ["RewardServer", "build", "check", "prepare"]

FAILED = ("timeout", "error")
"""Kinds of verdict whose reward is `reward.on_failure`, whatever the verifier says; of the others
only where a worker process died of the answer, or forged its verdict."""
DEADLY = ("runtime_error", "resource_limit", "sandbox_violation")

log = logging.getLogger(__name__)


@dataclass(slots=True)
class VerdictCounts:
    """Verdicts of one verifier since the last report."""

    rewards: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    parts: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    of_sources: Counter[tuple[str, str]] = field(default_factory=Counter)
    num_errors: int = 0
    num_failures: int = 0

    def add(self, verdicts: Sequence[Verdict], sources: Sequence[str]) -> None:
        """Verdicts with their rewards as they stand, and their prompts' sources."""
        kinds = [verdict.kind for verdict in verdicts]
        self.rewards += [verdict.reward for verdict in verdicts]
        self.kinds.update(kinds)
        self.of_sources.update(zip(sources, kinds, strict=True))
        for verdict in verdicts:
            if verdict.parts:
                for part, value in verdict.parts.items():
                    self.parts[part].append(value)

    def metrics(self, name: str) -> Metrics:
        """Means of the reward and its parts, shares of what went wrong, waiting plus work."""
        count = len(self.rewards)
        if not count:
            return {f"reward/{name}/failures": float(self.num_failures)}
        rates = {
            "malformed_rate": self.kinds["malformed"] / count,
            "timeout_rate": self.kinds["timeout"] / count,
            "error_rate": self.num_errors / count,
        }
        for source in {source for source, _ in self.of_sources}:
            judged = sum(self.of_sources[source, kind] for kind in KINDS)
            share = self.of_sources[source, "malformed"] / judged
            rates[f"malformed_rate/{source.replace('/', '_')}"] = share
        p50, p95 = np.percentile(self.latencies_s, (50, 95))
        measures = {
            **{part: float(np.mean(values)) for part, values in self.parts.items()},
            "mean": sum(self.rewards) / count,
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
    """

    def __init__(self, config: RewardSection, *, setup: Setup) -> None:
        self._config = config
        self._programs = setup.programs
        self._template = Forks(setup)
        self._lanes = {
            name: Lane(
                name,
                self._template,
                num_workers=limits.workers or config.workers,
                deadline_s=limits.deadline_s or config.deadline_s,
                capacity=config.max_waiting,
                wait_s=config.max_wait_s,
                retries=config.retries,
            )
            for name, limits in setup.limits().items()
        }
        self._tallies: defaultdict[str, VerdictCounts] = defaultdict(VerdictCounts)
        self._faults: Counter[str] = Counter()
        self._warned: set[tuple[str, str]] = set()

    async def score(self, tasks: Sequence[tuple[Prompt, Rollout]]) -> list[Judgement]:
        """One judgement per task, in order: the weighted sum of its prompt's verifiers."""
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
        """What happened since the last call."""
        metrics: Metrics = {"reward/sandbox_level": self._level()}
        faults = Counter(self._faults)
        for name, lane in self._lanes.items():
            metrics |= self._tallies[name].metrics(name)
            metrics[f"reward/{name}/queue_length"] = float(lane.take_peak())
            faults["lost_workers"] += lane.events["lost"]
            faults["failed_starts"] += lane.events["failed_starts"]
            faults["forged"] += lane.events["forged"]
            faults["leaks"] += lane.events["spent"]
            lane.events.clear()
        faults["template_restarts"] += self._template.num_restarts
        self._template.num_restarts = 0
        pool = ("failures", "lost_workers", "failed_starts", "forged", "leaks", "template_restarts")
        names = (*FAILED, *DEADLY, *pool)
        metrics |= {f"faults/reward_{name}": float(faults[name]) for name in names}
        self._tallies.clear()
        self._faults.clear()
        return metrics

    def processes(self) -> list[int]:
        """Process ids of the template and of the present workers."""
        return [self._template.pid, *(pid for lane in self._lanes.values() for pid in lane.pids)]

    def _level(self) -> int:
        """The level of the sandbox for programs, or of the workers' jail where none are run."""
        if self._programs is not None:
            return levels.LEVELS.index(self._programs)
        return jail.LEVELS.index(self._template.level)

    async def close(self) -> None:
        """Kill every process; calls in progress end with a failure."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))
        await self._template.close()

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
        batch = await lane.judge([tasks[index] for index in indices])
        tally, given, sources = self._tallies[name], [], []
        for index, outcome in zip(indices, batch.outcomes, strict=True):
            if not isinstance(outcome, Verdict):
                tally.num_failures += 1
                self._faults["failures"] += 1
                failures[index] = str(outcome)
                continue
            if outcome.kind in FAILED or outcome.reward != outcome.reward:
                outcome = self._failed(name, outcome)
            verdicts[index][name] = outcome
            given.append(outcome)
            sources.append(tasks[index][0].source)
        tally.add(given, sources)
        tally.latencies_s += batch.latencies_s

    def _failed(self, name: str, verdict: Verdict) -> Verdict:
        """The verdict with the configured reward; each kind is logged once."""
        self._faults[verdict.kind] += 1
        self._tallies[name].num_errors += verdict.kind != "timeout"
        if (name, verdict.kind) not in self._warned:
            self._warned.add((name, verdict.kind))
            log.warning("verifier %s, first %s: %s", name, verdict.kind, verdict.detail)
        return replace(verdict, reward=self._config.on_failure)


def build(config: RunConfig) -> RewardServer:
    """A reward server for the verifiers that judge something; its processes start at once.

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
    return RewardServer(config.reward, setup=setup)


def _judgement(prompt: Prompt, verdicts: Mapping[str, Verdict], failure: str | None) -> Judgement:
    if not prompt.verifiers:
        failure = f"prompt {prompt.id} names no verifier"
    if failure is not None:
        return Judgement(reward=math.nan, verdicts=verdicts, failure=failure)
    reward = sum(weight * verdicts[name].reward for name, weight in prompt.verifiers.items())
    return Judgement(reward=float(reward), verdicts=verdicts)
