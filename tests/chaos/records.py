"""What a case of `make chaos` is, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.chain import Chain


class GoesOn(StrEnum):
    """What a run does after a fault."""

    UNHARMED = "as if nothing had been"
    ACCEPTED = "with the new setting"
    ALONE = "the part is replaced alone"
    BACK = "by itself from the last checkpoint"
    ENDS = "ends (exit 1); the same command resumes"
    STOPS = "stops with a checkpoint; the same command resumes"
    KILLED = "is gone; the same command resumes"
    REFUSED = "does not start, and says what to do"


class Skipped(Exception):
    """A case cannot be tried here; says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """A fault that was made.

    Attributes:
        evidence: How it is known that it was.
        at: When, by the wall clock.
        victims: Processes that must be gone once the run goes on.
    """

    evidence: str
    at: float
    victims: tuple[int, ...] = ()


Act = Callable[["Chain"], Struck]


@dataclass(frozen=True, slots=True)
class Strike:
    """How a fault is made.

    Attributes:
        fault: What is done, in words.
        injected: How, in words.
        act: Does it to a run.
    """

    fault: str
    injected: str
    act: Act


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One fault at one place.

    Attributes:
        name: Of its file of results.
        place: Where it strikes, in words.
        strike: What is done there.
        detected_by: Who must notice.
        within_s: Longest time until it is told, by a free machine's clock; see `Chain.slack`.
        reads: What the user reads, as a pattern; empty where nothing is to be told.
        loses: What may be lost.
        does: What to do, for an operator.
        goes_on: What the run does then.
        is_down: The run is stopped first, and the fault is met by the next start.
        is_cut: Lines of metrics from before it are lost.
        code: The exit code of a run that ends; None: that of `goes_on`.
        mends: Undoes what would keep the run from going on, also where the case has failed.
    """

    name: str
    place: str
    strike: Strike
    detected_by: str
    goes_on: GoesOn
    within_s: float = 0.0
    reads: str = ""
    loses: str = "nothing"
    does: str = "nothing"
    is_down: bool = False
    is_cut: bool = False
    code: int | None = None
    mends: Callable[[Chain], None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A result, as it is kept.

    Attributes:
        name: Of the case.
        outcome: ok, failed or skipped.
        why: Of what failed or was skipped.
        evidence: That the fault fired.
        detected_s: From the fault to the line that tells it; -1 where none is due.
        told: That line.
        redone_steps: Learner steps that were made again.
        resumed_s: From the fault to the first new learner step.
        seed: Of the invocation.
        chain: Which run it was done to.
    """

    name: str
    outcome: str
    why: str = ""
    evidence: str = ""
    detected_s: float = -1.0
    told: str = ""
    redone_steps: int = 0
    resumed_s: float = -1.0
    seed: int = 0
    chain: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Cases that are done to one run, one after the other.

    Attributes:
        name: Of the run.
        settings: Overrides.
        cases: In any order.
        last: Those that come at the end, in their order.
        first_step: Learner steps before the first fault: there are two checkpoints then.
        imitates: Whether the run has no engines, so that its data is scripted and its parameters
            are compared with those of a run that nothing was done to.
        small_disk: Bytes of the file system that its folder lies on; 0: it lies on no own one.
    """

    name: str
    settings: tuple[str, ...] = ()
    cases: tuple[Case, ...] = ()
    last: tuple[Case, ...] = field(default=())
    first_step: int = 0
    imitates: bool = False
    small_disk: int = 0
