"""Bars on processor time that mean the same on every processor."""

from __future__ import annotations

import functools
import time

REFERENCE_S = 0.0135
"""What the yardstick takes on the processor that the bars were set on, a Xeon with AVX-512."""
TRIES = 5


def here(seconds: float) -> float:
    """Seconds of processor time that stand for `seconds` there: more where Python is slower."""
    return seconds * max(1.0, _yardstick_s() / REFERENCE_S)


@functools.cache
def _yardstick_s() -> float:
    """Processor time of a plain loop, its shortest of a few."""
    return min(_loop_s() for _ in range(TRIES))


def _loop_s() -> float:
    started, total = time.process_time(), 0
    for number in range(300_000):
        total += number % 7
    return time.process_time() - started
