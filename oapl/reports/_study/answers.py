"""What an evaluation has kept of its answers: `evaluations/LABEL.SET.jsonl`, a line per problem."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

FOLDER = "evaluations"
STEP_LABEL = re.compile(r"step-(\d+)")

Problem = dict[str, Any]
"""`id`, `question`, `answer`, `samples` and perhaps `greedy`; a sample has `text`, `reward` (null
where nobody could judge it), `tokens` and `finish_reason`."""


@dataclass(frozen=True)
class Answered:
    """The answers of one evaluation to one set.

    Attributes:
        step: Learner steps made before it; -1 of `oapl eval`.
        of: The set.
        path: Where they lie.
    """

    step: int
    of: str
    path: Path

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """A record per problem; a line torn by a kill is left out."""
        return tuple(_read(self.path))

    @property
    def samples(self) -> Iterator[tuple[int, float]]:
        """Response tokens and reward of every sample that was judged."""
        for problem in self.problems:
            for sample in problem["samples"]:
                if sample["reward"] is not None:
                    yield int(sample["tokens"]), float(sample["reward"])


def answered_at(folder: Path) -> list[Answered]:
    """Find the answers that a run has kept, in the order of learner steps.

    Args:
        folder: The run's.
    """
    found = []
    for path in (folder / FOLDER).glob("*.jsonl"):
        label, _, of = path.name.removesuffix(".jsonl").partition(".")
        match = STEP_LABEL.fullmatch(label)
        if of:
            found.append(Answered(int(match[1]) if match else -1, of, path))
    return sorted(found, key=lambda one: (one.step, one.of))


def _read(path: Path) -> Iterator[Problem]:
    for line in path.read_text(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and "samples" in row:
            yield row
