"""Colours: told apart by colour-blind eyes, and exchanged on the page by light and dark.

The series' colours are those of Okabe and Ito (2008), darkened or lightened until each has a
contrast of at least 3 to 1 with its background. For the page a picture is drawn in stand-ins, which
`on_page` turns into CSS variables, so that one picture serves both.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NUM_COLOURS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """Colours of a picture, as `#rrggbb`.

    Attributes:
        text, faint, grid, paper: Words and axes; what stands back; lines behind; the background.
        series: In the order of the places.
        good, bad: Of what is right and wrong.
    """

    text: str
    faint: str
    grid: str
    paper: str
    series: tuple[str, ...]
    good: str
    bad: str

    def of(self, place: int) -> str:
        """The colour of a place; they come again after the last."""
        return self.series[place % len(self.series)]


LIGHT = Ink(
    text="#1f2328",
    faint="#59636e",
    grid="#dfe3e8",
    paper="#ffffff",
    series=(
        *("#0072b2", "#d55e00", "#008a62", "#b0518c"),
        *("#2f93c8", "#b37400", "#6b5bb5", "#6e7781"),
    ),
    good="#008a62",
    bad="#d55e00",
)
DARK = Ink(
    text="#e6edf3",
    faint="#9198a1",
    grid="#30363d",
    paper="#0f1419",
    series=(
        *("#4db2ec", "#ff8b3d", "#30c79b", "#e694c8"),
        *("#9bd6f7", "#f0b73f", "#b3a4f5", "#a9b2bc"),
    ),
    good="#30c79b",
    bad="#ff8b3d",
)
STAND_INS = Ink(
    text="#fe0001",
    faint="#fe0002",
    grid="#fe0003",
    paper="#fe0004",
    series=tuple(f"#fd000{number}" for number in range(NUM_COLOURS)),
    good="#fe0005",
    bad="#fe0006",
)


def variables(ink: Ink) -> dict[str, str]:
    """The CSS variables of an ink."""
    named = {f"--s{number}": colour for number, colour in enumerate(ink.series)}
    for name in ("text", "faint", "grid", "paper", "good", "bad"):
        named[f"--{name}"] = getattr(ink, name)
    return named


_NAMES = {colour: f"var({name})" for name, colour in variables(STAND_INS).items()}
_STAND_IN = re.compile("|".join(map(re.escape, _NAMES)))


def on_page(svg: str) -> str:
    """Let the page colour a picture that was drawn in stand-ins."""
    return _STAND_IN.sub(lambda found: _NAMES[found[0]], svg)
