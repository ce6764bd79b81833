"""Evaluations of the same problems put side by side as `oapl compare` does: paired by problem.

What a run has kept as text is enough: question and reward of every answer. A problem that one side
alone has is left out; over seeds its number is the mean of all runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from oapl.comparison.many import adjusted
from oapl.comparison.mcnemar import Discordant, discordant
from oapl.comparison.paired import Difference, Pairs, difference, paired
from oapl.comparison.words import LEVEL, figures, verdict
from oapl.reports._study.answers import Answered, Problem
from oapl.reports._study.run import Run

GREEDY = "greedy"
HEADLINES = ("mean@n", GREEDY)
"""The measures by which runs are told, the first one that was measured."""
Key = tuple[str, int]
"""A question's text, and how often it stood in the set before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One evaluation of each run.

    Attributes:
        runs: One per seed.
        is_last: The last one, else the first.
    """

    runs: Sequence[Run]
    is_last: bool = True


def tests(before: Side, after: Side, measure: str, sets: Sequence[str]) -> list[Difference]:
    """Compare two sides on each set of which both have kept answers to the same problems.

    Args:
        before, after: The sides.
        measure: `mean@n`, or `greedy`.
        sets: Their names.

    Returns:
        In the order of `sets`; of several with p among all of them.
    """
    found = [one for of in sets if (one := _test(before, after, measure, of)) is not None]
    if len(found) < 2:
        return found
    ps = adjusted([one.p for one in found])
    return [replace(one, adjusted_p=p) for one, p in zip(found, ps, strict=True)]


def before_and_after(folder: Path) -> list[str]:
    """Say of each set how a run's last evaluation differs from its first, and how surely.

    Args:
        folder: The run's.

    Returns:
        A line per set; none where it was evaluated once, or has kept no answers.
    """
    run = Run(folder)
    if len(run.evaluations) < 2:
        return []
    before, after = Side(runs=[run], is_last=False), Side(runs=[run])
    for measure in HEADLINES:
        if found := tests(before, after, measure, run.sets):
            return [_line(one) for one in found]
    return []


def _line(found: Difference) -> str:
    said = verdict(found, names=("the start", "the end"))
    return f"{found.name}, {found.measure}, {found.pairs} problems in pairs: {said}"


def is_shown(found: Difference) -> bool:
    """Whether the difference is more than chance."""
    return found.final_p <= LEVEL


def told(found: Difference) -> str:
    """The difference with its interval, and the p that counts."""
    return figures(found.change, found.low, found.high, found.final_p)


def _test(before: Side, after: Side, measure: str, of: str) -> Difference | None:
    sides = [_values(side, measure, of) for side in (before, after)]
    pairs = paired(*sides)
    if not len(pairs.before):
        return None
    is_single = len(before.runs) == len(after.runs) == 1
    coins = _coins(pairs) if measure == GREEDY and is_single else None
    name = GREEDY if measure == GREEDY else "mean"
    return difference(of, name, pairs, discordant=coins)


def _values(side: Side, measure: str, of: str) -> dict[Key, float]:
    """By problem; those that all runs have."""
    found = [
        _of_one(answered, measure)
        for run in side.runs
        if (answered := _answered(run, of, side.is_last)) is not None
    ]
    if len(found) < len(side.runs):
        return {}
    first, *others = found
    return {
        key: fmean([first[key], *(one[key] for one in others)])
        for key in first
        if all(key in one for one in others)
    }


def _answered(run: Run, of: str, is_last: bool) -> Answered | None:
    """The answers of the evaluation that the run is told by; None where they were not kept."""
    steps = [one.step for one in run.evaluations]
    step = (steps[-1] if is_last else steps[0]) if steps else None
    return next((one for one in run.answers if (one.step, one.of) == (step, of)), None)


def _of_one(answered: Answered, measure: str) -> dict[Key, float]:
    seen: Counter[str] = Counter()
    found: dict[Key, float] = {}
    for problem in answered.problems:
        question = str(problem.get("question") or problem.get("prompt") or "")
        rewards = _rewards(problem, measure)
        if rewards:
            found[question, seen[question]] = fmean(rewards)
        seen[question] += 1
    return found


def _rewards(problem: Problem, measure: str) -> list[float]:
    """Of what was judged."""
    answers = [problem.get(GREEDY)] if measure == GREEDY else problem["samples"]
    return [float(one["reward"]) for one in answers if one and one["reward"] is not None]


def _coins(pairs: Pairs) -> Discordant | None:
    """Problems that one side alone solves; None where rewards say more than right or wrong."""
    levels = np.unique(np.concatenate([pairs.before, pairs.after]))
    if len(levels) > 2:
        return None
    return discordant(pairs.before == levels[-1], pairs.after == levels[-1])
