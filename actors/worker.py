"""RolloutWorker: an engine, a scorer, a replay handle, and the `collect` loop around them.

Invariants: `collect` only ever runs with a version whose probe was within the bound; loads,
evaluations and recoveries exclude one another, so nothing is evaluated under two versions; after an
engine fault the engine is rebuilt with the weights it held, once: a second fault soon after is not
bad luck, and ends the worker; so does an engine that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Sequence

from actors import scoring
from actors.engines.base import DRAIN_SHARE, ENGINES, probe_bound
from oapl import loops
from oapl.config import RunConfig
from oapl.counters import Counters
from oapl.devices import base as devices
from oapl.errors import DeadlineError, EngineError, ProbeError, StaleError
from oapl.interfaces import Engine, JoinedScorer, Replay, Scorer
from oapl.records import (
    EvalAnswers,
    Judgement,
    Metrics,
    ProbeReport,
    Prompt,
    Rollout,
    Sampling,
    Terms,
    WeightsVersion,
    WorkerId,
)
from oapl.remote.waiting import within
from oapl.sampling import of_rollouts
from oapl.weights.base import TRANSPORTS

WARNING = 1.05
"""Mean exp(|log-prob difference|) between engine and learner that is worth a look."""
FAULT_WINDOW_S = 60.0
"""Two engine faults within this time are one too many."""
PING_S, MOST_MISSED = 5.0, 2
"""Between an engine's answer and the next question to it, and answers in a row that do not come of
one that hangs: a question may meet a load."""


def build(
    config: RunConfig,
    *,
    index: int,
    incarnation: int,
    scorers: Sequence[Scorer],
    replay: Replay | None,
    step: int = 0,
) -> RolloutWorker:
    """Make the worker with its engine, in the process that shall hold them. Version -1.

    Args:
        config: The run.
        index: The worker's, from 0.
        incarnation: How often this worker was started before.
        scorers: Handles of the reward servers.
        replay: Handle of the replay buffer; None where it only evaluates.
        step: Learner steps made before the run's processes were started.
    """
    host = ENGINES.load(devices.engine_name(config), "rollout.engine")
    transport = TRANSPORTS.load(config.sync.transport, "sync.transport")
    engine = host.build(
        config,
        receiver=transport.build_receiver(config),
        index=index,
        incarnation=incarnation,
        step=step,
    )
    return RolloutWorker(
        config,
        worker=WorkerId(index=index, incarnation=incarnation),
        engine=engine,
        scorer=scoring.build(config, scorers),
        replay=replay,
    )


class RolloutWorker:
    """Collects rollouts and evaluates. See `oapl.interfaces.Worker`.

    Args:
        config: The run.
        worker: Who it is.
        engine: Its own; it holds version -1.
        scorer: Judges what the engine answers.
        replay: Hands out prompts and takes groups; None where it only evaluates.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        worker: WorkerId,
        engine: Engine,
        scorer: JoinedScorer,
        replay: Replay | None,
    ) -> None:
        self._config = config
        self._id = worker
        self._engine = engine
        self._scorer = scorer
        self._replay = replay
        self._bound = probe_bound(config)
        self._moves = config.sync.stragglers == "move"
        self._lock = asyncio.Lock()
        self._entering = asyncio.Lock()
        self._evaluating = 0  # calls that hold the lock together
        self._stop = asyncio.Event()
        self._loaded = asyncio.Event()
        self._held: tuple[WeightsVersion, ProbeReport] | None = None
        self._recoveries = 0
        self._last_fault = float("-inf")
        self._counters = Counters()

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Take in a publication and check it against the learner.

        An engine that stays behind first ends the last groups of the version that it holds, within
        half of `sync.timeout_s`.

        Returns:
            The probe's report; of the version held when `weights` is older.

        Raises:
            WeightsError: The publication cannot be loaded; the worker holds no version.
            ProbeError: Engine and learner disagree, even after a rebuild.
        """
        if self._replay is not None and self._moves:
            since = time.monotonic()
            share = DRAIN_SHARE if self._held else 0.0  # without weights it ends nothing
            await self._replay.stay_behind(self._id, share * self._config.sync.timeout_s)
            self._counters.add({"engine/behind_s": time.monotonic() - since})
        async with self._lock:
            if self._held and weights.version < self._held[0].version:
                self._counters.add({"weights/skipped_loads": 1})
                return self._held[1]
            return await self._load(weights)

    async def run(self, has_own_weights: bool = False) -> None:
        """Collect under each version that is loaded, until `stop`, or only wait for that.

        Args:
            has_own_weights: Begin with what the engine was built with, the model's own.

        Raises:
            EngineError: The engine failed twice in quick succession, or hangs.
        """
        collecting = asyncio.create_task(self._collect(has_own_weights))
        listening = asyncio.create_task(self._listen_to_engine())
        acts = (collecting, listening)
        try:
            await asyncio.wait(acts, return_when=asyncio.FIRST_COMPLETED)
            (collecting if collecting.done() else listening).result()
        finally:
            for act in acts:
                act.cancel()
            if not listening.done():  # else what is in flight would be awaited for ever
                await asyncio.gather(*acts, return_exceptions=True)

    async def _listen_to_engine(self) -> None:
        """Ask the engine again and again, but for loads and rebuilds, which have their deadlines.

        Raises:
            EngineError: It does not answer.
        """
        missed, silence_s = 0, self._config.rollout.engine_silence_s
        while missed < MOST_MISSED:
            if not missed:
                await asyncio.sleep(PING_S)
            if self._is_loading:
                missed = 0
                continue
            try:
                what = f"the engine of {self._id} to answer"
                answer = self._engine.ping()
                await within(silence_s / MOST_MISSED, answer, what, is_told=False)
                missed = 0
            except DeadlineError:
                missed = 0 if self._is_loading else missed + 1
            except Exception:  # noqa: BLE001 - it has failed: whoever asks it for something hears so
                missed = 0
        raise EngineError(
            f"the inference engine has not answered for {silence_s:g} s: its process is stopped or "
            "hangs; where it compiles for so long, raise rollout.engine_silence_s"
        )

    @property
    def _is_loading(self) -> bool:
        return self._lock.locked() and not self._evaluating

    async def _collect(self, has_own_weights: bool) -> None:
        if self._replay is None:
            await self._stop.wait()
            return
        if has_own_weights:
            self._loaded.set()
        rollout, sampling = self._config.rollout, of_rollouts(self._config)
        while await self._next_version():
            recoveries = self._recoveries
            try:
                await loops.collect(
                    self._id,
                    engine=self._engine,
                    scorer=self._scorer,
                    replay=self._replay,
                    sampling=sampling,
                    group_size=rollout.group_size,
                    max_groups_in_flight=rollout.max_groups_in_flight,
                    stop=self._stop,
                    moves=self._moves,
                )
            except EngineError as error:
                if not self._stop.is_set():
                    await self._recover(error, recoveries)

    async def evaluate(self, prompts: Sequence[Prompt], terms: Terms) -> list[EvalAnswers]:
        """Answer and judge each prompt; see `oapl.interfaces.Answering.evaluate`.

        Everything is in flight at once, that of other calls too; no load comes between. What nobody
        waits for any longer holds no load up.
        """
        what = f"{self._id} to answer {len(prompts)} evaluation prompts"
        # Whoever asks tells of it, as of one wait; in one process with them this would be another.
        return await within(terms.timeout_s, self._answers(prompts, terms), what, is_told=False)

    async def _answers(self, prompts: Sequence[Prompt], terms: Terms) -> list[EvalAnswers]:
        while True:
            recoveries = self._recoveries
            try:
                async with contextlib.nullcontext() if terms.gives_way else self._no_load():
                    return await asyncio.gather(*(self._answer(one, terms) for one in prompts))
            except EngineError as error:
                await self._recover(error, recoveries)

    async def stats(self) -> Metrics:
        """Report sums since the last call: the engine's, the scorer's and our own."""
        return {
            **self._engine.stats(),
            **(await self._scorer.stats()),
            **self._counters.take(),
        }

    async def says(self) -> str:
        """Tell what it is at: when the last token came, which verdicts are awaited."""
        quiet_s, (count, oldest_s) = self._engine.quiet_s(), self._scorer.awaited()
        text = "no token yet" if math.isinf(quiet_s) else f"last token {quiet_s:.0f} s ago"
        return f"{text}, {count} verdicts awaited for {oldest_s:.0f} s" if count else text

    async def stop(self) -> None:
        """End `run` and the engine; what is in flight goes back to replay."""
        self._stop.set()
        await asyncio.to_thread(self._engine.close)

    @contextlib.asynccontextmanager
    async def _no_load(self) -> AsyncIterator[None]:
        """Hold the lock together with other evaluations."""
        async with self._entering:
            if not self._evaluating:
                await self._lock.acquire()
            self._evaluating += 1
        try:
            yield
        finally:
            self._evaluating -= 1
            if not self._evaluating:
                self._lock.release()

    async def _next_version(self) -> bool:
        """Wait until a version is loaded that was not collected under yet; False means stop.

        Without a deadline of its own: how long a period lasts is the learner's affair, and whoever
        ends the run calls `stop`.
        """
        waits = [asyncio.create_task(event.wait()) for event in (self._loaded, self._stop)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._loaded.clear()
        return not self._stop.is_set()

    async def _load(self, weights: WeightsVersion) -> ProbeReport:
        """Load under the lock; an engine out of bounds is rebuilt once."""
        self._held = None
        try:
            report = await self._engine.load(weights)
        except EngineError:  # it failed before, and whoever saw it waits for our lock
            await self._rebuild_after_fault()
            report = await self._engine.load(weights)
        if not report.ratio <= self._bound:  # NaN is out of bounds too
            self._counters.add({"faults/probe_failures": 1})
            await self._engine.rebuild()
            report = await self._engine.load(weights)
        if not report.ratio <= self._bound:
            await self._engine.rebuild()
            raise ProbeError(
                f"{self._id}: engine and learner disagree about version {report.version}: mean "
                f"exp(|log-prob difference|) is {report.ratio:.6g} over {report.num_tokens} tokens "
                f"(largest difference {report.max_difference:.3g} nats), the bound is "
                f"{self._bound:g}; a rebuilt engine says the same. Compare model.dtype with "
                f"learner.precision; where they are equal, engine and transformers compute this "
                f"type of model differently: learner/models/README.md lists those that were "
                f"compared. Raise sync.probe_bound only for a difference that you know"
            )
        self._counters.add({"faults/probe_warnings": report.ratio > WARNING})
        self._held = weights, report
        self._loaded.set()
        return report

    async def _recover(self, error: EngineError, recoveries: int) -> None:
        """Rebuild the engine and load what it held, unless somebody has since.

        Raises:
            EngineError: `error`, when the last fault was a moment ago.
        """
        async with self._lock:
            if recoveries != self._recoveries:
                return
            if time.monotonic() - self._last_fault < FAULT_WINDOW_S:
                self._counters.add({"faults/engine": 1})
                raise error
            await self._rebuild_after_fault()
            if self._held:
                await self._load(self._held[0])
            else:  # a rebuilt engine has the model's own weights
                self._loaded.set()

    async def _rebuild_after_fault(self) -> None:
        self._counters.add({"faults/engine": 1})
        self._last_fault = time.monotonic()
        self._recoveries += 1
        await self._engine.rebuild()

    async def _answer(self, prompt: Prompt, terms: Terms) -> EvalAnswers:
        draws = [terms.sampling] * terms.num_samples
        if terms.greedy:
            draws.append(terms.sampling.greedy())
        answers = await asyncio.gather(*(self._judged(prompt, draw) for draw in draws))
        best = answers.pop() if terms.greedy else (None, None)
        return EvalAnswers(
            prompt=prompt,
            rollouts=tuple(rollout for rollout, _ in answers),
            judgements=tuple(judgement for _, judgement in answers),
            greedy=best[0],
            greedy_judgement=best[1],
        )

    async def _judged(self, prompt: Prompt, sampling: Sampling) -> tuple[Rollout, Judgement]:
        rollout = await self._engine.generate(prompt, sampling)
        if rollout.finish_reason == "abort":
            raise StaleError(
                f"{self._id}: an evaluation of version {rollout.first_version} was cut"
            )
        tokens = len(rollout.token_ids)
        self._counters.add({"rollout/evaluated": 1, "rollout/evaluated_tokens": tokens})
        return rollout, (await self._scorer.score([(prompt, rollout)]))[0]
