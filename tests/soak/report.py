"""What a soak has found, as text and as JSON."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from oapl.whole_files import written_aside
from tests.chaos.records import Row
from tests.soak.balance import Balance
from tests.soak.slopes import BOUNDS, Slope

BYTES = ("rss", "shm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All of it.

    Attributes:
        seed, minutes: Of the soak.
        rows: Of the faults, in their order.
        slopes: By role and measure.
        balance: Of the run at its end; None where it did not come to one.
        ettr: Effective training time ratio by the run's own account; -1 where it has none.
        restarts: That the run has noted, by part.
        troubles: What else went wrong.
    """

    seed: int
    minutes: float
    rows: Sequence[Row]
    slopes: Sequence[Slope]
    balance: Balance | None = None
    ettr: float = -1.0
    restarts: Mapping[str, int] = field(default_factory=dict)
    troubles: Sequence[str] = ()

    def wrong(self) -> list[str]:
        """What must not be, in words; nothing where all is well."""
        found = [f"{row.name}: {row.why.splitlines()[0]}" for row in self.rows if _failed(row)]
        found += [f"{_named(slope)} grows by {_grown(slope)}" for slope in _large(self.slopes)]
        if self.balance is not None:
            found += self.balance.wrong()
        return [*found, *self.troubles]

    def text(self) -> str:
        """For a person."""
        outcomes = Counter(row.outcome for row in self.rows)
        told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
        again = ", ".join(f"{part}: {number}" for part, number in self.restarts.items())
        lines = [
            f"{len(self.rows)} faults in {self.minutes:.0f} minutes, seed {self.seed}: {told}",
            f"restarts: {again or 'none'}",
            f"balance: {self.balance or 'the run did not come to its end'}",
            f"ETTR: {self.ettr:.3f}" if self.ettr >= 0 else "ETTR: none",
            "",
            *table(self.slopes),
            "",
            *(self.wrong() or ["nothing is wrong"]),
        ]
        return "\n".join(lines)


def table(slopes: Sequence[Slope]) -> list[str]:
    """Slopes as lines of Markdown."""
    lines = ["| role | measure | lives | hours | level | per hour | bound |", "|---|" + "---|" * 6]
    for slope in slopes:
        cells = (
            slope.role,
            slope.measure,
            str(slope.lives),
            f"{slope.hours:.2f}",
            _amount(slope.measure, slope.level),
            _grown(slope),
            _amount(slope.measure, BOUNDS[slope.measure]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write(found: Found, folder: Path) -> None:
    """Keep it beside the samples."""
    with written_aside(folder / "report.json") as part:
        part.write_text(json.dumps(_plain(found), indent=1) + "\n")
    with written_aside(folder / "report.md") as part:
        part.write_text(found.text() + "\n")


def _plain(found: Found) -> dict[str, object]:
    """What JSON can hold: no infinity, and of the balance no draw by its name."""
    slopes = [asdict(slope) for slope in found.slopes]
    for slope in slopes:
        slope["error"] = slope["error"] if math.isfinite(slope["error"]) else None
    return {
        "seed": found.seed,
        "minutes": found.minutes,
        "wrong": found.wrong(),
        "balance": str(found.balance),
        "ettr": found.ettr,
        "restarts": dict(found.restarts),
        "slopes": slopes,
        "rows": [asdict(row) for row in found.rows],
    }


def _failed(row: Row) -> bool:
    return row.outcome == "failed"


def _large(slopes: Sequence[Slope]) -> list[Slope]:
    return [slope for slope in slopes if slope.is_too_large]


def _named(slope: Slope) -> str:
    return f"{slope.measure} of {slope.role}"


def _grown(slope: Slope) -> str:
    error = _amount(slope.measure, slope.error)
    return f"{_amount(slope.measure, slope.per_hour)} ± {error}"


def _amount(measure: str, value: float) -> str:
    return f"{value / 2**20:.1f} MiB" if measure in BYTES else f"{value:.1f}"
