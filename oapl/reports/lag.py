"""How old rollouts are when they are trained on, and who waits for whom."""

from __future__ import annotations

from oapl.reports._lines import lines_panel, metric, panel, panels, smooth_line
from oapl.reports._study.study import Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="Lag and idle",
    section="speed",
    place=10,
    reads="Lag counts learner steps between the version that sampled a group and its use; idle is "
    "the share of a step in which the learner waited for its batch, or engines had nothing to do.",
    like="OAPL §6.1",
)


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    lags = lines_panel(
        study,
        "lag (learner steps); dashed: the largest",
        [
            smooth_line(series, metric(f"replay/lag_{which}"), label, is_dashed=which == "max")
            for series in study.series
            for which, label in (("mean", series.label), ("max", ""))
        ],
    )
    idles = {"idle/learner": "the learner waits", "idle/engines": "engines have nothing to do"}
    found = [
        panel(study, f"{title} (share of the time)", metric(name), is_percent=True)
        for name, title in idles.items()
    ]
    return panels([lags, *found], "these runs have recorded neither lag nor idle times")
