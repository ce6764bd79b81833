"""One thing that was looked at, and how an amount is judged.

`wrong` is what keeps a run from starting, `note` what makes it slow, unsafe or unlike the pins.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from deploy.sizing.hardware import GIB

Level = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area, name: Heading and label.
        found: What there is.
        remedy: What to do; empty when nothing is to be done.
    """

    area: str
    name: str
    found: str
    level: Level = "ok"
    remedy: str = ""


def judged(
    finding: Finding, amount: float, wrong: tuple[float, str], note: tuple[float, str]
) -> Finding:
    """Give a finding the level and the remedy of the threshold that its amount stays under.

    Args:
        finding: Without a level.
        amount: In the thresholds' unit.
        wrong: Below which amount a run cannot start, and the remedy.
        note: Below which amount it is slow or unsafe, and the remedy.
    """
    if amount < wrong[0]:
        return replace(finding, level="wrong", remedy=wrong[1])
    if amount < note[0]:
        return replace(finding, level="note", remedy=note[1])
    return finding


def gib(amount: float) -> str:
    """Write a number of bytes in GiB, with one decimal."""
    return f"{amount / GIB:.1f} GiB"
