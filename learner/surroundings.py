"""What a learner is put among: whom it asks and tells, and which stage of a run it makes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from learner.books import Past
from learner.evaluations import Engines as Aside
from learner.moving_on import MovingOn
from learner.publication import Engines
from oapl.interfaces import Batches, Tracker
from oapl.records import CreditedGroup, Metrics, TokenScores

Evaluate = Callable[[str], Awaitable[Metrics]]
"""Evaluates what engines hold, under a name."""
Foresee = Callable[[int], Sequence[CreditedGroup]]
"""Tells what the next take of so many groups will give."""


class Rewards(Protocol):
    """The reward servers, as the learner sees them."""

    async def stats(self) -> Metrics:
        """Counters since the last call."""


class Store(Protocol):
    """Where trained groups are kept."""

    def wanted(self, groups: Sequence[CreditedGroup], step: int) -> tuple[int, ...]:
        """Tell the places of groups that `add` would keep, with log-probs to compare with."""

    def add(
        self, groups: Sequence[CreditedGroup], step: int, scores: Sequence[TokenScores] = ()
    ) -> None:
        """Keep of the groups that learner step `step` was made of, and what it thought of them."""

    def save_all(self, groups: Sequence[CreditedGroup], folder: Path) -> None:
        """Write every rollout of `groups` into a set of its own."""

    def flush(self) -> None:
        """Write what is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluators:
    """Who evaluates.

    Attributes:
        waited: Evaluates what the engines hold, or those set aside where there are such; None
            without evaluation sets.
        beside: Evaluates beside training, where that is done otherwise.
        aside: The engines that do so: those set aside, or `evaluations.Running`; None where the
            learner waits for evaluations.
    """

    waited: Evaluate | None = None
    beside: Evaluate | None = None
    aside: Aside | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Whom a learner asks and tells.

    Attributes:
        replay: What its groups are taken from: its counters and its snapshot.
        tracker: Takes the lines of metrics.
        store: Keeps a sample of what is trained on.
        engines: None where nothing is sampled.
        rewards: None where nothing is judged.
        evaluators: Who evaluates.
        foresee: None where nobody knows what the next take gives.
    """

    replay: Batches
    tracker: Tracker
    store: Store
    engines: Engines | None = None
    rewards: Rewards | None = None
    evaluators: Evaluators = Evaluators()
    foresee: Foresee | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What of a run a learner makes: a stage, or all of it.

    Attributes:
        first: Learner steps that the stages before have made. In the learner steps count from the
            stage's beginning; what is written counts these too.
        moving: Says when it ends early; None where a run has no stages.
        keeps_in: Folder of the policies that are kept beside the last one; None: the run's.
        past: What is written of the run; None: nothing.
    """

    first: int = 0
    moving: MovingOn | None = None
    keeps_in: Path | None = None
    past: Past | None = None
