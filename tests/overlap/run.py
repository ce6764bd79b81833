"""The same setting with real Ray actors: replay, workers and learner group; engine and trainer
wait the times that the simulation draws."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from deploy.processes.base import Process
from deploy.processes.handles import AsyncHost, RayHandle
from deploy.run.pulse import Pulse
from deploy.run.workers import Workers
from learner.group import LearnerGroup
from learner.surroundings import Surroundings
from oapl.config import RunConfig
from oapl.interfaces import Tracker
from oapl.loops import learn
from oapl.records import CreditedGroup, StepMetrics, TokenScores
from oapl.remote.waiting import within
from tests.overlap.model import GROUPS_PER_STEP, Setting, Shares

TIMEOUT_S = 600.0
TOKENS_PER_STEP = 20
"""Of a response, in the time of a learner step."""
THROWN = ("replay/wasted_tokens", "replay/cleared_tokens", "replay/refused_tokens")
"""Tokens of groups given back, cleared at a synchronisation, refused."""


class SleeperProcesses:
    """`base.Processes` with the replay, trainer and workers of tests.support.sleepers."""

    def __init__(
        self, ray: Any, config: RunConfig, *, worker_options: Mapping[str, Any], start_s: float
    ) -> None:
        self._ray, self._config = ray, config
        self._worker_options, self._start_s = worker_options, start_s
        self._started: list[Process[Any]] = []

    async def start(self, role: str, name: str, **kwargs: Any) -> Process[Any]:
        log = str(self._config.folder / f"{name}.log")
        options = {"num_cpus": 0.1, **(self._worker_options if role == "worker" else {})}
        actor = (
            self._ray.remote(AsyncHost)
            .options(**options)
            .remote(f"tests.support.sleepers:build_{role}", self._config, log, kwargs)
        )
        try:
            pid = await within(self._start_s, actor.start.remote(), f"{name} to start")
        except Exception:
            self._ray.kill(actor)
            raise
        process = Process(name, RayHandle(actor, name), pid, actor)
        self._started.append(process)
        return process

    async def ping(self, process: Process[Any]) -> None:
        await process.actor.ping.remote()

    async def kill(self, process: Process[Any]) -> None:
        self._ray.kill(process.actor)

    async def close(self) -> None:
        for process in self._started:
            await self.kill(process)


class Lines:
    """A tracker that keeps the lines, and asks the run to stop after `steps`."""

    def __init__(self, steps: int, stop: asyncio.Event) -> None:
        self.rows: dict[int, dict[str, float]] = {}
        self._steps, self._stop = steps, stop

    def log(self, metrics: StepMetrics) -> None:
        self.rows.setdefault(metrics.step, {}).update(metrics.values)
        if metrics.step == self._steps:
            self._stop.set()

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None: ...

    def phase(self, name: str) -> None: ...

    def alert(self, title: str, text: str) -> None: ...

    def saved(self, checkpoint: Path, step: int) -> None: ...
    def made(self, groups: int, total: int) -> None: ...

    def message(self, text: str) -> None:
        print(text)

    def close(self) -> None:
        pass


class NoStore:
    def wanted(self, groups: Sequence[CreditedGroup], step: int) -> tuple[int, ...]:
        return ()

    def add(
        self, groups: Sequence[CreditedGroup], step: int, scores: Sequence[TokenScores] = ()
    ) -> None: ...

    def save_all(self, groups: Sequence[CreditedGroup], folder: Path) -> None: ...

    def flush(self) -> None: ...


async def measure(
    ray: Any, folder: Path, setting: Setting, *, steps: int, step_s: float, load_s: float = 0.0
) -> Shares:
    """Idle shares of a run of `steps` learner steps, without its first period."""
    os.makedirs(folder, exist_ok=True)
    config = RunConfig(
        run={"name": "run", "dir": str(folder), "max_steps": steps + 5 * setting.interval},
        rollout={
            "group_size": 1,
            "num_engines": setting.engines,
            "max_groups_in_flight": setting.slots // setting.engines,
            "engine_options": {
                "step_s": step_s,
                "mean": setting.mean,
                "slots": setting.slots,
                "load_s": load_s,
                "tokens_per_s": TOKENS_PER_STEP / step_s,
            },
        },
        learner={"batch_size": GROUPS_PER_STEP},
        replay={"surplus": setting.surplus},
        sync={
            "interval": setting.interval,
            "max_lead": setting.max_lead,
            "stragglers": "move" if setting.moves else "wait",
            "timeout_s": TIMEOUT_S,
        },
    )
    stop = asyncio.Event()
    lines = Lines(steps, stop)
    await run(ray, config, lines, stop)
    rows = lines.rows
    window = [rows[step] for step in range(setting.interval + 1, steps + 1)]
    elapsed = sum(row["time/step_s"] for row in window)
    busy = _total(window, ("engine/slot_s",))  # a late answer counts in the next line
    made, thrown = (_total(window, names) for names in (("engine/made_tokens",), THROWN))
    waited = _total(window, ("time/wait_for_batch_s",))
    idle = 1 - len(window) * step_s / elapsed
    return Shares(
        learner=idle,
        between=idle - waited / elapsed,
        engine=1 - busy / (elapsed * setting.slots),
        wasted=thrown / made,
        mean_lag=_total(window, ("replay/lag_mean",)) / len(window),
        largest_lag=int(max(row["replay/lag_max"] for row in rows.values())),
        elapsed=sum(row["time/step_s"] for row in rows.values()) / step_s,
    )


def _total(rows: Sequence[Mapping[str, float]], names: Sequence[str]) -> float:
    return sum(row.get(name, 0.0) for row in rows for name in names)


async def run(
    ray: Any,
    config: RunConfig,
    lines: Tracker,
    stop: asyncio.Event,
    *,
    worker_options: Mapping[str, Any] = MappingProxyType({}),
    start_s: float = TIMEOUT_S,
) -> dict[str, int]:
    """A whole run with engines and a trainer that sleep.

    Args:
        ray: The module, connected to a cluster.
        config: Settings of the run.
        lines: Takes metrics and messages.
        stop: Ends it.
        worker_options: Ray's, for the workers' actors.
        start_s: How long a process may take to find a place and start.

    Returns:
        Draws by fate and place before the end.
    """
    processes = SleeperProcesses(ray, config, worker_options=worker_options, start_s=start_s)
    replay = await processes.start("replay", "replay")
    trainer = await processes.start("trainer", "trainer")
    workers = Workers(
        config,
        processes=processes,
        pulse=Pulse(processes, lines.message, start_s),
        replay=replay.handle,
        scorers=(),
        note=lines.message,
    )
    workers.start()
    around = Surroundings(replay=replay.handle, tracker=lines, store=NoStore(), engines=workers)
    learner = LearnerGroup(config, [trainer.handle], around)
    learner.checkpoint_if_due = _nothing  # type: ignore[method-assign]
    try:
        await learn(
            learner,
            replay=replay.handle,
            groups_per_step=config.groups_per_step,
            interval=config.sync.interval,
            max_steps=config.run.max_steps,
            timeout_s=config.sync.timeout_s,
            stop=stop,
            max_lead=config.sync.max_lead,
            moves=config.sync.stragglers == "move",
            outlast=workers.outlast,
        )
        return await replay.handle.counts()
    finally:
        await workers.stop()
        await processes.close()


async def _nothing() -> None:
    """Checkpoints are none of what is measured."""
