"""Rewards by verifier, groups whose rewards are all equal, and the health of the reward servers."""

from __future__ import annotations

from oapl.reports._drawing.panels import Curves
from oapl.reports._lines import lines_panel, metric, panel, panels, smooth_line
from oapl.reports._study.study import Study
from oapl.reports.base import About, Drawing

DECLARES = About(
    title="Rewards and their servers",
    section="rollouts",
    place=20,
    reads="Each verifier's reward before its weight; groups that teach nothing because all their "
    "rewards are equal; how long judging took, waiting included.",
    like="ProRL §2.6, §3.3",
)
GROUPS = {
    "reward/uniform_groups": "groups with all rewards equal",
    "reward/uniform_right_groups": "of those, all above 0",
    "reward/uniform_wrong_groups": "of those, none above 0",
}
MOST_VERIFIERS = 4


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    verifiers = sorted(
        name.split("/")[1]
        for name in study.names()
        if name.startswith("reward/") and name.endswith("/mean") and name.count("/") == 2
    )[:MOST_VERIFIERS]
    found = [panel(study, f"reward of {name}", metric(f"reward/{name}/mean")) for name in verifiers]
    found += [
        panel(study, title, metric(name), is_percent=True)
        for name, title in GROUPS.items()
        if name in study.names()
    ]
    found += _by_verifier(study, verifiers, "latency_p95_s", "judging, 95th percentile (s)")
    failing = [name for name in verifiers if _fails(study, name)]
    found += _by_verifier(study, failing, "timeout_rate", "judgements beyond the deadline")
    return panels(found, "nothing was judged in these runs")


def _by_verifier(study: Study, verifiers: list[str], what: str, title: str) -> list[Curves | None]:
    """Of one series a line per verifier in one panel; of several a panel per verifier."""
    if len(study.series) > 1:
        return [
            panel(study, f"{title}, {name}", metric(f"reward/{name}/{what}")) for name in verifiers
        ]
    (series,) = study.series
    lines = [
        smooth_line(series, metric(f"reward/{name}/{what}"), name, number)
        for number, name in enumerate(verifiers)
    ]
    return [lines_panel(study, title, lines)]


def _fails(study: Study, verifier: str) -> bool:
    return any(run.total(f"reward/{verifier}/timeout_rate") for run in study.runs)
