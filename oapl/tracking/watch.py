"""A run's live view in another process: reads the run folder, and writes nothing there.

Invariants: when a resumed run has set lines aside, the view is built anew from what is left; an end
is believed only after all that came before it was read.
"""

from __future__ import annotations

import time
from pathlib import Path

from rich.console import Console

from oapl.config import RunConfig
from oapl.config.stages import StagePlace, stages_of
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.records import StepMetrics
from oapl.tracking import console, status
from oapl.tracking.history import Tail, entries, feed
from oapl.tracking.lines import MESSAGES_FILE, METRICS_FILE

POLL_S = 0.5
"""Between two looks (three file sizes): a run on another node's disk wakes no notifier here."""


def watch(folder: Path, screen: Console | None = None) -> int:
    """Show the run until it ends, or until Ctrl-C.

    Args:
        folder: The run's.
        screen: Where to draw; None means standard output.

    Returns:
        0: the watch went well, however the run ended.

    Raises:
        InputError: `folder` is no run folder.
    """
    _config(folder)
    screen = screen or Console()
    try:
        while _follow(folder, screen) == "resumed":
            pass
    except KeyboardInterrupt:
        pass
    return 0


def _follow(folder: Path, screen: Console) -> str:
    """Show one life of the run, or of one of its stages; each may have other settings.

    Returns:
        `ended`, or `resumed` when another process took it up.
    """
    files = Tail(folder / METRICS_FILE), Tail(folder / MESSAGES_FILE)
    now = status.read(folder)
    began = None if now is None else now.began_unix_s
    config, place = _present(folder, now)
    view = console.view_of(config, now.start_step if now else 0, began, place)
    feed(view, *files)
    if now is not None:
        view.enter(now.phase, now.since_unix_s)
    shown = console.show(view, "auto", screen, config.tracking.console_every_s)
    shown.refresh()
    try:
        while True:
            now = status.read(folder)
            if (now and now.began_unix_s) != began or files[0].is_replaced():
                return "resumed"
            for at, record in entries(*files):
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


def _present(folder: Path, now: status.Status | None) -> tuple[RunConfig, StagePlace | None]:
    """The settings of the present stage, and its place; those of the run where it has none."""
    config = _config(folder)
    stages = stages_of(config)
    found = [stage for stage in stages if now is not None and stage.name == now.stage]
    if now is None or not found:
        return config, None
    (stage,) = found
    place = StagePlace(
        number=stage.number, total=len(stages), name=stage.name, first=now.first_step
    )
    return stage.config, place


def _config(folder: Path) -> RunConfig:
    recipe = folder / "config.toml"
    if not recipe.is_file():
        near = sorted(str(path.parent) for path in folder.glob("*/config.toml"))
        hint = f"; run folders in it: {', '.join(near[:5])}" if near else ""
        what = "is no run folder (it has no config.toml)" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}{hint}; name the folder of a run, like runs/NAME")
    return load_config(recipe)
