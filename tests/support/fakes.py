"""Stand-ins that check the contract of what they stand for: a broken rule is an AssertionError."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from oapl.errors import EngineError
from oapl.records import (
    Judgement,
    Metrics,
    ProbeReport,
    Prompt,
    Rollout,
    Sampling,
    Verdict,
    WeightsVersion,
)
from oapl.remote.promises import Resolved

# -- engine and reward server of a rollout worker --------------------------------------------------


class FakeEngine:
    """Answers with two tokens after `seconds`; breaks a rule of `Engine` and it asserts.

    Args:
        seconds: How long a rollout takes.
        ratios: What the probe says of each load in turn; the last one stays.
        drains: A load waits for what is in flight instead of cutting it off.
    """

    def __init__(
        self, *, seconds: float = 0.0, ratios: Sequence[float] = (1.0,), drains: bool = False
    ) -> None:
        self.version = -1
        self.acts: list[str] = []
        self.fault: Exception | None = None
        self.load_error: Exception | None = None
        self.asked: list[tuple[Prompt, Sampling]] = []
        self.loading = False
        self.hangs, self.pings = False, 0
        self.closed = False
        self._seconds = seconds
        self._ratios = list(ratios)
        self._in_flight: set[asyncio.Future[None]] = set()
        self._drains = drains
        self._ended = asyncio.Event()

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Rollout:
        if self.closed:
            raise EngineError("closed")
        if self.fault:
            raise self.fault
        self.asked.append((prompt, sampling))
        version = self.version
        cut: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._in_flight.add(cut)
        try:
            await asyncio.wait([cut], timeout=self._seconds)
            if cut.done():
                cut.result()
        finally:
            self._in_flight.discard(cut)
            self._ended.set()
        return Rollout(
            token_ids=np.array([5, 2], np.int32),
            inference_logprobs=np.zeros(2, np.float32),
            finish_reason="abort" if cut.done() else "stop",
            text="x",
            first_version=version,
            last_version=version,
        )

    async def score(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        assert not self.closed, "a closed engine scores nothing"
        assert not self._in_flight, "scored while something is in flight"
        return [np.full(len(ids) - 1, -1.0, np.float32) for ids in sequences]

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        assert not self.closed, "a closed engine loads nothing"
        assert not self.loading, "two loads at a time"
        if self.fault:
            raise self.fault
        self.loading = True
        self.acts.append(f"load {weights.version}")
        while self._drains and self._in_flight:
            self._ended.clear()
            await self._ended.wait()
        for cut in list(self._in_flight):
            cut.set_result(None)
        await asyncio.sleep(0.01)
        self.loading = False
        if self.load_error:
            self.version, error, self.load_error = -1, self.load_error, None
            raise error
        self.version = weights.version
        ratio = self._ratios.pop(0) if len(self._ratios) > 1 else self._ratios[0]
        return ProbeReport(version=weights.version, ratio=ratio, max_difference=0.1, num_tokens=10)

    def break_down(self, error: Exception) -> None:
        """Fail what is in flight and whatever comes until `rebuild`."""
        self.fault = error
        for cut in self._in_flight:
            cut.set_exception(error)
        self._in_flight.clear()

    async def rebuild(self) -> None:
        self.acts.append("rebuild")
        self.fault, self.version = None, -1

    def stats(self) -> Metrics:
        return {"rollout/rollouts": 0.0}

    def quiet_s(self) -> float:
        return 3.0

    async def ping(self) -> None:
        assert not self.loading, "asked while it loads"
        self.pings += 1
        if self.hangs:
            await asyncio.Event().wait()

    def close(self) -> None:
        self.closed = True
        for cut in list(self._in_flight):
            cut.get_loop().call_soon_threadsafe(cut.set_result, None)


class FakeServer:
    """A reward server that says 1 for every rollout; counts its calls; can be told to fail.

    Args:
        failures: How many calls fail before the first that works.
        seconds: How long a call takes.
    """

    def __init__(self, *, failures: int = 0, seconds: float = 0.0) -> None:
        self.calls: list[int] = []
        self.failures = failures
        self._seconds = seconds

    async def score(self, tasks: Sequence[tuple[Prompt, Rollout]]) -> list[Judgement]:
        assert tasks, "an empty call"
        assert all(rollout.finish_reason != "abort" for _, rollout in tasks)
        self.calls.append(len(tasks))
        await asyncio.sleep(self._seconds)
        if self.failures:
            self.failures -= 1
            raise ConnectionError("the server died")
        return [
            Judgement(
                reward=float(len(prompt.token_ids)),
                verdicts={"fake": Verdict(kind="accepted", reward=1.0)},
            )
            for prompt, _ in tasks
        ]

    async def stats(self) -> Metrics:
        return {}


def publication(version: int) -> WeightsVersion:
    """A publication without tensors."""
    return WeightsVersion(
        version=version,
        specs=(),
        transport="local",
        probe_ids=(),
        chunks=(),
        probe_logprobs=Resolved(()),
    )
