"""Reward of what was trained on, and the score of the evaluations, over learner steps."""

from __future__ import annotations

from oapl.reports._lines import evaluated, first_of, panel, panels
from oapl.reports._study.study import Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="Learning curves",
    section="learning",
    place=10,
    reads="Lines are means over seeds, bands one standard error of that mean; thin lines are what "
    "was recorded, thick ones its running mean. Dotted: a stage begins, or the reference is reset.",
    like="ProRL Fig. 4; Perplexity, temperature, learning rate and base model",
)
MOST_SETS = 4
REWARDS = ("reward/trained_mean", "reward/mean")


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    found = [panel(study, "reward of what was trained on", first_of(REWARDS))]
    if len(study.sets) != 1:
        found.append(panel(study, "mean score of the evaluation sets", evaluated("mean@n")))
    for name in study.sets[:MOST_SETS]:
        found.append(panel(study, f"score on {name} (mean@n)", evaluated("mean@n", name)))
    if not any(run.evaluated("mean@n") for run in study.runs):
        found.append(panel(study, "greedy score", evaluated("greedy")))
    return panels(found, "these runs have recorded neither rewards nor evaluations")
