"""`make lag-sweep`: what L costs and a surplus buys, with real Ray actors that wait drawn times.

    python -m tests.overlap.sweep [--cells FOLDER] [--out docs/lag_sweep] [--minutes 40]

A group lasts five learner steps on average, a step `STEP_S`; each cell is measured and, with the
very same draws and number of steps, simulated. A finished cell is a file in tests/overlap/cells,
and the next call goes on where this one ended, however it ended: none is begun that would not end
within the minutes. Table (Markdown, JSON) and figure (SVG, PNG) are written of what there is.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deploy.processes.ray_cluster import start_local_ray
from oapl.reports._drawing.panels import Curves, Line
from oapl.reports._drawing.pictures import save
from oapl.whole_files import written_aside
from tests.overlap.model import GROUPS_PER_STEP, SLOT_SHARE, Setting, Shares, simulate
from tests.overlap.run import measure

MEAN = 5
"""Learner steps that a group lasts on average."""
STEP_S = 2.0
STEPS = {400: 800, 100: 400, 50: 300, 8: 200, 1: 60}
"""Learner steps of a run by L, its first period, which is not measured, included; longest first."""
SURPLUSES = (0.0, 0.2)
SLACK, START_S = 1.1, 120.0
"""A run may take so many times what is simulated, for Ray's calls, and its processes to start."""
CELLS = Path(__file__).with_name("cells")
OUT = Path(__file__).parents[2] / "docs" / "lag_sweep"
HEADINGS = (
    *("L", "surplus", "learner idle", "engines idle", "tokens thrown away"),
    *("messages", "mean lag", "largest lag", "steps"),
)
COLUMNS = {  # of the figure
    "learner": "learner idle (share of its time)",
    "engine": "engines idle (share of their time)",
    "wasted": "thrown away (share of the tokens)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A row of the table.

    Attributes:
        interval: L.
        surplus: Share of a period's groups that is asked for beyond them.
        steps: Learner steps, the first period included.
        step_s: Seconds of each.
        measured, simulated: What came of it.
    """

    interval: int
    surplus: float
    steps: int
    step_s: float
    measured: Shares
    simulated: Shares

    @property
    def setting(self) -> Setting:
        return setting_of(self.interval, self.surplus)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=Path, default=CELLS, help="folder of finished ones")
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the table and the figure")
    parser.add_argument("--minutes", type=float, default=40.0)
    options = parser.parse_args()
    ends_at = time.monotonic() + 60 * options.minutes
    missing = [place for place in places() if load(options.cells, *place) is None]
    if missing:
        ray = start_local_ray(num_cpus=4)
        try:
            asyncio.run(fill(ray, options.cells, missing, ends_at))
        finally:
            ray.shutdown()
    cells = made(options.cells)
    if cells:
        write(options.out, cells)
        print((options.out / "README.md").read_text())
    if left := len(places()) - len(cells):
        print(f"{left} of {len(places())} cells are open: run it again")
    return int(left > 0)


def places() -> list[tuple[int, float]]:
    """L and surplus of every cell, in the order of making."""
    return [(interval, surplus) for interval in STEPS for surplus in SURPLUSES]


def setting_of(interval: int, surplus: float) -> Setting:
    return Setting(mean=MEAN, interval=interval, surplus=surplus)


async def fill(ray: Any, kept: Path, missing: Sequence[tuple[int, float]], ends_at: float) -> None:
    """Make the cells that are missing, as far as time allows, side by side: they only wait.

    Args:
        ray: The module, connected to a cluster.
        kept: Folder of cells.
        missing: L and surplus of each.
        ends_at: By the monotonic clock.
    """

    async def one(interval: int, surplus: float) -> None:
        simulated = simulate(setting_of(interval, surplus), STEPS[interval])
        if time.monotonic() + SLACK * simulated.elapsed * STEP_S + START_S > ends_at:
            return
        cell = await _made(ray, interval, surplus, simulated)
        with written_aside(_path(kept, interval, surplus)) as part:
            part.write_text(json.dumps(dataclasses.asdict(cell), indent=1) + "\n")
        print(" | ".join(_row(cell)), flush=True)

    await asyncio.gather(*(one(*place) for place in missing))


async def _made(ray: Any, interval: int, surplus: float, simulated: Shares) -> Cell:
    with tempfile.TemporaryDirectory(prefix="oapl-lag-sweep-") as folder:
        measured = await measure(
            ray,
            Path(folder),
            setting_of(interval, surplus),
            steps=STEPS[interval],
            step_s=STEP_S,
        )
    return Cell(
        interval=interval,
        surplus=surplus,
        steps=STEPS[interval],
        step_s=STEP_S,
        measured=measured,
        simulated=simulated,
    )


def _path(kept: Path, interval: int, surplus: float) -> Path:
    return kept / f"L{interval}-surplus{surplus:g}.json"


def load(kept: Path, interval: int, surplus: float) -> Cell | None:
    path = _path(kept, interval, surplus)
    if not path.is_file():
        return None
    row = json.loads(path.read_text())
    shares = {name: Shares(**row.pop(name)) for name in ("measured", "simulated")}
    return Cell(**row, **shares)


def made(kept: Path) -> list[Cell]:
    """Those that are there, by L and surplus."""
    found = [cell for place in sorted(places()) if (cell := load(kept, *place)) is not None]
    return found


def write(folder: Path, cells: Sequence[Cell]) -> None:
    """The table in both forms, and the figure in both.

    Args:
        folder: Gets README.md, lag_sweep.json, lag_sweep.svg and lag_sweep.png.
        cells: At least one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(markdown(cells))
    rows = [dataclasses.asdict(cell) for cell in cells]
    (folder / "lag_sweep.json").write_text(json.dumps(rows, indent=1) + "\n")
    for ending in ("svg", "png"):
        save(panels(cells), folder / f"lag_sweep.{ending}", "What L costs, and what a surplus buys")


def markdown(cells: Sequence[Cell]) -> str:
    """The table, with how it was made.

    Args:
        cells: At least one.
    """
    lines = [HEADINGS, ["---:"] * len(HEADINGS), *map(_row, cells)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(["# The lag sweep", *_before(cells), table, *_after(cells)]) + "\n"


def _before(cells: Sequence[Cell]) -> Iterator[str]:
    yield (
        "What one version per buffer costs in idle time by L (`sync.interval`), and what "
        "`replay.surplus` buys back. Measured with the program's own replay, worker, learner group "
        "and messages as Ray actors; engine and trainer only wait. In brackets the simulation of "
        "the same draws (`oapl/planning/simulation.py`), in which messages take no time. Made by "
        "`make lag-sweep`, at most 40 minutes an invocation."
    )
    yield "![Idle time, thrown-away tokens and lag against L](lag_sweep.svg)"


def _after(cells: Sequence[Cell]) -> Iterator[str]:
    yield (
        f"A learner step lasts {cells[0].step_s:g} s and takes {GROUPS_PER_STEP} groups; a group "
        f"lasts {MEAN} steps on average, lognormal with sigma 0.6, cut at four times the mean; the "
        f"engine has {cells[0].setting.slots} slots, {100 * (SLOT_SHARE - 1):.0f} % more than the "
        "learner eats. No lead (`sync.max_lead = 0`, the paper's Algorithm 1), publications take "
        "no time, the first period is left out. Lag is in learner steps already made when a batch "
        "is used."
    )
    added = [cell.measured.between * _step_s(cell) for cell in cells]
    yield (
        "*Messages* is the part of the learner's idle time in which it waits for no group: what "
        f"the program adds to a step, here {1000 * min(added):.0f} to {1000 * max(added):.0f} ms "
        "on two cores shared with other work. Waits grow with the length of a step, and it does "
        "not: of steps of a minute it would be a thousandth or two. A learner that it makes slower "
        "leaves more to be thrown away."
    )
    apart = {name: max(abs(_apart(cell, name)) for cell in cells) for name in COLUMNS}
    waits = max(abs(_apart(cell, "learner") - cell.measured.between) for cell in cells)
    yield (
        f"Largest difference to the simulation: {100 * apart['learner']:.1f} points of the "
        f"learner's idle share ({100 * waits:.1f} without messages), {100 * apart['engine']:.1f} "
        f"of the engines', {100 * apart['wasted']:.1f} of the tokens thrown away."
    )


def _step_s(cell: Cell) -> float:
    """Seconds from step to step, waits included."""
    return cell.step_s / (1 - cell.measured.learner)


def _apart(cell: Cell, name: str) -> float:
    return float(getattr(cell.measured, name) - getattr(cell.simulated, name))


def _row(cell: Cell) -> list[str]:
    found, expected = cell.measured, cell.simulated
    return [
        str(cell.interval),
        f"{cell.surplus:g}",
        *(_pair(getattr(found, name), getattr(expected, name)) for name in COLUMNS),
        f"{100 * found.between:.1f} %",
        f"{found.mean_lag:.1f}",
        str(found.largest_lag),
        str(cell.steps),
    ]


def _pair(found: float, expected: float) -> str:
    return f"{100 * found:.1f} % ({abs(100 * expected):.1f})"


def panels(cells: Sequence[Cell]) -> list[Curves]:
    """Idle shares, tokens thrown away and lag against L.

    Args:
        cells: At least one.
    """
    found = [_panel(cells, name, title) for name, title in COLUMNS.items()]
    lag = _lines(cells, "mean_lag", is_simulated=False)
    title = "mean lag (learner steps)"
    return [*found, Curves(title=title, x="L (learner steps)", lines=tuple(lag), scale="log10")]


def _panel(cells: Sequence[Cell], name: str, title: str) -> Curves:
    lines = [line for of in (False, True) for line in _lines(cells, name, is_simulated=of)]
    return Curves(
        title=title, x="L (learner steps)", lines=tuple(lines), scale="log10", is_percent=True
    )


def _lines(cells: Sequence[Cell], name: str, *, is_simulated: bool) -> Iterator[Line]:
    for place, surplus in enumerate(SURPLUSES):
        mine = [cell for cell in cells if cell.surplus == surplus]
        yield Line(
            label=f"surplus {surplus:g}" + (", simulated" if is_simulated else ""),
            place=place,
            x=np.array([cell.interval for cell in mine], float),
            y=np.array(
                [getattr(cell.simulated if is_simulated else cell.measured, name) for cell in mine]
            ),
            is_dashed=is_simulated,
            has_points=not is_simulated,
        )


if __name__ == "__main__":
    sys.exit(main())
