"""How cases are written: what those of one part have in common is said once, the rest in a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from tests.chaos.chain import Chain
from tests.chaos.records import Case, GoesOn, Strike

BACK = "starting all processes again from step-"
"""Ends the line of what takes the run back."""
SINCE = "no draw; the steps since the last checkpoint are made again"
DRAWS = "no draw; what the worker had in flight is made again"
AGAIN = "give the same command again"
STOPS: dict[str, Any] = {
    "detected_by": "the command",
    "within_s": 10.0,
    "reads": "SIGTERM: stopping",
    "does": AGAIN,
    "goes_on": GoesOn.STOPS,
}
"""Of a command that is asked to stop."""
KILLED: dict[str, Any] = {
    "detected_by": "the shell",
    "loses": SINCE,
    "does": AGAIN,
    "goes_on": GoesOn.KILLED,
}
"""Of a command that is ended without grace."""


def cases_of(part: str, **common: Any) -> Callable[..., Case]:
    """A maker of cases.

    Args:
        part: Begins each place.
        common: Fields of `Case` that they share; a case's own come before them.

    Returns:
        Takes a case's name, the rest of its place (empty where `part` says all), its strike, and
        fields of its own.
    """

    def make(name: str, where: str, strike: Strike, **own: Any) -> Case:
        place = ", ".join(filter(None, (part, where)))
        return Case(name=name, place=place, strike=strike, **{**common, **own})

    return make


def by_itself(fault: str, injected: str) -> Strike:
    """What a script does, or a run has had done to it: it is no single act."""

    def never(chain: Chain) -> NoReturn:
        raise AssertionError("a script strikes by itself")

    return Strike(fault, injected, never)
