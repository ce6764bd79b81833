"""V*, advantages and residuals of OAPL; advantages of the others; log-ratios."""

from __future__ import annotations

from oapl.reports._drawing.panels import Curves, Level, Line
from oapl.reports._lines import LEAST_POINTS, lines_panel, panels
from oapl.reports._study.curves import Curve, over, smoothed
from oapl.reports._study.study import Series, Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="V*, advantages and residuals",
    section="policy",
    place=10,
    reads="Lines are means over the batch, bands one standard deviation to either side: how wide "
    "the distribution is, not how sure its mean is. Residuals that narrow around 0 are what OAPL "
    "works for.",
    like="OAPL Eq. 2, 3",
)
STREAMS = {
    "oapl/v_star": "V* (reward)",
    "oapl/advantage": "advantage r - V* (reward)",
    "oapl/residual": "residual (reward)",
    "oapl/log_ratio": "ln pi - ln pi_vllm (nats a token)",
    "grpo/advantage": "advantage (GRPO)",
    "ppo/advantage": "advantage (PPO)",
    "remix/advantage": "advantage (ReMix)",
    "critic/value": "the critic's values (reward)",
}

AROUND_REWARD = ("oapl/v_star", "critic/value")
"""Streams that zero says nothing about."""


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    found = [_panel(study, name, title) for name, title in STREAMS.items()]
    why = "these runs have recorded no credit (oapl/v_star_mean, oapl/residual_mean, ...)"
    return panels(found, f"{why}: their objective makes none")


def _panel(study: Study, name: str, title: str) -> Curves | None:
    lines = [_line(series, name) for series in study.series]
    return lines_panel(
        study, title, lines, levels=() if name in AROUND_REWARD else (Level(at=0.0),)
    )


def _line(series: Series, name: str) -> Line | None:
    mean = over([run.curve(f"{name}_mean") for run in series.runs])
    if len(mean.x) < LEAST_POINTS:
        return None
    spread = over([run.curve(f"{name}_std") for run in series.runs])
    y = smoothed(Curve(mean.x, mean.mean)).y
    has_spread = len(spread.x) == len(mean.x)
    half = smoothed(Curve(spread.x, spread.mean)).y if has_spread else None
    return Line(
        label=series.label,
        place=series.place,
        x=mean.x,
        y=y,
        low=None if half is None else y - half,
        high=None if half is None else y + half,
    )
