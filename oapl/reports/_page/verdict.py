"""What became of the runs, in a sentence, and the numbers that one looks for first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oapl.comparison.paired import Difference
from oapl.reports._scores import BEFORE, Column, columns
from oapl.reports._study import tested
from oapl.reports._study.run import Run, is_measure
from oapl.reports._study.study import Series, Study
from oapl.reports._study.tested import HEADLINES, Side
from oapl.reports.efficiency import score_of
from oapl.reports.setup import duration
from oapl.tracking import status

ERRORS = 2.0
"""Standard errors beyond which a difference is told as one, where no problems can be paired."""
MOST_TESTED = 3
"""Sets whose tests are told one by one; of more `oapl compare` has a table."""
MOST_TOLD = 4
"""Series that are told one by one; of more there is the table of results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A number that one looks for first.

    Attributes:
        name, value: As they are read.
        detail: In small letters; may be empty.
    """

    name: str
    value: str
    detail: str = ""


def verdict(study: Study) -> list[str]:
    """Say in a sentence or two what became of the runs.

    Args:
        study: The runs.
    """
    several = len(study.series) > 1
    lines = [_of_all(study)] if several else []
    if len(study.series) <= MOST_TOLD:
        lines += [_of_one(series, several) for series in study.series]
    return [line for line in [*lines, *map(_unfinished, study.runs)] if line]


def tiles(study: Study) -> list[Tile]:
    """Give the first numbers of a single series; none of several, which the tables compare."""
    if len(study.series) != 1:
        return []
    series = study.series[0]
    found = [
        _score_tile(series),
        _tail(series, "reward/trained_mean", "reward at the end", ".3f"),
        Tile(
            name="learner steps",
            value=f"{_mean([run.steps for run in series.runs]):,.0f}",
            detail=f"in {duration(_mean([run.seconds for run in series.runs]))}",
        ),
        _rollouts_tile(series),
        _tail(series, "replay/lag_mean", "lag, steps", ".1f", "replay/lag_max"),
        _idle_tile(series, "idle/learner", "the learner waits"),
        _idle_tile(series, "idle/engines", "engines idle"),
        _ettr_tile(series),
        Tile(
            name="faults",
            value=f"{sum(map(num_faults, series.runs)):,.0f}",
            detail="of all kinds, restarts included",
        ),
    ]
    return [tile for tile in found if tile is not None]


def num_faults(run: Run) -> float:
    """Count all that should not have happened."""
    return sum(run.total(name) for name in run.names if name.startswith("faults/"))


def headline(study: Study) -> str | None:
    """The measure by which runs are told: mean@n where there is one; None without evaluations."""
    for measure in HEADLINES:
        if any(run.evaluated(measure) for run in study.runs):
            return measure
    return None


def _of_one(series: Series, is_one_of_several: bool) -> str:
    head = f"{series.name}: " if is_one_of_several else ""
    if not any(run.steps for run in series.runs):
        return f"{head}{_evaluated(series)}; nothing was trained."
    many = f", {len(series.runs)} seeds," if len(series.runs) > 1 else ""
    cost = f"{_mean([run.steps for run in series.runs]):,.0f} learner steps"
    made = [run.volume.last for run in series.runs if run.volume]
    if made:
        cost += f" and {_mean(made):,.0f} rollouts"
    cost += f" in {duration(_mean([run.seconds for run in series.runs]))}"
    return f"{head}{_moved(series)}{many} over {cost}; {_faults(series)}."


def _faults(series: Series) -> str:
    number = sum(map(num_faults, series.runs))
    return f"{number:,.0f} fault{'s' * (number != 1)}" if number else "no faults"


def _moved(series: Series) -> str:
    """How the score, or else the reward, has moved."""
    study = Study(series.runs)
    measure = headline(study)
    there = columns(study)
    if measure is None or there[0].name != BEFORE:
        rewards = [run.curve("reward/trained_mean") for run in series.runs]
        held = [found for found in rewards if found]
        if not held:
            return "trained"
        first = _mean([float(found.y[: max(1, len(found) // 10)].mean()) for found in held])
        last = _mean([found.tail() for found in held])
        return f"the reward of what was trained on went from {first:.3f} to {last:.3f}"
    sets = [of for of in study.sets if math.isfinite(there[0].score(measure, of)[0])]
    (old, old_error), (new, new_error) = (_average(one, measure, sets) for one in there[:2])
    error = math.hypot(old_error, new_error)
    runs = tuple(run for run in series.runs if len(run.evaluations) > 1)
    found = tested.tests(Side(runs=runs, is_last=False), Side(runs=runs), measure, sets)
    where = sets[0] if len(sets) == 1 else f"{len(sets)} evaluation sets"
    moved = f"{old:.3f} to {new:.3f}"
    if len(sets) == 1 and found:
        is_still, told = not tested.is_shown(found[0]), f"{moved} ({tested.told(found[0])})"
    else:
        is_still = math.isfinite(error) and abs(new - old) <= ERRORS * error
        told = f"{moved} ({_points(new - old, error)}{_by_set(found)})"
    word = "did not move beyond chance" if is_still else "rose" if new > old else "fell"
    return f"{_written(study, measure)} on {where} {word}: {told}"


def _points(change: float, error: float) -> str:
    spread = f" ± {100 * error:.1f}" if math.isfinite(error) else ""
    return f"{100 * change:+.1f}{spread} points"


def _by_set(found: Sequence[Difference]) -> str:
    """Each set's own test, behind a figure over several."""
    if not 0 < len(found) <= MOST_TESTED:
        return ""
    return "; paired by problem " + "; ".join(f"{one.name} {tested.told(one)}" for one in found)


def _evaluated(series: Series) -> str:
    study = Study(series.runs)
    measure = headline(study)
    if measure is None:
        return "neither trained nor evaluated"
    value, error = _average(columns(study)[-1], measure, list(study.sets))
    told = f" ± {error:.3f}" if math.isfinite(error) else ""
    return f"{_written(study, measure)} on {', '.join(study.sets)} is {value:.3f}{told}"


def _written(study: Study, measure: str) -> str:
    """`mean@8` for `mean@n`, where all evaluations have that n."""
    names = {
        name.rpartition("/")[2]
        for run in study.runs
        for one in run.evaluations
        for name in one.figures
        if is_measure(name, measure)
    }
    return names.pop() if len(names) == 1 else measure


def _of_all(study: Study) -> str:
    """Which series ends highest, and whether by more than its error."""
    measure = headline(study)
    there = [one for one in columns(study) if one.is_last]
    if measure is None:
        return ""
    sets = list(study.sets)
    scores = [(*_average(one, measure, sets), place) for place, one in enumerate(there)]
    ranked = sorted((one for one in scores if math.isfinite(one[0])), reverse=True)
    if len(ranked) < 2:
        return ""
    (best, best_error, first), (second, second_error, other) = ranked[:2]
    error = math.hypot(best_error, second_error)
    found = tested.tests(Side(runs=there[other].runs), Side(runs=there[first].runs), measure, sets)
    if len(sets) == 1 and found:
        is_sure, ahead = tested.is_shown(found[0]), tested.told(found[0])
    else:
        is_sure = math.isfinite(error) and best - second > ERRORS * error
        ahead = _points(best - second, error) + _by_set(found)
    sure = "is more than chance" if is_sure else "may be chance"
    return (
        f"Of {len(ranked)} series {there[first].name} ends highest, at {best:.3f}, before "
        f"{there[other].name}: {ahead}; this {sure}."
    )


def _average(one: Column, measure: str, sets: list[str]) -> tuple[float, float]:
    """Mean over sets, with the error of that mean; sets are independent."""
    scores = [one.score(measure, of) for of in sets]
    values = np.array([value for value, _ in scores])
    errors = np.array([error for _, error in scores])
    return float(values.mean()), float(np.sqrt((errors**2).sum()) / max(len(errors), 1))


def _unfinished(run: Run) -> str:
    found = status.read(run.folder)
    if found is None or found.phase == status.DONE:
        return ""
    if found.is_over:
        return f"{run.name} has {found.phase} at step {run.steps:,}."
    if found.is_lost:
        return f"{run.name} has ended at step {run.steps:,} without a word (phase {found.phase})."
    return f"{run.name} is still going on, at step {run.steps:,} (phase {found.phase})."


def _score_tile(series: Series) -> Tile | None:
    curves = [found for run in series.runs if (found := score_of(run))]
    if not curves:
        return None
    first, last = _mean([float(one.y[0]) for one in curves]), _mean([one.last for one in curves])
    before = f"from {first:.3f}" if any(len(one) > 1 for one in curves) else ""
    return Tile(name="score", value=f"{last:.3f}", detail=before)


def _rollouts_tile(series: Series) -> Tile | None:
    made = [run.volume.last for run in series.runs if run.volume]
    if not made:
        return None
    seconds = _mean([run.seconds for run in series.runs])
    return Tile(
        name="rollouts",
        value=f"{_mean(made):,.0f}",
        detail=f"{_mean(made) / seconds:,.1f} a second",
    )


def _tail(series: Series, name: str, title: str, form: str, largest: str = "") -> Tile | None:
    found = [one for run in series.runs if (one := run.curve(name))]
    if not found:
        return None
    detail = ""
    if largest:
        most = [float(one.y.max()) for run in series.runs if (one := run.curve(largest))]
        detail = f"{max(most):.0f} at most" if most else ""
    mean = _mean([float(one.y.mean()) for one in found]) if largest else None
    value = _mean([one.tail() for one in found]) if mean is None else mean
    return Tile(name=title, value=format(value, form), detail=detail)


def _idle_tile(series: Series, name: str, title: str) -> Tile | None:
    """The mean over the steps that engines made rollouts for."""
    shares = [
        line[name]
        for run in series.runs
        for line in run.lines
        if line.get("idle/engines") is not None and line.get(name) is not None
    ]
    return Tile(name=title, value=f"{_mean(shares):.0%}", detail="of a step") if shares else None


def _ettr_tile(series: Series) -> Tile | None:
    found = [one.last for run in series.runs if (one := run.curve("total/ettr"))]
    return Tile(name="effective training time", value=f"{_mean(found):.1%}") if found else None


def _mean(values: list[float] | list[int]) -> float:
    return float(np.mean(values))
