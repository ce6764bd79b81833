"""What an evaluation could show, before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.commands._compare.sides import Run, read
from oapl.comparison.power import EVEN, Spread, smallest_difference, spread_of
from oapl.comparison.words import smallest_told
from oapl.errors import InputError


def told(
    place: Path | None,
    *,
    label: str,
    sets: Sequence[str],
    problems: int,
    samples: int,
    correlation: float,
) -> str:
    """Say the smallest difference that so many problems and samples show.

    Args:
        place: An evaluation whose rewards tell how they spread, set by set; None: rates spread
            evenly from never to always.
        label: See `deploy.commands._compare.sides.read`.
        sets: These alone; empty for all.
        problems, samples: Of the evaluation to be made.
        correlation: See `oapl.comparison.power`.

    Raises:
        InputError: Numbers out of range, or a place without an evaluation.
    """
    if problems < 1 or samples < 1 or not -1 <= correlation <= 1:
        raise InputError(
            f"--problems {problems} --samples {samples} --correlation {correlation:g}: problems "
            "and samples are at least 1, a correlation lies from -1 to 1"
        )
    spreads = {"": EVEN} if place is None else _spreads(read(place, label), sets)
    how = "problems solved at rates spread evenly from 0 to 1" if place is None else str(place)
    lines = [f"by {how}, correlation {correlation:g} between both models' rates:"]
    for name, spread in spreads.items():
        least = smallest_difference(problems, samples, spread, correlation=correlation)
        lines.append(f"{name + ': ' if name else ''}{smallest_told(least, problems, samples)}")
    return "\n".join(lines)


def _spreads(run: Run, only: Sequence[str]) -> dict[str, Spread]:
    if lost := [name for name in only if name not in run.sets]:
        raise InputError(f"--set {lost[0]}: {run.place} has only {', '.join(run.sets)}")
    return {
        name: spread_of(
            [
                np.array([judgement.reward for _, judgement in problem.responses])
                for problem in one.problems.values()
                if problem.responses
            ]
        )
        for name, one in run.sets.items()
        if not only or name in only
    }
