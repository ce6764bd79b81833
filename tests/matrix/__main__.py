"""`make learning-matrix`: methods side by side, cell by cell, at most an hour an invocation.

    python -m tests.matrix [FOLDER] [--cells FOLDER] [--minutes 60] [--slice NAME]

A finished cell is a file in tests/matrix/cells, with commit and processor, and the next call goes
on where this one ended, however it ended: none is begun that would not end within the minutes. The
tables are printed, and stand with runs and warm start in FOLDER (build/matrix) as NAME.md and
NAME.json; those of the whole matrix are docs/learning-matrix.md too. `--cells` begins another
matrix. `make lag` is the slice lag16.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.processes.ray_cluster import start_local_ray
from oapl.whole_files import written_aside
from tests.matrix import making, plan, table
from tests.matrix.plan import method_of
from tests.matrix.records import Cell, Place

CELLS = Path(__file__).with_name("cells")
FIRST_S, WARM_S = 240.0, 120.0
"""Of a cell before one is known, and of the warm start."""
SLACK = 1.2
"""A cell may take so many times what the longest like it took."""
CPUS = 4
"""That Ray shares out."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build/matrix"))
    parser.add_argument("--cells", type=Path, default=CELLS, help="folder of finished ones")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--slice", choices=plan.SLICES, default=plan.WHOLE, dest="which")
    options = parser.parse_args()
    places = plan.places(options.which)
    ends_at = time.monotonic() + 60 * options.minutes
    cells = fill(options.folder.absolute(), options.cells, places, ends_at)
    table.write(options.folder, options.which, cells, places)
    if options.cells == CELLS and options.which == plan.WHOLE:
        table.DOCUMENT.write_text(table.document(cells, places))
    print(table.markdown(cells, places))
    if left := len(places) - len(cells):
        print(f"{left} of {len(places)} cells are open: run it again")


def fill(folder: Path, kept: Path, places: Sequence[Place], ends_at: float) -> list[Cell]:
    """Make the cells that are missing, as far as time allows.

    Args:
        folder: Of runs and the warm start.
        kept: Of cells.
        places: Of all cells, in the order of making.
        ends_at: By the monotonic clock.

    Returns:
        All that are there.
    """
    cells = [cell for place in places if (cell := load(kept, place)) is not None]
    made = {cell.place for cell in cells}
    missing = [place for place in places if place not in made]
    if not missing or time.monotonic() + WARM_S + longest_of(missing[0], cells) > ends_at:
        return cells
    folder.mkdir(parents=True, exist_ok=True)
    kept.mkdir(parents=True, exist_ok=True)
    ray = start_local_ray(num_cpus=CPUS)
    start = making.warm_start(folder)
    for place in missing:
        if time.monotonic() + longest_of(place, cells) > ends_at:
            break
        cells.append(replace(making.make(start, place), made=made_here()))
        save(kept, cells[-1])
        print(f"{place.name}: {cells[-1].mean:.3f}, {cells[-1].seconds:.0f} s", flush=True)
    ray.shutdown()
    return cells


def longest_of(place: Place, cells: Sequence[Cell]) -> float:
    """Seconds that a cell may take: as those of its method, or else as any.

    Args:
        place: Of the cell.
        cells: That are made.
    """
    alike = [cell.seconds for cell in cells if method_of(cell.place) == method_of(place)]
    known = alike or [cell.seconds for cell in cells]
    return SLACK * max(known) if known else FIRST_S


def made_here() -> str:
    """Commit and processor."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(
        command, capture_output=True, text=True, cwd=CELLS.parent
    ).stdout.strip()
    names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return f"{commit or 'unknown commit'}, {(names or [platform.machine()])[0]}"


def load(kept: Path, place: Place) -> Cell | None:
    path = _path(kept, place)
    return Cell.from_json(path.read_text()) if path.is_file() else None


def save(kept: Path, cell: Cell) -> None:
    """Whole or not at all."""
    with written_aside(_path(kept, cell.place)) as part:
        part.write_text(cell.to_json())


def _path(kept: Path, place: Place) -> Path:
    return kept / f"{place.name}.json"


if __name__ == "__main__":
    main()
