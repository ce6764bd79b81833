"""The reward servers of a run, as the learner sees them: counters that survive a server's death.

Ray restarts a dead server where it was, and workers ask again; what is lost is its counters since
the last report. Invariants: the first trouble of each sort is told as it comes, whoever waits for
whom meanwhile; a verifier that does not work ends the run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from deploy.processes.base import Process, Processes
from deploy.run.trial import remedy, try_out
from oapl.config import RunConfig
from oapl.errors import VerifierError
from oapl.interfaces import RewardServer
from oapl.records import Metrics, Prompt, Trouble
from oapl.remote.waiting import within

STATS_TIMEOUT_S = 30.0
LISTEN_S = 20.0
"""How long a server may hold the question for troubles."""
ANSWER_S = 10.0
"""What its answer may take beyond that."""
DOWN_S = 5.0
"""Pause before a server is listened to again that does not answer: Ray is restarting it."""
COUNTS = ("judged", "failures", "queue_length")


async def start(
    config: RunConfig,
    processes: Processes,
    note: Callable[[str], None],
    restarts: Callable[[], float] = lambda: 0.0,
) -> RewardServers:
    """Start them all at once, and listen.

    Args:
        config: The run.
        processes: Starts the servers.
        note: Is given lines for the person who watches.
        restarts: Tells how many were started again since it was asked last.
    """
    names = [f"reward-{index}" for index in range(config.reward.servers)]
    started = await asyncio.gather(*(processes.start("reward", name) for name in names))
    servers = RewardServers([process.handle for process in started], note, restarts)
    servers.processes = tuple(started)
    servers.listen()
    return servers


class RewardServers:
    """Collects the counters of all reward servers, and listens for what is wrong.

    Args:
        servers: Their handles.
        note: Is told of troubles; of a server that is down `Pulse` tells.
        restarts: See `start`.

    Attributes:
        servers: As given.
        processes: Those behind them, where `start` started them.
        failed: Set to a `VerifierError` when a verifier does not work.
    """

    def __init__(
        self,
        servers: Sequence[RewardServer],
        note: Callable[[str], None],
        restarts: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.servers = tuple(servers)
        self._restarts = restarts
        self.processes: tuple[Process[RewardServer], ...] = ()
        self._note = note
        self._counts_failures = False
        self._told: set[tuple[str, str]] = set()
        self._listening: list[asyncio.Task[None]] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def listen(self) -> None:
        """Begin to listen for troubles."""
        self._listening = [asyncio.create_task(self._listen(server)) for server in self.servers]

    async def try_out(self, config: RunConfig, prompts: Sequence[Prompt]) -> None:
        """Try the verifiers; see `trial.try_out`. From then on a row of failures ends the run.

        Args:
            config: The run.
            prompts: To try each verifier on.

        Raises:
            VerifierError: A verifier does not work.
        """
        await try_out(config, self.servers, prompts)
        self._counts_failures = True

    async def close(self) -> None:
        """Listen no more; what was said until now is told."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        await asyncio.gather(
            *(self._hear(one, 0.0) for one in self.servers), return_exceptions=True
        )
        if not self.failed.cancel() and not self.failed.cancelled():
            self.failed.exception()  # whoever has not looked at it will not any more

    async def stats(self) -> Metrics:
        """Merge what the servers counted since the last call; a dead one counts as a fault."""
        reports = await asyncio.gather(*map(self._report, range(len(self.servers))))
        there = [report for report in reports if report is not None]
        down = len(reports) - len(there)
        metrics = {**merged(there), "faults/reward_servers_down": float(down)}
        if again := self._restarts():
            metrics["faults/reward_server_restarts"] = again
        return metrics

    async def _listen(self, server: RewardServer) -> None:
        while True:
            try:
                await self._hear(server, LISTEN_S)
            except Exception:  # noqa: BLE001  Ray raises what it likes; `stats` counts it as down
                await asyncio.sleep(DOWN_S)

    async def _hear(self, server: RewardServer, timeout_s: float) -> None:
        limit_s = timeout_s + ANSWER_S
        asking = server.troubles(timeout_s)
        for trouble in await within(limit_s, asking, "a server's troubles", is_told=False):
            if (trouble.verifier, trouble.sort) not in self._told:
                self._told.add((trouble.verifier, trouble.sort))
                self._note(
                    f"warning: verifier {trouble.verifier}, first {trouble.kind}: {trouble.detail}"
                )
            if trouble.in_vain and self._counts_failures and not self.failed.done():
                self.failed.set_exception(VerifierError(in_vain(trouble)))

    async def _report(self, number: int) -> Metrics | None:
        server = self.servers[number]
        try:
            return await within(STATS_TIMEOUT_S, server.stats(), f"reward server {number}")
        except Exception:  # noqa: BLE001  Ray raises what it likes for a dead actor
            return None


def merged(reports: Sequence[Metrics]) -> Metrics:
    """Merge the reports of several servers into one.

    Counts are summed, means weighted by the verdicts given; the slowest server's latencies stand
    for all, and the weakest sandbox.
    """
    metrics: Metrics = {}
    for name in dict.fromkeys(name for report in reports for name in report):
        told = [report for report in reports if name in report]
        values = [report[name] for report in told]
        verifier, _, measure = name.removeprefix("reward/").partition("/")
        if name.startswith("faults/") or measure in COUNTS:
            metrics[name] = sum(values)
        elif measure.startswith("latency"):
            metrics[name] = max(values)
        elif not measure:
            metrics[name] = min(values)
        else:
            weights = [report[f"reward/{verifier}/judged"] for report in told]
            products = (value * weight for value, weight in zip(values, weights, strict=True))
            metrics[name] = sum(products) / sum(weights)
    return metrics


def in_vain(trouble: Trouble) -> str:
    """Say that a verifier does not work, why, and what may help."""
    name = trouble.verifier
    return (
        f"verifier {name} gave no verdict on {trouble.in_vain} responses in a row; the last "
        f"{trouble.kind}: {trouble.detail}; {remedy(name, trouble.kind)}"
    )
