"""Evaluations beside training, on engines that are set aside for them, or in a share of those that
make rollouts.

A point is a learner step whose weights are evaluated. Invariants: the engines hold one version from
the first question of a point to the last, and its scores carry that step; the learner waits until
the weights have left it, and for nothing else; one point goes on at a time, and one that is due
meanwhile is skipped; where engines make rollouts a point ends before they are given the next
version, and one that has not is cut, and skipped; a point that a stop has cut off is made again by
the run that goes on, where the weights are still there, or counted as skipped: none is lost unsaid.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from oapl.errors import InputError, LostError, OaplError, ProbeError, VerifierError, in_one_line
from oapl.records import Metrics, ProbeReport, State, WeightsVersion

ENDS_THE_RUN = (InputError, LostError, ProbeError, VerifierError)
"""What no later point would be without, and what the run goes back for."""
NONE = -1


class Engines(Protocol):
    """The workers that are set aside, as the learner sees them."""

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Return when at least one holds `weights`."""

    async def stats(self) -> Metrics:
        """Counters since the last call."""


Start = Callable[[WeightsVersion], "asyncio.Task[Any]"]
Send = Callable[[int, Start], Awaitable[None]]
"""Gives the learner's weights of a step to whom a task loads them for, and returns when all have
left the learner."""


class Running:
    """Engines that make rollouts, and hold what the learner has published."""

    async def load(self, weights: WeightsVersion) -> ProbeReport:
        """Return: they hold it, else `publish` had not returned."""
        return ProbeReport(version=weights.version, ratio=1.0, max_difference=0.0, num_tokens=0)

    async def stats(self) -> Metrics:
        """Nothing: they are asked as engines that make rollouts."""
        return {}


class Skips:
    """Points that come to nothing: each is told and counted, and costs the run no more.

    Args:
        tell: Takes a line for the person who watches.
        first: Learner steps before this stage, which lines count too.
    """

    def __init__(self, tell: Callable[[str], None], first: int) -> None:
        self._tell = tell
        self._first = first
        self._count = 0

    def add(self, step: int, why: str) -> None:
        """Skip the point of a step.

        Args:
            step: Learner steps of this stage.
            why: In words.
        """
        self._count += 1
        self._tell(f"the evaluation of step {self._first + step} is skipped: {why}")

    async def unless_it_fails(self, step: int, act: Awaitable[Metrics]) -> Metrics | None:
        """Make a point.

        Args:
            step: Learner steps of this stage.
            act: Gives its scores.

        Returns:
            None where it is skipped.

        Raises:
            OaplError: One of `ENDS_THE_RUN`.
        """
        try:
            return await act
        except ENDS_THE_RUN:
            raise
        except OaplError as error:
            self.add(step, f"{type(error).__name__}: {in_one_line(error)}")
            return None

    def take(self) -> Metrics:
        """The number since the last call."""
        count, self._count = self._count, 0
        return {"faults/skipped_evaluations": float(count)}


class Beside:
    """Evaluates one point at a time.

    Args:
        engines: Those set aside, or `Running`.
        send: See `Send`.
        evaluate: Evaluates what they hold, which is of the given step.
        before: Keeps what must be kept of a step before the learner goes on from it.
        saw: Takes the scores of a step.
        after: Makes use of what was kept, with or without scores.
        skips: Those that come to nothing.
        first: Learner steps before this stage, which lines count too.
    """

    def __init__(
        self,
        engines: Engines,
        *,
        send: Send,
        evaluate: Callable[[int], Awaitable[Metrics]],
        before: Callable[[int], Awaitable[None]],
        saw: Callable[[int, Metrics], None],
        after: Callable[[int], Awaitable[None]],
        skips: Skips,
        first: int = 0,
    ) -> None:
        self._engines = engines
        self._send = send
        self._evaluate = evaluate
        self._before = before
        self._saw = saw
        self._after = after
        self._skips = skips
        self._first = first
        self._last = NONE  # the last point, made or skipped
        self._under_way = NONE
        self._task: asyncio.Task[None] | None = None
        self._is_abandoned = False

    def is_new(self, step: int) -> bool:
        """Whether a step is no point yet, neither made nor skipped."""
        return step != self._last

    @property
    def is_busy(self) -> bool:
        """Whether a point is under way."""
        return self._task is not None and not self._task.done()

    async def begin(self, step: int, weights: WeightsVersion | None = None) -> None:
        """Begin a point, or skip it while the one before is under way.

        Args:
            step: Learner steps made.
            weights: Their publication, where engines have been given it anyway; None makes one for
                these engines alone.

        Raises:
            WeightsError: A weight is not finite, or the transport failed.
            RankError: A rank died, hung or failed.
        """
        self._last = step
        if self.is_busy:
            said = f"that of step {self._first + self._under_way} is still under way"
            self._skips.add(step, f"{said}; evaluate less often or less, or set more engines aside")
            return
        await self.check()
        await self._before(step)
        self._under_way = step
        if weights is None:
            await self._send(step, self._start)
        else:
            self._start(weights)

    async def cut(self, why: str) -> None:
        """End the point under way, which is skipped.

        Args:
            why: In words.
        """
        if self._task is None or not self.is_busy:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        step, self._task, self._under_way = self._under_way, None, NONE
        if step != NONE:  # else it has ended in the same turn
            self._skips.add(step, why)
            await self._after(step)

    async def hold(self, step: int) -> None:
        """Give the weights of a step to the engines, once no point is under way; nothing more.

        Raises:
            DeadlineError: No engine took them within `sync.timeout_s`.
            WeightsError, RankError: See `begin`.
        """
        await self.settle()
        loads: list[asyncio.Task[ProbeReport]] = []

        def start(weights: WeightsVersion) -> asyncio.Task[Any]:
            loads.append(asyncio.ensure_future(self._engines.load(weights)))
            return loads[0]

        await self._send(step, start)
        await loads[0]

    async def settle(self) -> None:
        """Wait for the point under way; raise what went wrong with it."""
        if self._task is not None:
            await asyncio.wait({self._task})
            await self.check()

    async def check(self) -> None:
        """Raise what went wrong with the last point, if it has ended."""
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            if not task.cancelled():
                task.result()

    def abandon(self) -> None:
        """Go on with no point, now and later: the run is to stop."""
        self._is_abandoned = True
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Leave nothing running, and no error untold to the event loop."""
        self.abandon()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def stats(self) -> Metrics:
        """What happened on the engines since the last call."""
        return await self._engines.stats()

    def state(self) -> State:
        """Which points were made, and which is under way, as JSON can hold it."""
        return {"last": self._last, "under_way": self._under_way}

    def restore(
        self, state: State, step: int, known: Mapping[int, Metrics], served: WeightsVersion | None
    ) -> Metrics | None:
        """Go on from a checkpoint.

        Args:
            state: From `state`.
            step: Learner steps that were made then: a point of theirs is due once more, now that
                the learner has those weights.
            known: Scores that the run has told, by step: the point may have ended after the
                checkpoint.
            served: The publication that engines hold again; None where they hold none.

        Returns:
            The scores of the point that was under way, where it has ended since.
        """
        self._last, cut = state["last"], state["under_way"]
        if cut in (NONE, step):
            self._last = self._last if cut == NONE else NONE
        elif cut in known:
            return known[cut]
        elif served is not None and served.version == cut:
            self._under_way = cut
            self._start(served)
        else:
            self._skips.add(cut, "the run stopped under it, and its weights are gone")
        return None

    def _start(self, weights: WeightsVersion) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self._make(self._under_way, weights))
        if self._is_abandoned:
            self._task.cancel()
        return self._task

    async def _make(self, step: int, weights: WeightsVersion) -> None:
        """One point, from the load to the scores. One that is cut off stays under way: a
        checkpoint is to say so."""

        async def scores() -> Metrics:
            await self._engines.load(weights)
            return await self._evaluate(step)

        found = await self._skips.unless_it_fails(step, scores())
        self._under_way = NONE  # in one turn, so that no checkpoint has the one without the other
        if found is not None:
            self._saw(step, found)
        await self._after(step)
