"""Which fault comes next, and after what pause: by the seed, and by how many engines live.

Invariants: one engine stays alive, so that a fault which takes one away comes only while there are
two; each fault of a kind comes before one of that kind comes again; the same seed and the same
numbers of engines give the same schedule.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.records import Case, GoesOn

WHOLE_SHARE = 0.15
"""Of the faults after which all begins again: processes that never live long show no slope."""
PAUSE_S = (10.0, 40.0)
"""Between a fault that is over and the next one."""
OF_ENGINES = "rollout worker"
"""How the places of faults begin that take an engine away."""
SUITED = (
    GoesOn.UNHARMED,
    GoesOn.ALONE,
    GoesOn.BACK,
    GoesOn.STOPS,
    GoesOn.KILLED,
)
UNSUITED = ("over-memory", "object-store-full", "prompt-that-kills-engines")
"""Words in the names of faults that need what is not always there, or leave something behind."""


@dataclass(frozen=True, slots=True)
class Due:
    """What comes next.

    Attributes:
        case: The fault.
        pause_s: How long nothing is done before it.
    """

    case: Case
    pause_s: float


class Schedule:
    """Draws faults.

    Args:
        cases: Of a live run; those that do not suit are left out.
        seed: Of the order and the pauses.
    """

    def __init__(self, cases: Sequence[Case], seed: int) -> None:
        self._random = random.Random(f"soak {seed}")
        suited = [case for case in cases if is_suited(case)]
        self._parts = [case for case in suited if case.goes_on in (GoesOn.UNHARMED, GoesOn.ALONE)]
        self._wholes = [case for case in suited if case not in self._parts]
        assert any(not takes_engine(case) for case in self._parts), "else none may ever be due"
        self._bags: dict[bool, list[Case]] = {True: [], False: []}

    def next(self, engines: int) -> Due:
        """Choose.

        Args:
            engines: That live now.
        """
        is_whole = bool(self._wholes) and self._random.random() < WHOLE_SHARE
        pause_s = self._random.uniform(*PAUSE_S)
        return Due(self._drawn(is_whole, engines), pause_s)

    def _drawn(self, is_whole: bool, engines: int) -> Case:
        bag = self._bags[is_whole]
        fit = [case for case in bag if engines > 1 or not takes_engine(case)]
        if not fit:  # of what is left, if anything, nothing may come now
            more = [case for case in (self._wholes if is_whole else self._parts) if case not in bag]
            self._random.shuffle(more)
            bag += more
            fit = [case for case in bag if engines > 1 or not takes_engine(case)]
        bag.remove(fit[0])
        return fit[0]


def is_suited(case: Case) -> bool:
    """Whether a fault can be done to a run again and again, whatever was done to it before."""
    is_odd = any(word in case.name for word in UNSUITED)
    return case.goes_on in SUITED and not case.is_down and not is_odd


def takes_engine(case: Case) -> bool:
    """Whether a fault takes an engine away alone."""
    return case.place.startswith(OF_ENGINES)
