"""An engine and a trainer that only wait drawn times, to see what loops and Ray add to them.

Everything else is the real thing: replay, worker, workers, learner group. Durations are those of
`tests.overlap.model`, by draw and attempt, so that a run and its simulation have the same ones;
`rollout.engine_options` says how long a learner step lasts (`step_s`) and a group on average
(`mean`, in steps).
"""

from __future__ import annotations

import asyncio

import numpy as np

from actors.worker import RolloutWorker
from oapl.config import RunConfig
from oapl.interfaces import Replay
from oapl.records import (
    Batch,
    Credit,
    Judgement,
    Metrics,
    ProbeReport,
    Prompt,
    Rollout,
    Sampling,
    ScoredGroup,
    State,
    Verdict,
    WeightsVersion,
    WorkerId,
)
from oapl.replay.buffer import ReplayBuffer
from oapl.replay.periods import PeriodNeeds
from tests.overlap.model import duration
from tests.support.fakes import publication


def _now() -> float:
    """By the loop's clock, which tests may let leap."""
    return asyncio.get_running_loop().time()


class CountingSource:
    """Endless prompts `p0, p1, ...`."""

    def __init__(self) -> None:
        self._next = 0

    def next(self) -> Prompt:
        self._next += 1
        return Prompt(
            id=f"p{self._next}",
            text="",
            token_ids=np.array([1], np.int32),
            verifiers={},
            reference={},
            source="count",
        )

    def state(self) -> State:
        return {"next": self._next}

    def restore(self, state: State) -> None:
        self._next = state["next"]


class SleepingEngine:
    """Each rollout waits its drawn time and has `tokens_per_s` tokens for it, one at the least; a
    load cuts off what is in flight, and takes `load_s`."""

    def __init__(
        self,
        index: int,
        *,
        step_s: float,
        mean: float,
        slots: int,
        load_s: float = 0.0,
        speed: float = 1.0,
        tokens_per_s: float = 0.0,
    ) -> None:
        self.version = -1
        self._index = index
        self._step_s, self._mean, self._slots, self._load_s = step_s, mean, slots, load_s
        self._speed = speed
        self._tokens_per_s = tokens_per_s
        self._in_flight: dict[asyncio.Future[None], float] = {}  # the time counted up to
        self._busy_s = 0.0
        self._num_tokens = 0

    async def generate(
        self, prompt: Prompt, sampling: Sampling, begun: Rollout | None = None
    ) -> Rollout:
        version = self.version
        draw = int(prompt.id.removeprefix("p"))
        seconds = self._step_s * duration(self._mean, draw, prompt.attempt) / self._speed
        before = 0
        if begun is not None:
            assert begun.last_version == version, "it began under another version"
            before = len(begun.token_ids)
            seconds = max(0.0, seconds - before / self._tokens_per_s)
        cut: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        began = self._in_flight[cut] = _now()
        await asyncio.wait([cut], timeout=seconds)
        now = _now()
        self._busy_s += now - self._in_flight.pop(cut)
        made = max(1, round((now - began) * self._tokens_per_s))
        self._num_tokens += made
        num_tokens = before + made
        return Rollout(
            token_ids=np.arange(num_tokens, dtype=np.int32),
            inference_logprobs=np.zeros(num_tokens, np.float32),
            finish_reason="abort" if cut.done() else "stop",
            text="",
            first_version=version,
            last_version=version,
        )

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        for cut in self._in_flight:
            cut.set_result(None)
        await asyncio.sleep(self._load_s)
        self.version = weights.version
        return ProbeReport(version=weights.version, ratio=1.0, max_difference=0.0, num_tokens=1)

    async def rebuild(self) -> None:
        self.version = -1

    def stats(self) -> Metrics:
        """`engine/busy_s` is the mean over the slots, as if each were an engine."""
        now = _now()
        for cut, since in self._in_flight.items():
            self._busy_s += now - since
            self._in_flight[cut] = now
        busy_s, self._busy_s = self._busy_s, 0.0
        num_tokens, self._num_tokens = self._num_tokens, 0
        return {
            "engine/busy_s": busy_s / self._slots,
            "engine/slot_s": busy_s,
            "engine/made_tokens": num_tokens,
            f"engine/slot_s/{self._index}": busy_s,
        }

    def quiet_s(self) -> float:
        return 0.0

    async def ping(self) -> None:
        pass

    def close(self) -> None:
        pass


class YesScorer:
    def awaited(self) -> tuple[int, float]:
        return 0, 0.0

    async def score(self, tasks: list[tuple[Prompt, Rollout]]) -> list[Judgement]:
        verdict = {"yes": Verdict(kind="accepted", reward=1.0)}
        return [Judgement(reward=1.0, verdicts=verdict) for _ in tasks]

    async def stats(self) -> Metrics:
        return {}


class SleepingTrainer:
    """Every step takes `step_s`; an export takes no time."""

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s

    async def update(self, batch: Batch) -> Metrics:
        await asyncio.sleep(self._step_s)
        return {}

    async def announce(self, version: int) -> WeightsVersion:
        return publication(version)

    async def score_probe(self) -> tuple[np.ndarray, ...]:
        return ()


def build_worker(
    config: RunConfig,
    *,
    index: int,
    incarnation: int,
    step: int,
    replay: Replay,
    scorers: object = (),
) -> RolloutWorker:
    options = dict(config.rollout.engine_options)
    speeds = options.pop("speeds", {})  # by the worker's index
    return RolloutWorker(
        config,
        worker=WorkerId(index=index, incarnation=incarnation),
        engine=SleepingEngine(index, **options, speed=speeds.get(str(index), 1.0)),
        scorer=YesScorer(),
        replay=replay,
    )


def build_trainer(config: RunConfig) -> SleepingTrainer:
    return SleepingTrainer(config.rollout.engine_options["step_s"])


def keep(group: ScoredGroup) -> Credit:
    return Credit(values=np.zeros(len(group.rewards), np.float32))


def build_replay(config: RunConfig) -> ReplayBuffer:
    return ReplayBuffer(
        CountingSource(),
        keep,
        PeriodNeeds.of(config, history=None),
    )
