"""The loss over learner steps, as it is and as a share of where it began."""

from __future__ import annotations

import numpy as np

from oapl.reports._drawing.panels import Level
from oapl.reports._lines import metric, panel, panels
from oapl.reports._study.curves import Curve
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="Loss",
    section="policy",
    place=40,
    reads="What the objective minimises. Its sign means nothing by itself for losses that are "
    "advantages times ratios; the normalised loss is its share of the first tenth of the steps.",
    like="PCL Fig. 4; ReMix Fig. 9",
)
MOST_TERMS = 3
WHOLE, SIGN = "loss/total", "loss/sign"
FIRST_SHARE = 0.1


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    names = [name for name in study.names() if name.startswith("loss/") and name != SIGN]
    terms = sorted(names, key=lambda name: (name != WHOLE, name))
    found = []
    for term in terms[:MOST_TERMS]:
        levels = (Level(at=0.0),) if _crosses_zero(study, term) else ()
        found.append(panel(study, term, metric(term), levels=levels))
    if terms:
        title = f"{terms[0]}, normalised"
        found.append(panel(study, title, lambda run: normalised(run, terms[0])))
    norms = ("policy/grad_norm", "gradient norm before clipping")
    found.append(panel(study, norms[1], metric(norms[0])))
    return panels(found, "these runs have recorded no loss: nothing was trained in them")


def normalised(run: Run, term: str) -> Curve:
    """Divide a term of the loss by the mean size of its first tenth.

    Args:
        run: The run.
        term: A metric's name.
    """
    found = run.curve(term)
    first = np.abs(found.y[: max(1, round(FIRST_SHARE * len(found)))])
    scale = float(first.mean()) if len(first) else 0.0
    return Curve(found.x, found.y / scale) if scale else Curve(found.x[:0], found.y[:0])


def _crosses_zero(study: Study, term: str) -> bool:
    values = [run.curve(term).y for run in study.runs]
    return any(len(one) and one.min() < 0 for one in values)
