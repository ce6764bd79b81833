"""A run's live view in another process: reads the run folder, and writes nothing there.

Invariants: every line is taken in once and only whole; when a resumed run has set lines aside, the
view is built anew from what is left; an end is believed only after all that came before was read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from oapl import console, status
from oapl.cli import load_config
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.metrics import STEP
from oapl.records import StepMetrics
from oapl.tracking import CLOCK, MESSAGES_FILE, METRICS_FILE
from oapl.view import View

POLL_S = 0.5
"""Between two looks (three file sizes): a run on another node's disk wakes no notifier here."""
STAMP = "%Y-%m-%d %H:%M:%S"
STAMP_LENGTH = 19


def watch(folder: Path, screen: Console | None = None) -> int:
    """Show the run until it ends, or until Ctrl-C.

    Returns:
        0: the watch went well, however the run ended.

    Raises:
        InputError: `folder` is no run folder.
    """
    config = _config(folder)
    screen = screen or Console()
    try:
        while _follow(folder, config, screen) == "resumed":
            config = _config(folder)  # it may go on with other settings
    except KeyboardInterrupt:
        pass
    return 0


def _follow(folder: Path, config: RunConfig, screen: Console) -> str:
    """Show one life of the run.

    Returns:
        `ended`, or `resumed` when another process took it up.
    """
    files = Tail(folder / METRICS_FILE), Tail(folder / MESSAGES_FILE)
    now = status.read(folder)
    began = None if now is None else now.began_unix_s
    view = console.view_of(config, now.start_step if now else 0, began)
    _feed(view, *files)
    if now is not None:
        view.enter(now.phase, now.since_unix_s)
    shown = console.show(view, "auto", screen, config.tracking.console_every_s)
    shown.refresh()
    try:
        while True:
            now = status.read(folder)
            if (now and now.began_unix_s) != began or files[0].is_replaced():
                return "resumed"
            for at, record in _records(*files):
                if isinstance(record, StepMetrics):
                    shown.log(record, at)
                else:
                    shown.message(record, at)
            if now is None:
                if files[0].path.exists():  # it keeps no status: nothing tells whether it runs
                    return "ended"
            else:
                shown.phase(now.phase, now.since_unix_s)
                if now.is_lost:
                    shown.message(
                        f"warning: process {now.pid} is gone without an end; the same command "
                        "starts the run again from its last checkpoint"
                    )
                    shown.phase(status.FAILED)
                if now.is_over or now.is_lost:
                    return "ended"
            time.sleep(POLL_S)
    finally:
        shown.close()


class Tail:
    """The whole lines that a file gains."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = 0
        self._offset = 0

    def lines(self) -> list[str]:
        """Those since the last call; a line still being written waits for its end."""
        try:
            with self.path.open("rb") as file:
                self._inode = self._inode or self.path.stat().st_ino
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def is_replaced(self) -> bool:
        """Whether what was read is no longer what the file begins with."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return self._offset > 0
        is_other = self._inode not in (0, found.st_ino)
        return is_other or found.st_size < self._offset


def _records(metrics: Tail, messages: Tail) -> Iterator[tuple[float, StepMetrics | str]]:
    """New lines of both files, in order of time."""
    found: list[tuple[float, StepMetrics | str]] = []
    for line in metrics.lines():
        row = json.loads(line)
        at, step = row.pop(CLOCK), row.pop(STEP)
        values = {name: value for name, value in row.items() if value is not None}
        found.append((at, StepMetrics(step=step, values=values)))
    found += [(message.at, message.text) for message in _messages(messages.lines())]
    yield from sorted(found, key=lambda item: item[0])


@dataclass(slots=True)
class _Message:
    at: float
    text: str


def _messages(lines: list[str]) -> list[_Message]:
    found: list[_Message] = []
    for line in lines:
        try:
            at = time.mktime(time.strptime(line[:STAMP_LENGTH], STAMP))
        except ValueError:  # the message before goes on
            if found:
                found[-1].text += f" {line}"
            continue
        found.append(_Message(at, line[STAMP_LENGTH + 1 :]))
    return found


def _feed(view: View, *files: Any) -> None:
    for at, record in _records(*files):
        if isinstance(record, StepMetrics):
            view.feed(record, at)
        else:
            view.say(record, at)


def _config(folder: Path) -> RunConfig:
    recipe = folder / "config.toml"
    if not recipe.is_file():
        near = sorted(str(path.parent) for path in folder.glob("*/config.toml"))
        hint = f"; run folders in it: {', '.join(near[:5])}" if near else ""
        what = "is no run folder (it has no config.toml)" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}{hint}; name the folder of a run, like runs/NAME")
    return load_config(recipe)
