"""pass@1, 5, 10 or whatever k there are of each evaluation set, with standard errors."""

from __future__ import annotations

from oapl.reports._drawing.panels import Bars
from oapl.reports._scores import columns
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Panels
from oapl.reports.pass_curves import recorded

DECLARES = About(
    title="pass@k of each evaluation set",
    section="evaluation",
    place=20,
    reads="The last evaluation of each run. Whiskers are one standard error: over seeds where "
    "there are several, else over problems.",
    like="OAPL Fig. 1",
)
MOST_KS = 5


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    ks = recorded(study)[:MOST_KS]
    if not ks:
        return Absent("no evaluation of these runs has a pass@k (eval.sources, eval.ks)")
    names = [f"pass@{k}" for k in ks]
    return Panels(
        panels=tuple(
            Bars(
                title=f"accuracy on {of} (%)",
                x="",
                categories=tuple(names),
                groups=tuple(one.bars([(name, of) for name in names]) for one in columns(study)),
                is_percent=True,
            )
            for of in study.sets
        )
    )
