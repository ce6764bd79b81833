"""Which stages of a run have ended, and what each has left: `stages.json` in the run folder.

Invariant: a stage is in it once all that it leaves is whole on disk, and then for good; so a run
that was killed at any moment goes on in the stage that is the first one not in it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from oapl.config.stages import Stage
from oapl.errors import InputError
from oapl.whole_files import written_aside

FILE = "stages.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A stage that has ended.

    Attributes:
        name, kind: As in the recipe.
        step: Learner steps of the run at its end.
        made: Its own.
        cause: Why it ended.
        model, checkpoint, groups: What it has left, as paths in the run folder; empty: nothing.
    """

    name: str
    kind: str
    step: int
    made: int = 0
    cause: str = ""
    model: str = ""
    checkpoint: str = ""
    groups: str = ""


def read(folder: Path, stages: Sequence[Stage]) -> list[Ended]:
    """Read which stages have ended.

    Args:
        folder: The run's.
        stages: Of its recipe.

    Raises:
        InputError: The recipe has other stages in their place.
    """
    try:
        ended = [Ended(**one) for one in json.loads((folder / FILE).read_text())]
    except FileNotFoundError:
        return []
    for index, one in enumerate(ended):
        here = stages[index] if index < len(stages) else None
        if here is None or (here.name, here.kind) != (one.name, one.kind):
            now = f"{here.name!r} of kind {here.kind}" if here else "no stage"
            raise InputError(
                f"stage {index + 1} of {folder} has ended as {one.name!r} of kind {one.kind}, but "
                f"the recipe has {now} there; set it back, or choose another run.name"
            )
    return ended


def write(folder: Path, ended: Sequence[Ended]) -> None:
    """Write which stages have ended.

    Args:
        folder: The run's.
        ended: In their order.
    """
    with written_aside(folder / FILE) as part:
        part.write_text(json.dumps([asdict(one) for one in ended], indent=1) + "\n")


def last_of(ended: Sequence[Ended], what: str) -> str:
    """The newest model, checkpoint or set of groups that ended stages have left; empty: none.

    Args:
        ended: In their order.
        what: The attribute.
    """
    return next((found for one in reversed(ended) if (found := getattr(one, what))), "")
