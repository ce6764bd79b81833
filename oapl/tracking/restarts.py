"""restarts.jsonl: what of a run was started again, when, and why.

A line per restart, written by the process that trains; metrics count them, and say what they cost.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = "restarts.jsonl"
Record = Callable[[str, str], None]
"""Takes note that a part was started again, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """One of them.

    Attributes:
        at_unix_s: When it was decided.
        part: `worker 0`, `reward-0`; or `rank`, `node`, `replay`, for which all went back to the
            last checkpoint.
        cause: What was told of it.
    """

    at_unix_s: float
    part: str
    cause: str

    @property
    def is_of_all(self) -> bool:
        """Whether the whole run went back."""
        return self.part in ("rank", "node", "replay")


class RestartLog:
    """Adds lines.

    Args:
        folder: The run's.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE

    def add(self, part: str, cause: str) -> None:
        """Note one; a full disk stops what matters more.

        Args:
            part, cause: As in `Restart`.
        """
        one = Restart(at_unix_s=round(time.time(), 3), part=part, cause=cause)
        line = f"{json.dumps(dataclasses.asdict(one))}\n".encode()
        with contextlib.suppress(OSError), self._path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line  # behind a torn one
            file.write(line)


def silent(part: str, cause: str) -> None:
    """Take no note."""


def read(folder: Path) -> Iterator[Restart]:
    """Read a run's, in order; a line that a kill has torn is none.

    Args:
        folder: The run's.
    """
    path = folder / FILE
    for line in path.read_text().splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            yield Restart(**json.loads(line))
