"""The board for W&B, built by the package wandb-workspaces."""

from __future__ import annotations

import re
from typing import Any

from oapl.errors import InputError
from oapl.tracking.boards import BOARD, Panel
from oapl.tracking.names import STEP

NAME = "oapl"


def workspace(entity: str, project: str) -> Any:
    """Describe the workspace; nothing is sent anywhere.

    Args:
        entity: The team or person it is for.
        project: W&B project.

    Raises:
        InputError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as reports
        import wandb_workspaces.workspaces as workspaces
    except ImportError:
        raise InputError(
            "the package wandb-workspaces is not installed; `pip install 'oapl[dashboard]'`"
        ) from None
    sections = [
        workspaces.Section(
            name=title, panels=[_plot(reports, panel) for panel in panels], is_open=True
        )
        for title, panels in BOARD.items()
    ]
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=workspaces.WorkspaceSettings(x_axis=STEP),
    )


def _plot(reports: Any, panel: Panel) -> Any:
    """Lines by name, or by a pattern where a part of the name is not known before."""
    if any("{" in name or "@n" in name for name in panel.metrics):
        forms = "|".join(pattern(name) for name in panel.metrics)
        return reports.LinePlot(title=panel.title, x=STEP, metric_regex=f"^({forms})$")
    return reports.LinePlot(title=panel.title, x=STEP, y=list(panel.metrics))


def pattern(metric: str) -> str:
    """The names that a metric of the table stands for, as a regular expression."""
    return re.sub(r"\{[A-Z]+\}", "[^/]+", metric).replace("@n", "@[0-9]+")
