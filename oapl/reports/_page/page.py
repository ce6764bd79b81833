"""One self-contained page of all figures, and the same figures as PNG.

Invariants: what models, data and settings say is escaped wherever it stands; the page asks nobody
for anything, and runs no script but its own, which its policy names by a digest; the same runs give
the same page.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oapl.reports._drawing.ink import DARK, LIGHT, Ink, variables
from oapl.reports._drawing.pictures import keys_of, save, svg, table_png
from oapl.reports._drawing.texts import Table
from oapl.reports._page.verdict import tiles, verdict
from oapl.reports._study.study import Study
from oapl.reports.base import (
    FIGURES,
    SECTIONS,
    About,
    Absent,
    Drawing,
    Panels,
    Texts,
)
from oapl.whole_files import written_aside

HERE = Path(__file__).parent
TEMPLATE, STYLE, SCRIPT = "page.html", "page.css", "page.js"
LONGEST_TITLE = 70
TINTS = 5
NATS_PER_TINT = 0.2
"""Nats that make a tint darker by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure and what it made of the runs.

    Attributes:
        name: The file's.
        about: What it declares.
        drawing: What it gave.
    """

    name: str
    about: About
    drawing: Drawing


def draw(study: Study, names: Sequence[str] = ()) -> list[Drawn]:
    """Draw figures in the order of the page.

    Args:
        study: The runs.
        names: Of files of `oapl/reports`, or dotted modules of the user's own; empty: all files.

    Raises:
        InputError: There is no such figure.
    """
    found = []
    for name in names or FIGURES.names():
        file = FIGURES.load(name, "--figure")
        found.append(Drawn(name=name, about=file.DECLARES, drawing=file.draw(study)))
    order = list(SECTIONS)
    return sorted(found, key=lambda one: (order.index(one.about.section), one.about.place))


def write(study: Study, drawn: Sequence[Drawn], path: Path, title: str = "") -> None:
    """Write the page.

    Args:
        study: The runs.
        drawn: Their figures.
        path: Of the page, which is whole or absent.
        title: Of the page; empty: the names of the series.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (HERE / SCRIPT).read_text()
    text = environment.get_template(TEMPLATE).render(
        title=title or _title(study),
        verdict=verdict(study),
        tiles=tiles(study),
        sections=[_section(key, heading, drawn) for key, heading in SECTIONS.items()],
        is_single=len(study.series) == 1,
        style=(HERE / STYLE).read_text(),
        light=_css(LIGHT),
        dark=_css(DARK),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        tint=tint,
    )
    with written_aside(path) as part:
        part.write_text(text, encoding="utf-8")


def write_png(drawn: Iterable[Drawn], folder: Path) -> list[Path]:
    """Write a PNG of every figure that has pictures, or is a table.

    Args:
        drawn: The figures.
        folder: Made where it is not there.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for one in drawn:
        path = folder / f"{one.name.rpartition('.')[2]}.png"
        if isinstance(one.drawing, Panels):
            save(one.drawing.panels, path, one.about.title)
        elif isinstance(one.drawing, Table):
            table_png(one.drawing, path, one.about.title)
        else:
            continue
        made.append(path)
    return made


def _title(study: Study) -> str:
    names = ", ".join(series.name for series in study.series)
    return names if len(names) <= LONGEST_TITLE else f"{len(study.series)} series side by side"


def tint(nats: float) -> str:
    """The class of a token: `u1` to `u5` above 0 nats, `d1` to `d5` below, nothing near it."""
    level = min(int(abs(nats) / NATS_PER_TINT + 0.5), TINTS)
    return f"{'u' if nats > 0 else 'd'}{level}" if level else ""


def _section(key: str, heading: str, drawn: Sequence[Drawn]) -> dict[str, Any]:
    own = [one for one in drawn if one.about.section == key]
    return {
        "key": key,
        "heading": heading,
        "figures": [
            _figure(one, one.drawing) for one in own if not isinstance(one.drawing, Absent)
        ],
        "absent": [
            (one.about.title, one.drawing.why) for one in own if isinstance(one.drawing, Absent)
        ],
    }


def _figure(one: Drawn, drawing: Panels | Table | Texts) -> dict[str, Any]:
    found: dict[str, Any] = {"name": one.name, "about": one.about, "note": drawing.note}
    if isinstance(drawing, Panels):
        keys = keys_of(drawing.panels)
        is_shared = keys is not None
        pictures = [
            (
                panel.title,
                panel.size,
                [] if is_shared else panel.legend(),
                svg(panel, f"{one.name}-{number}"),
            )
            for number, panel in enumerate(drawing.panels)
        ]
        return found | {"kind": "panels", "pictures": pictures, "keys": keys or []}
    if isinstance(drawing, Table):
        return found | {"kind": "table", "table": drawing}
    is_single = all(len(question.answers) == 1 for question in drawing.questions)
    return found | {"kind": "texts", "questions": drawing.questions, "is_single": is_single}


def _css(ink: Ink) -> str:
    return " ".join(f"{name}: {value};" for name, value in variables(ink).items())
