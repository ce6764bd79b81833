"""The factor by which an fp16 loss is multiplied, so that small gradients do not vanish.

Half the factor after a step whose gradient overflowed, twice after enough steps that did not. It
starts where PyTorch and DeepSpeed start, but rises ten times sooner than there: a run here has
hundreds or thousands of steps, no million.
"""

from __future__ import annotations

from dataclasses import dataclass

START = 2.0**16
FLOOR, CEILING = 1.0, 2.0**24
RISE_AFTER = 200


@dataclass(slots=True, kw_only=True)
class LossScale:
    """Holds the present factor.

    Attributes:
        value: A power of two, so that dividing by it again is exact.
        good_steps: Steps without an overflow since it last changed.
    """

    value: float = START
    good_steps: int = 0

    def overflowed(self) -> bool:
        """Halve the factor: a gradient was not finite. False when it is at its floor already."""
        old, self.value, self.good_steps = self.value, max(self.value / 2, FLOOR), 0
        return self.value < old

    def held(self) -> None:
        """Count a step whose gradient was finite; double the factor after enough of them."""
        self.good_steps += 1
        if self.good_steps >= RISE_AFTER:
            self.value, self.good_steps = min(self.value * 2, CEILING), 0
