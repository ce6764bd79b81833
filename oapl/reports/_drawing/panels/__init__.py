"""The kinds of picture: a record of what is seen, which draws itself into given axes.

Invariants: a panel draws all that its record holds and nothing else; its keys (what colours mean)
stand outside of it, so that a legend never lies on a line; its words are ordinary text.
"""

from oapl.reports._drawing.panels.bars import BarGroup, Bars, Shares
from oapl.reports._drawing.panels.base import Key, Level, Mark, Panel, dash
from oapl.reports._drawing.panels.curves import Curves, Line
from oapl.reports._drawing.panels.times import Lane, Lanes, Part, Stack

__all__ = [
    "BarGroup",
    "Bars",
    "Curves",
    "Key",
    "Lane",
    "Lanes",
    "Level",
    "Line",
    "Mark",
    "Panel",
    "Part",
    "Shares",
    "Stack",
    "dash",
]
