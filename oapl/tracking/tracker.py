"""Where a run's numbers go: a fan-out to files, console, W&B and Ray; names in `names`.

Invariants: one writer (the learner's process); a tracking service that fails is reported and left
out, it never ends a run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oapl import interfaces
from oapl.config import RunConfig
from oapl.config.stages import StagePlace
from oapl.records import StepMetrics
from oapl.tracking import console, ray_metrics, rollouts, trackio_sink, wandb_sink
from oapl.tracking.history import Tail
from oapl.tracking.jsonl import JsonlSink
from oapl.tracking.lines import MESSAGES_FILE, METRICS_FILE
from oapl.tracking.status import StatusSink


class Tracker:
    """Hands everything to each sink, in the order in which they came; see `interfaces.Tracker`."""

    def __init__(self) -> None:
        self._sinks: list[interfaces.Tracker] = []
        self._screens: list[interfaces.Tracker] = []

    def add(self, sink: interfaces.Tracker) -> None:
        """Hand everything to `sink` too, from now on."""
        self._sinks.append(sink)

    def add_screen(self, sink: interfaces.Tracker) -> None:
        """Hand everything to `sink` too, until nobody can read it: a terminal or pipe that went."""
        self._sinks.append(sink)
        self._screens.append(sink)

    def log(self, metrics: StepMetrics) -> None:
        """See `Sink.log`."""
        self._each(lambda sink: sink.log(metrics))

    def message(self, text: str) -> None:
        """See `Sink.message`."""
        self._each(lambda sink: sink.message(text))

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """See `Sink.rollouts`."""
        self._each(lambda sink: sink.rollouts(rows))

    def phase(self, name: str) -> None:
        """See `Sink.phase`."""
        self._each(lambda sink: sink.phase(name))

    def made(self, groups: int, total: int) -> None:
        """See `Sink.made`."""
        self._each(lambda sink: sink.made(groups, total))

    def alert(self, title: str, text: str) -> None:
        """See `Sink.alert`."""
        self._each(lambda sink: sink.alert(title, text))

    def saved(self, checkpoint: Path, step: int) -> None:
        """See `Sink.saved`."""
        self._each(lambda sink: sink.saved(checkpoint, step))

    def fail(self, text: str) -> None:
        """Tell every sink that can be told, how the run has failed, and close it.

        What cannot be written may be why it failed: one sink's error must not keep the others from
        hearing, nor take the place of the first one.
        """
        for sink in self._sinks:
            with contextlib.suppress(OSError):
                sink.message(text)
            with contextlib.suppress(OSError):
                sink.close()
        self._sinks = []

    def close(self) -> None:
        """Close every sink."""
        self._each(lambda sink: sink.close())
        self._sinks = []

    def _each(self, act: Callable[[interfaces.Tracker], None]) -> None:
        for sink in [*self._sinks]:
            try:
                act(sink)
            except OSError:
                if sink not in self._screens:
                    raise
                self._sinks.remove(sink)


def build_tracker(
    config: RunConfig, folder: Path, step: int | None, place: StagePlace | None = None
) -> Tracker:
    """Make the sinks that `config.tracking` asks for.

    Args:
        config: The run.
        folder: Its folder, made where it is missing.
        step: The learner step after which the run begins or goes on: metrics and stored rollouts of
            later steps are set aside, as they are made again. None, of an evaluation alone, touches
            nothing and adds lines.
        place: Where the stage that `config` is of stands, in a run of stages.

    Raises:
        InputError: W&B is to be online, but nobody is logged in; or trackio is not installed.
    """
    mode = wandb_sink.wandb_mode(config.tracking.wandb)
    folder.mkdir(parents=True, exist_ok=True)
    tracker = Tracker()
    if step is not None:
        # The first: who watches must know that another process is at work before lines move.
        tracker.add(StatusSink(folder, step, place))
    tracker.add(JsonlSink(folder, step))
    if step is not None:
        rollouts.set_aside(folder, step)
    written = Tail(folder / METRICS_FILE), Tail(folder / MESSAGES_FILE)
    if screen := console.build(config, step or 0, written if step else None, place=place):
        tracker.add_screen(screen)
    if ray_metrics.is_wanted(config):
        tracker.add(ray_metrics.RayMetricsSink(config.run.name, tracker.message))
    if mode != "off" and (board := wandb_sink.start(config, folder, mode, tracker.message)):
        tracker.add(board)
    if config.tracking.trackio and (kept := trackio_sink.start(config, tracker.message)):
        tracker.add(kept)
    return tracker
