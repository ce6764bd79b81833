"""What the files of a figure share: what each declares, and what it makes of the runs it is given.

    DECLARES = About(
        title="Lag and idle", section="speed", place=10,
        reads="How old ...",
    )

    def draw(study: Study) -> Drawing: ...

A figure is data in and records out: it knows neither matplotlib nor HTML, so what it shows can be
tested number by number, and every one of them looks alike on the page, in the dark and as a PNG.
Invariant: a figure without its data is `Absent` and says why in a line; it is never an empty axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from oapl.config.kinds import Kind
from oapl.reports._drawing.panels import Panel
from oapl.reports._drawing.texts import Question, Table
from oapl.reports._study.study import Study

Section = Literal[
    "run", "learning", "evaluation", "policy", "rollouts", "speed", "accounting", "samples"
]
SECTIONS: dict[Section, str] = {
    "run": "The run",
    "learning": "Learning",
    "evaluation": "Evaluation",
    "policy": "Policy and credit",
    "rollouts": "Rollouts",
    "speed": "Lag, idle and time",
    "accounting": "What happened, and where every draw went",
    "samples": "Samples",
}
"""In the order of the page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is known of a figure before it is drawn.

    Attributes:
        title: Above it.
        section: Part of the page in which it stands.
        place: Its place there; small ones come first.
        reads: How to read it, in a sentence or two.
        like: Published figures and tables that have these axes.
    """

    title: str
    section: Section
    place: int
    reads: str
    like: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panels:
    """Pictures that stand side by side under one legend.

    Attributes:
        panels: At least one.
        note: What a reader must know of these data.
    """

    panels: tuple[Panel, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """Questions with what was answered.

    Attributes:
        questions: At least one.
        note: As of `Panels`.
    """

    questions: tuple[Question, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Absent:
    """Nothing to draw.

    Attributes:
        why: In a line: what these runs lack, and what would bring it.
    """

    why: str


Drawing = Panels | Table | Texts | Absent


class FigureFile(Protocol):
    """A file of `oapl/reports/`, or a module of the user's own."""

    DECLARES: Annotated[
        About,
        "title, section and place of the figure",
        'DECLARES = About(title="...", section="learning", place=50, reads="...")',
    ]

    def draw(self, study: Study) -> Drawing:
        """What the figure shows of these runs."""


FIGURES: Kind[FigureFile] = Kind("oapl.reports", FigureFile)
