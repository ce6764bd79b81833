"""The table of deploy/OPERATIONS.md, written from the cases and their rows.

A case that has no row keeps the line that it had, unless it has been changed since."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.chaos import results
from tests.chaos.endings import ENDINGS
from tests.chaos.records import Case, Row

FILE = Path(__file__).parents[2] / "deploy" / "OPERATIONS.md"
BEGIN, END = "<!-- table of make chaos -->", "<!-- end of the table -->"
FOLDER = re.compile(r"/\S*oapl-chaos-\w+/runs/\w+")
TEMPORARY = re.compile(r"/tmp/(oapl-chaos-[^/\s']+|ray/session_[^/\s;]+)")
CLOCK = re.compile(r"^\d\d:\d\d:\d\d +")
NOT_TRIED = "not tried yet"
HEADINGS = (
    *("case", "where, and what happens", "who notices", "due within", "noticed after"),
    *("the user reads", "what is lost", "how the run goes on", "goes on after", "result"),
)


DEFINES = (0, 1, 2, 3, 6, 7)
"""Columns that say what a case is; the others what came of it."""


def write(folder: Path, file: Path = FILE) -> None:
    """Put the table in its place.

    Args:
        folder: Of the rows.
        file: That has a table.
    """
    before, _, rest = file.read_text().partition(BEGIN)
    old, _, after = rest.partition(END)
    lines = "\n".join(_lines(results.read(folder), _by_name(old)))
    file.write_text(f"{before}{BEGIN}\n\n{lines}\n\n{END}{after}")


def summary(rows: Mapping[str, Row]) -> str:
    """How many there are of each outcome."""
    counts = Counter(row.outcome for row in rows.values())
    told = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    return f"{told}; {len(results.cases()) - len(rows)} not tried"


def _lines(rows: Mapping[str, Row], old: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(HEADINGS)} |"
    yield "|" + "---|" * len(HEADINGS)
    for case in results.cases():
        row = rows.get(case.name, Row(name=case.name, outcome=NOT_TRIED))
        cells = tuple(map(_cell, _cells(case, row)))
        if row.outcome == NOT_TRIED and _defining(kept := old.get(case.name, ())) == _defining(
            cells
        ):
            cells = kept
        yield f"| {' | '.join(cells)} |"


def _by_name(table: str) -> dict[str, tuple[str, ...]]:
    """The cells of each line of a table."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.splitlines()]
    cells = [tuple(cell.strip() for cell in line) for line in lines]
    return {line[0]: line for line in cells if len(line) == len(HEADINGS)}


def _defining(cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(cells[column] for column in DEFINES) if cells else ()


def _cells(case: Case, row: Row) -> tuple[str, ...]:
    return (
        case.name,
        f"{case.place}: {case.strike.fault} ({case.strike.injected})",
        case.detected_by,
        f"{case.within_s:g} s" if case.reads else "",
        f"{row.detected_s:g} s" if row.detected_s >= 0 else "",
        _shortened(row.told) or ("" if case.reads else "nothing"),
        case.loses,
        case.goes_on,
        f"{row.resumed_s:g} s" if row.resumed_s >= 0 else "",
        ": ".join(filter(None, (row.outcome, _shortened(row.why or _comparison(row))))),
    )


def _comparison(row: Row) -> str:
    """What the end of a run has shown."""
    return row.evidence if row.name in {case.name for case in ENDINGS.values()} else ""


def _shortened(text: str) -> str:
    text = CLOCK.sub("", TEMPORARY.sub("...", FOLDER.sub("RUN", text)))
    return text if len(text) < 200 else text[:197] + "..."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
