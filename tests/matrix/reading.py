"""A cell is read from the lines of its run, and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oapl.tracking.lines import CLOCK, is_evaluation
from oapl.tracking.names import STEP
from tests.learning import warm
from tests.matrix.plan import GROUP_SIZE
from tests.matrix.records import Cell, Place, Point

WINDOW = 16
"""Learner steps over which trained rewards are averaged."""

Line = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A run that a cell is made of; a cell of two rounds has two.

    Attributes:
        lines: Its metrics.
        set_rollouts: Of the set that it trains on; None where it generates for itself.
        set_seconds: Those took.
    """

    lines: Sequence[Line]
    set_rollouts: int | None = None
    set_seconds: float = 0.0


def cell_of(place: Place, parts: Sequence[Part], seconds: float) -> Cell:
    """Put the runs of a cell together.

    Args:
        place: Where it stands.
        parts: One after the other; each begins with what the one before has trained.
        seconds: All of it took.
    """
    curve: list[Point] = []
    for part in parts:
        curve += curve_of(part, curve[-1] if curve else None)
    lines = [line for part in parts for line in part.lines]
    last = [line for line in lines if is_evaluation(line)][-1]
    trained = [line["reward/trained_mean"] for line in lines if "reward/trained_mean" in line]
    return Cell(
        place=place,
        curve=tuple(curve),
        rewards=by_window(trained) if place.lag else (),
        pass_at_8=last[_of("pass@8")],
        greedy=last[_of("greedy")],
        length=last[_of("length_mean")],
        entropy=last[_of("entropy")],
        largest_lag=int(max(line.get("replay/lag_max", 0) for line in lines)),
        seconds=seconds,
    )


def curve_of(part: Part, before: Point | None) -> list[Point]:
    """Its evaluations.

    Args:
        part: With an evaluation before its first step.
        before: Where the part before it ended.
    """
    step = before.step if before else 0
    rollouts = (before.rollouts if before else 0) + (part.set_rollouts or 0)
    seconds = (before.seconds if before else 0.0) + part.set_seconds
    points, began = [], 0.0
    for line in part.lines:
        if part.set_rollouts is None:
            rollouts += GROUP_SIZE * int(line.get("replay/accepted", 0))
        if not is_evaluation(line):
            continue
        began = began or line[CLOCK]
        points.append(
            Point(
                step=step + int(line[STEP]),
                rollouts=rollouts,
                seconds=seconds + line[CLOCK] - began,
                mean=line[_of("mean@8")],
                error=line[_of("mean@8_se")],
            )
        )
    return points


def by_window(rewards: Sequence[float]) -> tuple[float, ...]:
    parts = (rewards[at : at + WINDOW] for at in range(0, len(rewards), WINDOW))
    return tuple(sum(part) / len(part) for part in parts)


def _of(measure: str) -> str:
    return f"eval/{warm.SET}/{measure}"
