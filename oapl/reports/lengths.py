"""Response lengths, beside a baseline too, cut-offs, repetition and self-reflection."""

from __future__ import annotations

import numpy as np

from oapl.reports._drawing.panels import Level
from oapl.reports._lines import (
    evaluated,
    lines_panel,
    metric,
    panel,
    panels,
    smooth_line,
)
from oapl.reports._study.curves import Curve, curve
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="Lengths and form of responses",
    section="rollouts",
    place=10,
    reads="Relative length is that of the first series taken away, at the same learner step.",
    like="ReMix Fig. 5; Perplexity, rollout length scaling",
)
LENGTH = "rollout/length_mean"
RATES = {
    "rollout/truncated_rate": "cut off at the limit",
    "rollout/repetition_rate": "repeated 4-grams in a response",
    "rollout/loop_rate": "ends in a block again and again",
}
EVALUATED = {
    "length_mean": "length in evaluations (tokens)",
    "length_p90": "length that nine in ten stay within, in evaluations",
}
REFLECTION = "answers that look back (verify, check, wait, ...), in evaluations"


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    means_and_longest = [
        smooth_line(series, metric(f"rollout/length_{which}"), label, is_dashed=which == "max")
        for series in study.series
        for which, label in (("mean", series.label), ("max", ""))
    ]
    found = [lines_panel(study, "length (tokens); dashed: the longest", means_and_longest)]
    if len(study.series) > 1:
        others = [
            smooth_line(series, lambda run: relative(run, study.runs[0]))
            for series in study.series[1:]
        ]
        title = f"length less that of {study.series[0].name} (tokens)"
        found.append(lines_panel(study, title, others, levels=(Level(at=0.0),)))
    baseline = metric("rollout/relative_length")
    found.append(panel(study, "length less that of the baseline run (tokens)", baseline))
    found += [panel(study, title, evaluated(name)) for name, title in EVALUATED.items()]
    found.append(panel(study, REFLECTION, evaluated("reflection_rate"), is_percent=True))
    found += [
        panel(study, title, metric(name), is_percent=True)
        for name, title in RATES.items()
        if name in study.names()
    ]
    return panels(found, "these runs have recorded no response lengths: nothing was sampled")


def relative(run: Run, baseline: Run) -> Curve:
    """Take the baseline's length from the run's, at learner steps that both have made.

    Args:
        run: Whose length.
        baseline: From whose length it is told.
    """
    own, theirs = run.curve(LENGTH), baseline.curve(LENGTH)
    if not own or not theirs:
        return curve([], [])
    is_shared = (own.x >= theirs.x[0]) & (own.x <= theirs.x[-1])
    shared = Curve(own.x[is_shared], own.y[is_shared])
    return Curve(shared.x, shared.y - _at(shared, theirs))


def _at(one: Curve, other: Curve) -> np.ndarray:
    """What another curve has at the places of this one, float64 [N]."""
    return np.interp(one.x, other.x, other.y)
