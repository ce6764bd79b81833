"""A command of ours in a process of its own, which lives no longer than we do.

    code = run(["train", "recipe.toml", "sync.interval=50"])

The process is in a group of its own, so that a signal from the terminal comes to us alone and is
handed on once: a run takes a second one for the wish to end at once. Where we are killed it is
killed too, which for a run is as if it alone had been.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

MAIN = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "from deploy.sweeping.child import die_with; die_with(int(sys.argv.pop(1))); "
    "from oapl.__main__ import main; sys.exit(main())"
)
SET_PARENT_DEATH_SIGNAL = 1
"""Of `prctl`."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """The signals that came, and to whom they go on.

    Attributes:
        first: Number of the first one; 0 where none came.
        process: The present child.
    """

    def __init__(self) -> None:
        self.first = 0
        self.process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Within this, a signal ends no process but is noted, and handed on to the child."""
        old: dict[signal.Signals, Any] = {}
        for number in SIGNALS:
            before = signal.getsignal(number)
            if number == signal.SIGHUP and before == signal.SIG_IGN:
                continue  # nohup
            with contextlib.suppress(ValueError):  # not the main thread: its owner handles them
                signal.signal(number, self._handle)
                old[number] = before
        try:
            yield
        finally:
            for number, before in old.items():
                signal.signal(number, before)

    def _handle(self, number: int, frame: object) -> None:
        self.first = self.first or number
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)


def run(words: Sequence[str], signals: Signals) -> int:
    """Run one command to its end.

    Args:
        words: Behind `oapl`.
        signals: Hands on what comes meanwhile.

    Returns:
        Its exit code; 128 + the signal that killed it.
    """
    if signals.first:
        return 128 + signals.first
    command = [sys.executable, "-P", "-c", MAIN, json.dumps(sys.path), str(os.getpid()), *words]
    signals.process = subprocess.Popen(command, start_new_session=True)
    try:
        code = signals.process.wait()
    finally:
        signals.process = None
    return code if code >= 0 else 128 - code


def die_with(parent: int) -> None:
    """Let this process be killed as soon as its parent has ended, however it ends.

    Args:
        parent: Its id; where that has ended before, so does this process, now.
    """
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)
