"""What a checkpoint holds beside the ranks' own files: the learner's numbers and pickled records.

Invariants: `state.json` names the format, and another one is refused before anything is loaded; a
pickle is read without running code (`oapl.remote.plain_pickles`), and one that cannot be read is
refused in words, whatever became of the classes that it names.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oapl.errors import CheckpointError
from oapl.records import State
from oapl.remote import plain_pickles

FORMAT = 5
"""Raised when what `state.json` or a pickle holds changes: a key, a class's place or its fields, or
when the ranks' part is laid out anew. Checkpoints without a number are of format 1."""
READABLE = (4, FORMAT)
"""Format 4 differs in the ranks' part, which DeepSpeed wrote; what is saved next is of the last."""
STATE, REPLAY = "state.json", "replay.pkl"
"""The learner's numbers, and what replay, or the queue of examples, holds."""
STAGE, STAGE_NAME = "stage", "name"
"""Of the learner's numbers in a run of stages: of which one it is, and whether that ends; and in it
the stage's name."""
GROUP_SIZES = "group_sizes"
"""Of the learner's numbers: the sizes of the groups that replay holds to train on, each once."""
CRITIC = "critic"
"""In the ranks' part, the critic's engine; in its shape, whether there is one."""
BY_DEEPSPEED = "deepspeed"
"""Folder in the ranks' part of format 4."""
LAYOUT = ("learner.num_ranks", "learner.zero_stage")
"""Of the ranks' shape, what may be another one wherever tensors lie by name."""
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
    if found not in READABLE:
        raise CheckpointError(
            f"checkpoint {checkpoint} is of format {found}, but this version of oapl reads format "
            f"{' and '.join(map(str, READABLE))}; {REMEDY}"
        )
    return state


def group_sizes(replay: State) -> list[int]:
    """Tell the sizes of the groups that are still to be trained on, each once, in order.

    Args:
        replay: Snapshot of what batches are taken from; one of given data holds none.
    """
    held = (group for name in ("buffer", "ahead", "history") for group in replay.get(name, ()))
    return sorted({len(group.scored.rewards) for group in held})


def is_by_deepspeed(ranks: Path) -> bool:
    """Whether the ranks' part is of format 4, which only its own number of ranks and stage read.

    Args:
        ranks: That part's folder.
    """
    return (ranks / BY_DEEPSPEED).is_dir()


def unfit(ranks: Path, saved: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """What a run that goes on must have as it was, and has not.

    Args:
        ranks: Folder of the ranks' part.
        saved: Its shape, by setting.
        here: The run's, of the same settings.

    Returns:
        What was saved, by setting.
    """
    free = () if is_by_deepspeed(ranks) else LAYOUT
    return {name: one for name, one in saved.items() if name not in free and one != here[name]}


def write_pickle(path: Path, value: Any) -> None:
    """Pickle a value into a file.

    Args:
        path: The file.
        value: Records, or containers of them.

    Raises:
        CheckpointError: Something in them is of a class that would not be read again.
    """
    try:
        path.write_bytes(plain_pickles.dumps(value))
    except plain_pickles.Refused as error:
        raise CheckpointError(
            f"{path.name} cannot be saved: {error}; where a column of the data holds it, make text "
            "of it"
        ) from error


def read_pickle(path: Path) -> Any:
    """Read what `write_pickle` wrote.

    Raises:
        CheckpointError: It names what is no record of ours, or one with other fields now.
    """
    try:
        return plain_pickles.loads(path.read_bytes())
    except UNREADABLE as error:
        raise CheckpointError(
            f"checkpoint {path.parent}: {path.name} holds what this version of oapl cannot read "
            f"({type(error).__name__}: {error}); {REMEDY}"
        ) from error
