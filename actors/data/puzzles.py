"""Puzzles of reasoning-gym: the same in every process, with what their scorers need.

Some of its tasks follow the order of a set, and so the hash seed of the process, which differs from
one process to the next; one draws from Python's common generator. So puzzles are made in a process
of their own, in which both seeds are fixed, and an id names one question in replay, in an
evaluation and after a resume.
"""

from __future__ import annotations

import difflib
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from oapl.config.nested import with_records
from oapl.config.sections import DataSource
from oapl.errors import DeadlineError, InputError, first_line

MAIN = "from actors.data.puzzles import main; main()"
HASH_SEED = "0"
START_S, PUZZLE_S = 120.0, 30.0
"""Limits of the process that makes puzzles: for its imports, and for each puzzle (the slowest task,
knight_swap, takes 2 s on an idle core)."""
COMPOSITE = "composite"
"""The task whose puzzles are those of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """One puzzle.

    Attributes:
        task: reasoning-gym's name; within `composite`, of the task that it comes from.
        options: What it was made with, and what its scorer must be made with.
        entry: The library's own item: question, answer, metadata.
    """

    task: str
    entry: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)


def puzzles(sources: Sequence[DataSource]) -> list[list[Puzzle]]:
    """Make the puzzles of each source, in its order.

    Raises:
        InputError: There is no such task, or it refuses the options.
        DeadlineError: It takes unreasonably long.
    """
    names = ", ".join(repr(source.name) for source in sources)
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    limit_s = START_S + PUZZLE_S * sum(source.size for source in sources)
    try:
        made = subprocess.run(
            [sys.executable, "-P", "-c", MAIN],
            input=pickle.dumps(sources),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONHASHSEED": HASH_SEED, "PYTHONPATH": path},
            timeout=limit_s,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise DeadlineError(
            f"waited {limit_s:.0f} s for the puzzles of source {names}; ask for fewer by `size`, "
            "or for easier ones by `options`"
        ) from error
    except subprocess.CalledProcessError as error:
        raise InputError(
            f"source {names}: the process that makes its puzzles ended with code "
            f"{error.returncode}; its last words are above"
        ) from error
    result = pickle.loads(made.stdout)
    if isinstance(result, str):
        raise InputError(result)
    return result


def _made(source: DataSource) -> Iterator[Puzzle]:
    import reasoning_gym
    from reasoning_gym.factory import DATASETS

    if source.task not in DATASETS:
        near = difflib.get_close_matches(source.task, DATASETS, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {len(DATASETS)} tasks"
        raise InputError(
            f"source {source.name!r}: {source.task!r} is no task of reasoning-gym; {hint}"
        )
    try:
        options = with_records(DATASETS[source.task][1], source.options)
        _seed_shared(source.seed)
        data = reasoning_gym.create_dataset(
            source.task, size=source.size, seed=source.seed, **options
        )
        for index in range(source.size):
            _seed_shared(source.seed + index)
            yield _puzzle(source, _plain(data[index]))
    except Exception as error:  # a task's own, of any type
        raise InputError(
            f"source {source.name!r}: task {source.task!r} refuses size {source.size}, options "
            f"{source.options} ({first_line(error)}); what it takes is in reasoning-gym's "
            f"{DATASETS[source.task][1].__name__}"
        ) from error


def _seed_shared(seed: int) -> None:
    """Seed what all of a process shares: list_functions and a few draw from it, not from theirs."""
    random.seed(seed)
    np.random.seed(seed % 2**32)


def _puzzle(source: DataSource, entry: Mapping[str, Any]) -> Puzzle:
    if source.task != COMPOSITE:
        return Puzzle(task=source.task, entry=entry, options=source.options)
    task = entry["metadata"]["source_dataset"]
    (part,) = (part for part in source.options["datasets"] if part["name"] == task)
    return Puzzle(task=task, entry=entry, options=part.get("config", {}))


def _plain(value: Any) -> Any:
    """Without NumPy scalars, which a few tasks leave in an entry: verifiers run without NumPy."""
    if isinstance(value, dict):
        return {_plain(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def main() -> None:
    """Make the puzzles of the sources on standard input; give them, or what is wrong, as output."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what the library prints is no part of it
    try:
        sources: list[DataSource] = pickle.load(sys.stdin.buffer)
        made: list[list[Puzzle]] | str = [list(_made(source)) for source in sources]
    except InputError as error:
        made = str(error)
    with os.fdopen(answer, "wb") as file:
        pickle.dump(made, file)
