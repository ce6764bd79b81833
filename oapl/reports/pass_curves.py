"""pass@k of the evaluations over learner steps, a panel for each k."""

from __future__ import annotations

import re

from oapl.reports._lines import evaluated, panel, panels
from oapl.reports._study.study import Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="pass@k over learner steps",
    section="learning",
    place=20,
    reads="Means over the evaluation sets; bands are one standard error over seeds.",
    like="OAPL Fig. 2, Fig. 3 right",
)
NAME = re.compile(r"eval/[^/]+/pass@(\d+)")
MOST = 4


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    ks = recorded(study)
    shown = ks if len(ks) <= MOST else [*ks[: MOST - 1], ks[-1]]
    found = [panel(study, f"pass@{k}", evaluated(f"pass@{k}")) for k in shown]
    return panels(found, "no evaluation of these runs has a pass@k (eval.sources, eval.ks)")


def recorded(study: Study) -> list[int]:
    """The k of pass@k that evaluations have recorded."""
    names = {name for run in study.runs for one in run.evaluations for name in one.figures}
    return sorted({int(found[1]) for name in names if (found := NAME.fullmatch(name))})
