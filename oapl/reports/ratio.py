"""Importance ratio, accuracy and length over learner steps, smoothed over what was recorded."""

from __future__ import annotations

from oapl.reports._drawing.panels import Level
from oapl.reports._lines import evaluated, first_of, metric, panel, panels
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing

DECLARES = About(
    title="Importance ratio, accuracy and length",
    section="policy",
    place=30,
    reads="The ratio that the objective forms; where it forms none, exp(|ln pi - ln pi_vllm|), "
    "which is 1 where learner and sampler agree.",
    like="ReMix Fig. 4",
)
RATIOS = (
    *("remix/ratio_mean", "grpo/ratio_mean", "grpo/importance_mean", "ppo/ratio_mean"),
    *("policy/ratio_mean", "policy/prob_ratio"),
)
CLIPPED = ("remix/clipped_rate", "grpo/clipped_rate", "ppo/clipped_rate", "oapl/outside_rate")


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    ratio = panel(study, "importance ratio (mean)", first_of(RATIOS), levels=(Level(at=1.0),))
    if ratio is None:
        return Absent("these runs have recorded no importance ratio (policy/prob_ratio)")
    title = "tokens that a bound took out, or outside of it"
    found = [
        panel(study, "accuracy in evaluations (mean@n)", evaluated("mean@n")),
        panel(study, "response length (tokens)", metric("rollout/length_mean")),
        panel(study, title, first_of(CLIPPED), is_percent=True),
    ]
    return panels([ratio, *found], "")
