"""The board for Grafana, over the gauges that Ray exports to Prometheus."""

from __future__ import annotations

import re
from typing import Any

from oapl.tracking.boards import BOARD, Panel, Unit
from oapl.tracking.names import STEP
from oapl.tracking.ray_metrics import TAG, gauge_name

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
UNITS: dict[Unit, str] = {"": "none", "share": "percentunit", "s": "s", "bytes": "bytes"}
COLUMNS, WIDTH, HEIGHT = 3, 8, 8
PART = "PART"
"""Stands for a part in braces while a name is made."""


def board() -> dict[str, Any]:
    """Describe the board as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for section, shown in BOARD.items():
        row = {"type": "row", "title": section, "collapsed": False, "panels": []}
        panels.append({**row, "gridPos": {"h": 1, "w": COLUMNS * WIDTH, "x": 0, "y": top}})
        top += 1
        for index, panel in enumerate(shown):
            place = {
                "h": HEIGHT,
                "w": WIDTH,
                "x": index % COLUMNS * WIDTH,
                "y": top + index // COLUMNS * HEIGHT,
            }
            panels.append({**_panel(panel), "gridPos": place})
        top += -(-len(shown) // COLUMNS) * HEIGHT
    return {
        "title": "oapl",
        "uid": "oapl",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, 1)],
    }


def _variables() -> list[dict[str, Any]]:
    """What a person chooses: where the figures are, and which runs."""
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    query = f"label_values(ray_{gauge_name(STEP)}, {TAG})"
    runs = {"name": TAG, "type": "query", "datasource": SOURCE, "query": query}
    return [source, {**runs, "multi": True, "includeAll": True, "refresh": 2}]


def _panel(panel: Panel) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": UNITS[panel.unit]}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "expr": expression(name), "legendFormat": "{{__name__}}"}
            for i, name in enumerate(panel.metrics)
        ],
    }


def expression(metric: str) -> str:
    """Ask Prometheus for a metric of the chosen runs; for all that a part in braces stands for."""
    plain = re.sub(r"\{[A-Z]+\}", PART, metric).replace("@n", f"@{PART}")
    gauge = f"ray_{gauge_name(plain)}"
    if PART not in gauge:
        return f'{gauge}{{{TAG}=~"${TAG}"}}'
    return f'{{__name__=~"{gauge.replace(PART, ".+")}", {TAG}=~"${TAG}"}}'
