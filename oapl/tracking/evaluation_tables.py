"""An evaluation as tables: measures by set, scores by category, accuracy by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table

from oapl.comparison import SE
from oapl.evaluation import LengthBin, averages

DASH = "-"
AVERAGE = "average"


def measures_table(metrics: Mapping[str, float], title: str = "evaluation") -> Table:
    """Draw a row per measure, a column per set, and the average of several sets.

    Args:
        metrics: Of all sets, `eval/SET/MEASURE`.
        title: Of the table.
    """
    by_set = _by_set(metrics)
    means = averages(metrics)
    table = _table(title, "measure", [*by_set, *([AVERAGE] if means else [])])
    for measure in _measures(by_set):
        cells = [_cell(those, measure) for those in by_set.values()]
        table.add_row(measure, *cells, *([_cell(means, measure)] if means else []))
    if means and "eval/score" in metrics:
        table.add_row("score", *(DASH for _ in by_set), _cell(metrics, "eval/score"))
    return table


def categories_table(metrics: Mapping[str, float]) -> Table | None:
    """Draw a row per category, a column per set; None where no set has categories."""
    found = {
        name: {measure: value for measure, value in those.items() if "/" in measure}
        for name, those in _by_set(metrics).items()
    }
    found = {name: those for name, those in found.items() if those}
    if not found:
        return None
    table = _table("by category", "category", list(found))
    rows = dict.fromkeys(name for those in found.values() for name in those)
    for measure in (name for name in rows if not name.endswith(SE)):
        table.add_row(measure, *(_cell(those, measure) for those in found.values()))
    return table


def lengths_table(bins: Mapping[str, Sequence[LengthBin]]) -> Table:
    """Draw accuracy by response length: a row per bin, a column per set.

    Args:
        bins: By set.
    """
    table = _table("right answers by length", "tokens", list(bins))
    for low, high in sorted({(one.low, one.high) for those in bins.values() for one in those}):
        cells = []
        for those in bins.values():
            one = next((b for b in those if (b.low, b.high) == (low, high)), None)
            cells.append(DASH if one is None else f"{one.accuracy:.3f} of {one.count:,}")
        table.add_row(f"{low:,} to {high - 1:,}", *cells)
    return table


def _measures(by_set: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Measures in order, those of one kind (`mean@4`, `mean@8`) together."""
    names = dict.fromkeys(name for those in by_set.values() for name in those)
    shown = [name for name in names if not name.endswith(SE) and "/" not in name]
    kinds = list(dict.fromkeys(name.partition("@")[0] for name in shown))
    return sorted(shown, key=lambda name: kinds.index(name.partition("@")[0]))


def _by_set(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Figures by set and measure; a category's measure is `CATEGORY/mean@8`."""
    found: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        parts = name.split("/", 2)
        if len(parts) == 3:
            found.setdefault(parts[1], {})[parts[2]] = value
    return found


def _table(title: str, first: str, others: Sequence[str]) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAVY)
    table.add_column(first)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _cell(figures: Mapping[str, float], measure: str) -> str:
    value, error = figures.get(measure), figures.get(measure + SE)
    if value is None:
        return DASH
    shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    return shown if error is None else f"{shown} ± {error:.3f}"
