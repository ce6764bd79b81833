"""A puzzle out of a prompt's reference, and its scorer: made with the options the puzzle was made
with.

Invariant: no puzzle is judged by a scorer that has never given any puzzle's own answer full marks:
one made with other options may know neither its words nor its alphabet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from oapl.config.nested import with_records
from oapl.errors import InputError, first_line
from oapl.records import Prompt

COMPOSITE = "composite"
NEEDS_TUPLES = frozenset({"arc_agi", "rearc"})  # JSON made lists of their boards
SETTING = "reward.options.reasoning_gym.task_options"

Score = Callable[[str, Mapping[str, Any]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """What a prompt asks.

    Attributes:
        prompt: The prompt's id, for errors.
        task: reasoning-gym's name.
        entry: The library's item: question, answer, metadata.
        options: What it was made with.
    """

    prompt: str
    task: str
    entry: Mapping[str, Any]
    options: Mapping[str, Any]


def puzzle_of(prompt: Prompt, task_options: Mapping[str, Mapping[str, Any]]) -> Puzzle:
    """Find the puzzle in a prompt's reference: a column `entry`, or `metadata` and `answer`.

    Args:
        prompt: Its columns may be JSON text.
        task_options: By task what its puzzles were made with, where the row does not say.

    Raises:
        InputError: There is none.
    """
    reference = prompt.reference
    entry = _table(reference.get("entry"))
    if "metadata" not in entry and (metadata := _table(reference.get("metadata"))):
        question = prompt.question or prompt.text
        entry = {"question": question, "answer": reference.get("answer"), "metadata": metadata}
    metadata = _table(entry.get("metadata"))
    if not metadata:
        raise InputError(
            f"prompt {prompt.id} has no reasoning-gym entry in its reference; it needs a column "
            "`entry` with question, answer and metadata, or the columns `answer` and `metadata`"
        )
    entry = {**entry, "metadata": metadata}
    task = task_of(prompt)
    own = _table(reference.get("options"))
    options = {key: value for key, value in own.items() if value is not None}
    return Puzzle(
        prompt=prompt.id,
        task=task,
        entry=_with_tuples(entry) if task in NEEDS_TUPLES else entry,
        options=options or task_options.get(task, {}),
    )


def task_of(prompt: Prompt) -> str:
    """The task of the puzzle in a prompt; empty where there is none.

    `composite` is no task: its puzzles are those of others.
    """
    reference = prompt.reference
    entry = _table(reference.get("entry"))
    metadata = _table(entry.get("metadata", reference.get("metadata")))
    found = (
        reference.get("task"),
        metadata.get("source_dataset"),
        reference.get("source_dataset"),
        reference.get("dataset"),
    )
    return next((str(name) for name in found if name and name != COMPOSITE), "")


class Scorers:
    """Makes scorers when they are first needed, and keeps them."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Score] = {}
        self._trusted: set[tuple[str, str]] = set()

    def warm(self) -> None:
        """Make every task's with its default options: some read files of megabytes."""
        from reasoning_gym.factory import DATASETS

        for task in DATASETS:
            if task != COMPOSITE:
                self._scorer(task, {})

    def score(self, puzzle: Puzzle) -> Score:
        """Give the scorer of a puzzle.

        Raises:
            InputError: There is no such task, it refuses the options, or they are not those that
                the puzzle was made with.
        """
        name = puzzle.task, _key(puzzle.options)
        try:
            score = self._scorer(puzzle.task, puzzle.options)
        except Exception as error:
            raise InputError(_why_not(puzzle, error)) from error
        own = puzzle.entry.get("answer")
        if name not in self._trusted and isinstance(own, str):
            self._try(score, puzzle, own)
            self._trusted.add(name)
        return score

    def _scorer(self, task: str, options: Mapping[str, Any]) -> Score:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS

        name = task, _key(options)
        if name not in self._made:
            made = {key: value for key, value in options.items() if key not in ("size", "seed")}
            if task in DATASETS:
                made = with_records(DATASETS[task][1], made)
            self._made[name] = reasoning_gym.create_dataset(task, **made).score_answer
        return self._made[name]

    def _try(self, score: Score, puzzle: Puzzle, own: str) -> None:
        try:
            given = float(score(own, puzzle.entry))
            outcome = f"{given:.3g}"
        except Exception as error:  # noqa: BLE001 - a scorer raises what it likes
            given, outcome = 0.0, f"{type(error).__name__}: {first_line(error)}"
        if given < 1:
            raise InputError(
                f"prompt {puzzle.prompt}: the scorer of {puzzle.task} with options "
                f"{dict(puzzle.options)} gives the puzzle's own answer {own[:80]!r} no full marks "
                f"({outcome}); give the options that the puzzle was made with, in a column "
                f"`options` or in {SETTING}.{puzzle.task}"
            )


def _why_not(puzzle: Puzzle, error: Exception) -> str:
    from reasoning_gym.factory import DATASETS

    if puzzle.task not in DATASETS:
        return (
            f"prompt {puzzle.prompt}: {puzzle.task!r} is no reasoning-gym task; set `task` in its "
            "reference or metadata.source_dataset in its entry"
        )
    return (
        f"prompt {puzzle.prompt}: task {puzzle.task} refuses the options {dict(puzzle.options)} "
        f"({first_line(error)}); give those that its puzzles were made with, in a column `options` "
        f"or in {SETTING}.{puzzle.task}"
    )


def _key(options: Mapping[str, Any]) -> str:
    return json.dumps(options, sort_keys=True, default=str)


def _table(value: Any) -> Mapping[str, Any]:
    """A table, or JSON text of one; anything else is an empty one."""
    if isinstance(value, str):
        with suppress(ValueError):
            value = json.loads(value)
    return value if isinstance(value, Mapping) else {}


def _with_tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    board = entry["metadata"]["output"]
    metadata = {**entry["metadata"], "output": tuple(tuple(row) for row in board)}
    return {**entry, "metadata": metadata}
