"""Aligned panels in which a collapse is seen: form, accuracy and length; reward and cut-offs."""

from __future__ import annotations

from dataclasses import replace

from oapl.reports._drawing.panels import Curves
from oapl.reports._lines import Of, evaluated, first_of, metric, panel, panels
from oapl.reports._study.study import Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="Form, accuracy, length, reward and cut-offs, aligned",
    section="rollouts",
    place=30,
    reads="One axis of learner steps for all. Form that rises while accuracy falls, or cut-offs "
    "that rise while the reward falls, is a collapse on its way.",
    like="Perplexity, model collapse 1 and 2",
)


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    rewards = first_of(("reward/mean", "reward/trained_mean"))
    found = [
        panel(study, "format reward", metric("reward/format/mean")),
        panel(study, "without an answer in the form asked for", _malformed(study), is_percent=True),
        panel(study, "accuracy in evaluations (mean@n)", evaluated("mean@n")),
        panel(study, "response length (tokens)", metric("rollout/length_mean")),
        panel(study, "reward of rollouts", rewards),
        panel(study, "cut off at the limit", metric("rollout/truncated_rate"), is_percent=True),
    ]
    return panels(_aligned([one for one in found if one is not None]), "nothing was sampled here")


def _malformed(study: Study) -> Of:
    names = sorted(
        name
        for name in study.names()
        if name.startswith("reward/") and name.endswith("/malformed_rate")
    )
    return first_of(names)


def _aligned(found: list[Curves]) -> list[Curves]:
    """All over the same stretch of learner steps."""
    if not found:
        return []
    low = min(float(line.x[0]) for one in found for line in one.lines)
    high = max(float(line.x[-1]) for one in found for line in one.lines)
    pad = 0.02 * (high - low)
    return [replace(one, x_range=(low - pad, high + pad)) for one in found] if pad else found
