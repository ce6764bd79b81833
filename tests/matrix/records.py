"""What the matrix is made of: methods in blocks, cells to be made, and what became of one."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Way = Literal["live", "own set", "frozen set", "two rounds"]
"""Where rollouts come from: engines beside the learner; a set that the warm start has answered,
with this cell's seed or one for all; two sets, the second answered by what the first has made."""

LEVEL = 0.9
"""Of mean@8, to which generations and seconds are counted."""
ERRORS = 2.0
"""Standard errors by which a fall is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How the cells of a row are trained.

    Attributes:
        name: In the table.
        objective: The section `objective`.
        overrides: Of the recipe beside it.
        way: Where its rollouts come from.
        steps: Learner steps, where they are not those of all.
        only_right: It is given the right answers of its set alone.
    """

    name: str
    objective: Mapping[str, Any]
    overrides: tuple[str, ...] = ()
    way: Way = "live"
    steps: int | None = None
    only_right: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A table of its own.

    Attributes:
        name: On the command line, and in front of a cell's.
        title: Above the table.
        methods: Its rows, each at every lag.
        lags: Learner steps between two publications; 0 where nothing is generated meanwhile.
    """

    name: str
    title: str
    methods: tuple[Method, ...]
    lags: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a cell stands: a row of a block, and a seed."""

    block: str
    method: str
    lag: int
    seed: int

    @property
    def name(self) -> str:
        """Of its run and its file."""
        words = f"{self.block} {self.method} {self.lag or ''}"
        letters = "".join(c if c.isalnum() else " " for c in words)
        return "-".join([*letters.split(), f"seed{self.seed}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One evaluation.

    Attributes:
        step: Learner steps made.
        rollouts: That were generated until then.
        seconds: Since the first evaluation, those of generating a set included.
        mean, error: mean@8, with its standard error over problems.
    """

    step: int
    rollouts: int
    seconds: float
    mean: float
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What became of one.

    Attributes:
        place: Where it stands.
        curve: All evaluations, the first before training.
        rewards: Mean reward of the rollouts trained on, by sixteen learner steps; of a set none.
        pass_at_8, greedy, length: Of the last evaluation.
        entropy: Nats a token of its samples.
        largest_lag: In learner steps.
        seconds: It took, starts and ends included.
        made: Commit and processor.
    """

    place: Place
    curve: tuple[Point, ...]
    rewards: tuple[float, ...] = field(default=())
    pass_at_8: float
    greedy: float
    length: float
    entropy: float
    largest_lag: int
    seconds: float
    made: str = ""

    @property
    def mean(self) -> float:
        """The last mean@8."""
        return self.curve[-1].mean

    @property
    def lowest(self) -> float:
        """The least mean@8."""
        return min(point.mean for point in self.curve)

    @property
    def rollouts(self) -> int:
        """All that were generated."""
        return self.curve[-1].rollouts

    @property
    def has_collapsed(self) -> bool:
        """It ends below where it began, by more than `ERRORS` standard errors, or at less than half
        of its best evaluation, or its rewards do."""
        first, last = self.curve[0], self.curve[-1]
        is_below = last.mean < first.mean - ERRORS * math.hypot(first.error, last.error)
        falls = ([point.mean for point in self.curve], self.rewards)
        return is_below or any(part and part[-1] < 0.5 * max(part) for part in falls)

    def to_level(self, of: Callable[[Point], float]) -> float | None:
        """What mean@8 took to reach `LEVEL`, on a straight line between evaluations.

        Args:
            of: The figure of a point, such as its rollouts.

        Returns:
            None where it never does.
        """
        before = None
        for point in self.curve:
            if point.mean >= LEVEL:
                if before is None:
                    return float(of(point))
                share = (LEVEL - before.mean) / (point.mean - before.mean)
                return of(before) + share * (of(point) - of(before))
            before = point
        return None

    def to_json(self) -> str:
        """As a file holds it."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Cell:
        """Read what `to_json` wrote."""
        row = json.loads(text)
        row["place"] = Place(**row["place"])
        row["curve"] = tuple(Point(**point) for point in row["curve"])
        row["rewards"] = tuple(row["rewards"])
        return Cell(**row)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A figure of a row, over its seeds.

    Attributes:
        heading: Above it.
        of: Reads it of a cell; None where that cell has none.
        form: How it is written.
    """

    heading: str
    of: Callable[[Cell], float | None]
    form: str
