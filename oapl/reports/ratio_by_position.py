"""Importance ratio by place in the response: drift grows along it."""

from __future__ import annotations

import re

import numpy as np

from oapl.reports._drawing.panels import Curves, Level, Line
from oapl.reports._study.study import Series, Study
from oapl.reports.base import About, Absent, Drawing, Panels

DECLARES = About(
    title="Importance ratio by position",
    section="policy",
    place=20,
    reads="The learner's probability over the sampler's, mean over tokens in tenths of the "
    "response, early and late in the run. A ratio that leaves 1 toward the end is the whipping "
    "effect: what has drifted at one token is carried along by all that follow.",
    like="ReMix §4.4.2",
)
NAME = re.compile(r"policy/ratio_at/(\d+)")
SHARE = 0.25
"""Of the steps, which are early or late."""


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    bins = sorted(int(found[1]) for name in study.names() if (found := NAME.fullmatch(name)))
    lines = [
        line
        for series in study.series
        for is_late in (False, True)
        if (line := _line(series, bins, is_late)) is not None
    ]
    if not lines:
        return Absent(
            "these runs have not recorded importance ratios by position (policy/ratio_at/0 to 9)"
        )
    return Panels(
        panels=(
            Curves(
                title="mean importance ratio, early (dashed) and late in the run",
                x="part of the response (%)",
                lines=tuple(lines),
                levels=(Level(at=1.0),),
            ),
        )
    )


def _line(series: Series, bins: list[int], is_late: bool) -> Line | None:
    found = [[run.curve(f"policy/ratio_at/{number}").y for number in bins] for run in series.runs]
    rows = [[_mean(one, is_late) for one in run] for run in found]
    values = np.array([row for row in rows if np.isfinite(row).all()])  # [runs, bins]
    if not values.size:
        return None
    mean = values.mean(axis=0)
    error = np.std(values, axis=0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else None
    return Line(
        label=", ".join(filter(None, (series.label, "late" if is_late else "early"))),
        place=series.place,
        x=100 * (np.array(bins) - bins[0] + 0.5) / len(bins),
        y=mean,
        low=None if error is None else mean - error,
        high=None if error is None else mean + error,
        is_dashed=not is_late,
    )


def _mean(values: np.ndarray, is_late: bool) -> float:
    number = max(1, round(SHARE * len(values)))
    part = values[-number:] if is_late else values[:number]
    return float(part.mean()) if len(part) else float("nan")
