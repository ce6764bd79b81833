"""Rows of `make chaos` on disk: one JSON file per case."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from oapl.whole_files import written_aside
from tests.chaos.endings import ENDINGS
from tests.chaos.plans import PLANS
from tests.chaos.records import Case, Row


def cases() -> list[Case]:
    """All there are, the ends of the runs included, in the order of the plans."""
    found = []
    for plan in PLANS:
        found += [*plan.cases, *getattr(plan, "last", ())]
        if plan.name in ENDINGS:
            found.append(ENDINGS[plan.name])
    return found


def write(row: Row, folder: Path) -> None:
    """Keep a row."""
    folder.mkdir(parents=True, exist_ok=True)
    with written_aside(folder / f"{row.name}.json") as part:
        part.write_text(json.dumps(dataclasses.asdict(row), indent=1) + "\n")


def read(folder: Path) -> dict[str, Row]:
    """Rows of cases that there are, by name."""
    known = {case.name for case in cases()}
    rows = [Row(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]
    return {row.name: row for row in rows if row.name in known}
