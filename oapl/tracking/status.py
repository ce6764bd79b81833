"""What a run is doing, in `status.json`: for whoever watches it from another process.

Invariants: the file is whole at any time; a run that closes without having said how it ended, or
that it starts again, has failed; one that was killed leaves its last phase and a process that is
gone.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from oapl.config.stages import StagePlace
from oapl.tracking.sink import Sink
from oapl.whole_files import written_aside

FILE = "status.json"
PHASES = ("start", "evaluate", "train", "publish", "finish")
DONE, STOPPED, FAILED = ENDS = ("done", "stopped", "failed")
"""How a run ends: by itself, asked by a signal, or by an error."""
STOPPED_AT = "stopped at step"
"""Begins the last line of a run that a signal has stopped, and that left a checkpoint."""
GENERATE = "generate"
"""While groups are made only to be stored."""
RESTART = "restart"
"""Between two attempts, when a learner rank has failed: the same process begins anew."""
HAND_OVER = "hand-over"
"""Between two stages: the same process goes on with the next."""
FILTER = "filter"
"""While stored groups are filtered."""
BETWEEN = (RESTART, HAND_OVER)
"""After these the same process says what follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What a run is doing at a moment.

    Attributes:
        phase: One of `PHASES` or `ENDS`, or `GENERATE`, `FILTER` or one of `BETWEEN`.
        since_unix_s: When the phase began.
        began_unix_s: When the process began; a resumed run begins anew.
        start_step: Learner step after which it began.
        pid, host: The process that trains.
        stage, first_step: In a run of stages, the name of the present one, and the learner steps
            that those before it have made.
    """

    phase: str
    since_unix_s: float
    began_unix_s: float
    start_step: int
    pid: int
    host: str
    stage: str = ""
    first_step: int = 0

    @property
    def is_over(self) -> bool:
        """Whether the run has said how it ended."""
        return self.phase in ENDS

    @property
    def is_lost(self) -> bool:
        """Whether its process is gone without an end; on another host nobody can tell."""
        if self.is_over or self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's, and alive
            return False
        return False


class StatusSink(Sink):
    """Keeps `status.json`; takes no notice of metrics and messages.

    Args:
        folder: The run's.
        step: The learner step after which this process begins.
        place: The stage that it begins with, in a run of stages.
    """

    def __init__(self, folder: Path, step: int, place: StagePlace | None = None) -> None:
        self._path = folder / FILE
        now = round(time.time(), 3)
        self._status = Status(
            phase=PHASES[0],
            since_unix_s=now,
            began_unix_s=now,
            start_step=step,
            pid=os.getpid(),
            host=socket.gethostname(),
            stage="" if place is None else place.name,
            first_step=0 if place is None else place.first,
        )
        self._write()

    def phase(self, name: str) -> None:
        """Write the phase, unless it is the present one."""
        if name != self._status.phase:
            self._status = replace(self._status, phase=name, since_unix_s=round(time.time(), 3))
            self._write()

    def close(self) -> None:
        """Write that the run has failed, unless it has said how it ended or that it goes on."""
        if not self._status.is_over and self._status.phase not in BETWEEN:
            self.phase(FAILED)

    def _write(self) -> None:
        text = json.dumps(asdict(self._status)) + "\n"
        if (
            not self._path.parent.is_dir()
        ):  # removed under the run, which must not go on in a new one
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
        try:
            with written_aside(self._path) as part:
                part.write_text(text)
        except OSError:  # on a full disk there is room in the old file's block alone
            with self._path.open("r+") as file:
                file.write(text)
                file.truncate()


def read(folder: Path) -> Status | None:
    """Read the run's status; None where it has written none."""
    try:
        return Status(**json.loads((folder / FILE).read_text()))
    except FileNotFoundError:
        return None
