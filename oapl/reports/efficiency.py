"""Score against learner steps, hours and generated rollouts, and what a level costs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from oapl.reports._drawing.panels import Curves, Level
from oapl.reports._lines import line_of
from oapl.reports._study.curves import Curve, curve, first_at, mapped, over, over_shared
from oapl.reports._study.run import Run
from oapl.reports._study.study import Series, Study
from oapl.reports.base import About, Absent, Drawing, Panels

DECLARES = About(
    title="Sample efficiency",
    section="learning",
    place=40,
    reads="The same scores against learner steps, time at work and generated rollouts (dropped "
    "ones included, evaluations not). The dashed level is the best score of the series that "
    "gained least, of those that gained; the line above the pictures says what each took to it.",
    like="ReMix Fig. 3, 6-8; OAPL Fig. 5 right",
)
SHARE = 0.9
"""Of a single series' way from its first to its best score, which its level is."""
LEAST_GAIN = 0.25
"""Of the largest gain of a series, from which on another counts as one that has gained."""
MOST_TOLD = 4
"""Series whose costs are told one by one; of more the least and the most."""
Axis = Callable[[Run, Curve], Curve]


def by_steps(run: Run, score: Curve) -> Curve:
    """The score over learner steps.

    Args:
        run: Whose it is.
        score: Over learner steps.
    """
    return score


def by_hours(run: Run, score: Curve) -> Curve:
    """The score over hours at work.

    Args:
        run: Whose it is.
        score: Over learner steps.
    """
    return mapped(score, run.worked, lambda seconds: seconds / 3600)


def by_minutes(run: Run, score: Curve) -> Curve:
    """The score over minutes at work.

    Args:
        run: Whose it is.
        score: Over learner steps.
    """
    return mapped(score, run.worked, lambda seconds: seconds / 60)


def by_rollouts(run: Run, score: Curve) -> Curve:
    """The score over generated rollouts.

    Args:
        run: Whose it is.
        score: Over learner steps.
    """
    return mapped(score, run.volume)


def by_device_hours(run: Run, score: Curve) -> Curve:
    """The score over the hours of all devices, where a run has counted them.

    Args:
        run: Whose it is.
        score: Over learner steps.
    """
    held = run.curve("total/device_hours")
    return mapped(score, curve([held.x[0] - 1, *held.x], [0.0, *held.y]) if held else held)


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    is_long = max(run.seconds for run in study.runs) > 3 * 3600
    axes: dict[str, tuple[Axis, str]] = {
        "learner steps": (by_steps, ",.0f"),
        **({"hours": (by_hours, ".1f")} if is_long else {"minutes": (by_minutes, ".1f")}),
        "rollouts": (by_rollouts, ",.0f"),
        "device-hours": (by_device_hours, ".2f"),
    }
    level = level_of(study)
    if level is None:
        return Absent("none of these runs was evaluated twice (eval.sources, eval.every_syncs)")
    found = [_panel(study, name, axis, level) for name, (axis, _) in axes.items()]
    notes = [_note(study, name, axis, form, level) for name, (axis, form) in axes.items()]
    told = "; ".join(note for note in notes if note)
    held = tuple(one for one in found if one is not None)
    never = [series.name for series in study.series if cost(series, by_steps, level) is None]
    missed = f" Never reached by {', '.join(never)}." if never else ""
    note = f"A score of {level:.3f} took {told}.{missed}" if told else ""
    return Panels(panels=held, note=note)


def score_of(run: Run) -> Curve:
    """The mean over the evaluation sets of their mean@n, else greedy, over learner steps."""
    return run.evaluated("mean@n") or run.evaluated("greedy")


def level_of(study: Study) -> float | None:
    """The lowest of the series' best scores, of those that have gained; of a single series, most of
    its way. None where no run has two scores."""
    curves = [[one for run in s.runs if len(one := score_of(run)) > 1] for s in study.series]
    bands = [over(found) for found in curves if found]
    if not bands:
        return None
    if len(bands) == 1:
        first, best = float(bands[0].mean[0]), float(bands[0].mean.max())
        return first + SHARE * (best - first)
    gains = [float(band.mean.max() - band.mean[0]) for band in bands]
    least = LEAST_GAIN * max(gains)
    found = [band for band, gain in zip(bands, gains, strict=True) if gain >= least]
    return min(float(band.mean.max()) for band in found)


def cost(series: Series, axis: Axis, level: float) -> float | None:
    """What the series took to reach a level: the mean over its runs that reach it.

    Args:
        series: Runs.
        axis: In what it is told.
        level: The score.

    Returns:
        None where none of them does.
    """
    curves = [axis(run, score_of(run)) for run in series.runs]
    found = [at for one in curves if one and (at := first_at(one, level)) is not None]
    return float(np.mean(found)) if found else None


def _panel(study: Study, name: str, axis: Axis, level: float) -> Curves | None:
    put = over if axis is by_steps else over_shared
    lines = []
    for series in study.series:
        band = put([found for run in series.runs if (found := axis(run, score_of(run)))])
        if band:
            lines.append(line_of(series, band))
    title = f"score, against {name}"
    held = (Level(at=level),)
    return Curves(title=title, x=name, lines=tuple(lines), levels=held) if lines else None


def _note(study: Study, name: str, axis: Axis, form: str, level: float) -> str:
    costs = {series.name: cost(series, axis, level) for series in study.series}
    known = {series: found for series, found in costs.items() if found is not None}
    if not known:
        return ""
    if len(study.series) == 1:
        return f"{next(iter(known.values())):{form}} {name}"
    ranked = sorted(known.items(), key=lambda one: one[1])
    shown = ranked if len(ranked) <= MOST_TOLD else [ranked[0], ranked[-1]]
    told = (", " if shown == ranked else " to ").join(f"{s} {found:{form}}" for s, found in shown)
    least, most = ranked[0][1], ranked[-1][1]
    times = f" ({most / least:.1f} times)" if least > 0 and len(known) > 1 else ""
    return f"{name}: {told}{times}"
