"""Scores of the policy: when it is evaluated, by whom, and who hears of it.

Invariants: a line of scores carries the step whose weights they are of; all that decides by them
sees each once, in the run that was stopped or in the one that goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from learner.deciders import Deciders
from learner.evaluations import Beside, Send, Skips
from learner.surroundings import Evaluators
from oapl import accounting
from oapl.config import RunConfig
from oapl.counters import Stopwatch
from oapl.interfaces import Tracker
from oapl.records import Metrics, State, StepMetrics, WeightsVersion
from oapl.tracking.history import evaluations

OUTLASTED = "it has outlasted its period; raise eval.slots, or ask less"


class Scores:
    """Has the policy evaluated, and tells.

    Args:
        config: The run's.
        evaluators: Who does it.
        send: Gives weights to engines set aside.
        is_waited_for: Whether the learner makes no step meanwhile.
        tracker: Is told the scores.
        deciders: Are told too.
        watch: Knows what the learner does.
        first: Learner steps before this stage.
    """

    def __init__(
        self,
        config: RunConfig,
        evaluators: Evaluators,
        *,
        send: Send,
        is_waited_for: Callable[[], bool],
        tracker: Tracker,
        deciders: Deciders,
        watch: Stopwatch,
        first: int,
    ) -> None:
        self._config = config
        self._waited = evaluators.waited
        self._by_others = evaluators.beside or evaluators.waited
        self._is_waited_for = is_waited_for
        self._tracker = tracker
        self._deciders = deciders
        self._watch = watch
        self._first = first
        self._skips = Skips(tracker.message, first)
        self._beside: Beside | None = None
        if evaluators.aside is not None:
            self._beside = Beside(
                evaluators.aside,
                send=send,
                evaluate=self._made_beside,
                before=lambda step: deciders.kept.before_scores(first + step),
                saw=self._saw,
                after=lambda step: deciders.kept.after_scores(first + step),
                skips=self._skips,
                first=first,
            )

    @property
    def are_beside(self) -> bool:
        """Whether evaluations are made beside training."""
        return self._beside is not None

    async def now(self, step: int) -> Metrics:
        """Evaluate the weights of a step, which engines hold, and tell.

        Args:
            step: Learner steps of this stage.
        """
        if self._waited is not None and self._is_waited_for():
            self._tracker.phase("evaluate")
        with self._watch.instead(accounting.AWAITS_EVALUATION, accounting.EVALUATE):
            metrics = {} if self._waited is None else await self._waited(self._name(step))
        if self._waited is not None:
            self._saw(step, metrics)
        return metrics

    async def at_publication(self, step: int) -> None:
        """Evaluate the weights of a step as `now` does; what goes wrong costs this point alone.

        Args:
            step: Learner steps of this stage.
        """
        await self._skips.unless_it_fails(step, self.now(step))

    async def before_publication(self) -> None:
        """End what is under way where engines that make rollouts are to load."""
        if self._beside is not None and self._config.eval.slots:
            await self._beside.cut(OUTLASTED)

    async def after_publication(
        self, step: int, served: WeightsVersion | None, *, is_point: bool
    ) -> None:
        """Begin a point beside training where one is due, or keep the policy that was evaluated.

        Args:
            step: Learner steps of this stage.
            served: What engines were given.
            is_point: Whether it is to be evaluated.
        """
        if self._beside is None:
            await self._deciders.kept.evaluated(self._first + step)
        elif is_point and self._beside.is_new(step):
            await self._beside.begin(step, served)

    async def begin_if_due(self, step: int, served: WeightsVersion | None) -> None:
        """Begin a point beside training, every `eval.every_steps`.

        Args:
            step: Learner steps of this stage.
            served: What engines were given last, which may be of another step.
        """
        section = self._config.eval
        every = section.every_steps if section.engines else 0
        if self._beside is None or not every or step % every or not self._beside.is_new(step):
            return
        is_own = served is not None and served.version == step
        await self._beside.begin(step, served if is_own else None)

    async def settle(self) -> None:
        """Wait for the point under way beside training."""
        if self._beside is not None:
            with self._watch.within(accounting.EVALUATE):
                await self._beside.settle()

    async def check(self) -> None:
        """Raise what went wrong beside training."""
        if self._beside is not None:
            await self._beside.check()

    async def hold(self, step: int) -> bool:
        """Give the weights of a step to engines set aside; False where there are none."""
        if self._beside is None or not self._config.eval.engines:
            return False
        await self._beside.hold(step)
        return True

    async def stats(self) -> Metrics:
        """What happened since the last call."""
        skipped = {} if self._waited is None else self._skips.take()
        return skipped if self._beside is None else {**skipped, **await self._beside.stats()}

    def state(self) -> State:
        """Which points were made, as JSON can hold it; empty where the learner waits for them."""
        return {} if self._beside is None else {"evaluations": self._beside.state()}

    async def restore(self, state: State, step: int, served: WeightsVersion | None) -> None:
        """See to the point that was under way; who decides by scores has not seen its own yet.

        Args:
            state: From `state`; it may hold more.
            step: Learner steps of this stage that were made then.
            served: What engines hold again.
        """
        if self._beside is None or "evaluations" not in state:
            return
        found = state["evaluations"]
        known = {at - self._first: row for at, row in evaluations(self._config.folder)}
        scores = self._beside.restore(found, step, known, served)
        cut = found["under_way"]
        if scores is not None:
            self._deciders.saw_evaluation(cut, scores)
        await self._deciders.kept.awaits(self._first + cut if self._beside.is_busy else None)

    def abandon(self) -> None:
        """Wait for no evaluation beside training any more: the run is to stop."""
        if self._beside is not None:
            self._beside.abandon()

    async def close(self) -> None:
        """Leave nothing running."""
        if self._beside is not None:
            await self._beside.close()

    async def _made_beside(self, step: int) -> Metrics:
        return {} if self._by_others is None else await self._by_others(self._name(step))

    def _saw(self, step: int, metrics: Metrics) -> None:
        """Tell scores, and give them to all that decides by them."""
        self._tracker.log(StepMetrics(step=self._first + step, values=metrics))
        self._deciders.saw_evaluation(step, metrics)

    def _name(self, step: int) -> str:
        return f"step-{self._first + step}"
