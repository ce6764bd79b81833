"""What a checkpoint holds beside the ranks' own files: the learner's numbers and pickled records.

Invariants: `state.json` names the format, and another one is refused before anything is loaded; a
pickle that cannot be read is refused in words, whatever became of the classes that it names.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oapl.errors import CheckpointError
from oapl.records import State

FORMAT = 4
"""Raised when what `state.json` or a pickle holds changes: a key, a class's place or its fields.
Checkpoints without a number are of format 1."""
STATE, REPLAY = "state.json", "replay.pkl"
"""The learner's numbers, and what replay, or the queue of examples, holds."""
STAGE, STAGE_NAME = "stage", "name"
"""Of the learner's numbers in a run of stages: of which one it is, and whether that ends; and in it
the stage's name."""
CRITIC = "critic"
"""In the ranks' part, the critic's engine; in its shape, whether there is one."""
REMEDY = "resume with the version of oapl that wrote it, or begin afresh under another run.name"
UNREADABLE = (
    ImportError,
    AttributeError,
    TypeError,
    ValueError,
    LookupError,
    EOFError,
    pickle.UnpicklingError,
)
"""What reading a pickle raises when a class has moved (the first two) or has other fields."""


def write_state(folder: Path, numbers: Mapping[str, Any]) -> None:
    """Write the learner's numbers, and the format of all that is in the checkpoint.

    Args:
        folder: Of the checkpoint.
        numbers: By name.
    """
    (folder / STATE).write_text(json.dumps({"format": FORMAT, **numbers}))


def read_state(checkpoint: Path) -> State:
    """Read what `write_state` wrote.

    Raises:
        CheckpointError: It is missing, or of another format.
    """
    try:
        state: State = json.loads((checkpoint / STATE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {checkpoint}: it is incomplete ({error})") from error
    found = state.get("format", 1)
    if found != FORMAT:
        raise CheckpointError(
            f"checkpoint {checkpoint} is of format {found}, but this version of oapl reads format "
            f"{FORMAT}; {REMEDY}"
        )
    return state


def write_pickle(path: Path, value: Any) -> None:
    """Pickle a value into a file.

    Args:
        path: The file.
        value: Records, or containers of them.
    """
    path.write_bytes(pickle.dumps(value))


def read_pickle(path: Path) -> Any:
    """Read what `write_pickle` wrote.

    Raises:
        CheckpointError: It names classes that are no longer there, or have other fields now.
    """
    try:
        return pickle.loads(path.read_bytes())
    except UNREADABLE as error:
        raise CheckpointError(
            f"checkpoint {path.parent}: {path.name} holds what this version of oapl cannot read "
            f"({type(error).__name__}: {error}); {REMEDY}"
        ) from error
