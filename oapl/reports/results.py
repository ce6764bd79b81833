"""The table of results: a column per evaluation set, the average, the gain, and what it cost."""

from __future__ import annotations

import math

import numpy as np

from oapl.reports._drawing.texts import Cell, Mark, Table, marked, number, words
from oapl.reports._scores import BEFORE, Column, columns
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing

DECLARES = About(
    title="Results",
    section="evaluation",
    place=5,
    reads="The last evaluation of each run, mean over seeds, in percent; ± is one standard error "
    "over seeds, or over problems where there is one seed. Best bold, second underlined.",
    like="ReMix Tables 1, 2; OAPL Fig. 1",
)
MEASURES = ("mean@n", "greedy")


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    there = columns(study)
    measure = next((m for m in MEASURES if _averages(study, there, m)), None)
    if measure is None:
        return Absent("these runs were not evaluated (eval.sources)")
    scores = [[one.score(measure, of) for of in study.sets] for one in there]
    means = np.array([[value for value, _ in row] for row in scores])  # [columns, sets]
    averages = [_average(row) for row in means]
    before = averages[0] if there[0].name == BEFORE else math.nan
    marks = [_marks(there, column) for column in (*means.T, np.array(averages))]
    rows = []
    for index, one in enumerate(there):
        cells = [words(one.name)]
        for place, (value, error) in enumerate(scores[index]):
            cells.append(_percent(value, error, marks[place][index]))
        if len(study.sets) > 1:
            cells.append(_percent(averages[index], math.nan, marks[-1][index]))
        gain = 100 * (averages[index] - before) if one.is_last else math.nan
        rows.append((*cells, number(gain, "+.1f"), *_costs(one)))
    average = ("average",) if len(study.sets) > 1 else ()
    headings = ("", *study.sets, *average, "gain, points", *COSTS)
    return Table(columns=headings, rows=tuple(rows), note=f"Scores are {measure}.")


def _marks(there: list[Column], values: np.ndarray) -> list[Mark]:
    """Of a column of the table, float64 [columns]: what was not trained is not compared."""
    return marked([v if one.is_last else None for one, v in zip(there, values, strict=True)])


COSTS = ("runs", "learner steps", "rollouts", "hours")


def _costs(one: Column) -> list[Cell]:
    if not one.is_last:
        return [number(None)] * len(COSTS)
    volumes = [_rollouts(run) for run in one.runs]
    return [
        number(len(one.runs), ".0f"),
        number(float(np.mean([run.steps for run in one.runs])), ",.0f"),
        number(float(np.mean(volumes)) if all(volumes) else None, ",.0f"),
        number(float(np.mean([run.seconds for run in one.runs])) / 3600, ".2f"),
    ]


def _rollouts(run: Run) -> float:
    return run.volume.last if run.volume else 0.0


def _averages(study: Study, there: list[Column], measure: str) -> bool:
    return any(math.isfinite(one.score(measure, of)[0]) for one in there for of in study.sets)


def _average(row: np.ndarray) -> float:
    """Over the sets; NaN where one lacks, which would not be comparable."""
    return float(row.mean()) if len(row) and np.isfinite(row).all() else math.nan


def _percent(value: float, error: float, mark: Mark) -> Cell:
    if not math.isfinite(value):
        return number(None)
    spread = f" ± {100 * error:.1f}" if math.isfinite(error) else ""
    return Cell(text=f"{100 * value:.1f}{spread}", key=value, mark=mark)
