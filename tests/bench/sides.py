"""The sides of a comparison, each in a process of its own, that take turns on one machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("side.py")
ROUNDS = 30
"""Turns of each side that count, after one to warm up."""


class Side:
    """A process that makes a step per line of its input; see `tests/bench/side.py`.

    Args:
        command: The program and its arguments.
        root: Of the build whose packages it imports.
        environment: Variables beside those of this process.
    """

    def __init__(
        self,
        command: Sequence[str],
        root: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, self._output = self._process.stdin, self._process.stdout
        self._answer()

    def turn(self) -> dict[str, float]:
        """Seconds of one step, by part."""
        self._input.write("step\n")
        self._input.flush()
        return self._answer()

    def end(self) -> dict[str, float]:
        """What the process says at its end, once it has ended."""
        self._input.close()
        answer = self._answer()
        self._process.wait()
        return answer

    def _answer(self) -> dict[str, float]:
        line = self._output.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer


def side(root: Path = ROOT, environment: Mapping[str, str] | None = None, **settings: Any) -> Side:
    """One of `tests/bench/side.py`, by its settings."""
    return Side(["-P", str(PROGRAM), json.dumps(settings)], root, environment)


def alternate(
    sides: Mapping[str, Side], rounds: int = ROUNDS, *, warms_up: bool = True
) -> dict[str, dict[str, float]]:
    """Let the sides take turns, and end them.

    Who comes first changes from round to round.

    Args:
        sides: By name.
        rounds: That count.
        warms_up: One that does not count comes before them.

    Returns:
        By side: the fewest seconds of each part, what else its last turn said, and what it said at
        its end.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in sides}
    for index in range(0 if warms_up else 1, rounds + 1):
        for name in [*sides][:: 1 if index % 2 else -1]:
            answer = sides[name].turn()
            if index:
                for part, value in answer.items():
                    best = found[name].get(part, value)
                    found[name][part] = value if part == "loss" else min(best, value)
    for name, one in sides.items():
        found[name] |= one.end()
    return found
