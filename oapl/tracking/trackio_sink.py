"""The run on a trackio board: a database on this machine, without an account; `trackio show`.

Invariants: as of W&B, whatever trackio raises the run goes on, what failed is told once, and
trackio is then left out; a run that goes on is the same one on the board, by its name, where a step
that is made again stands twice.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from oapl.config import RunConfig
from oapl.errors import InputError, first_line
from oapl.records import StepMetrics
from oapl.tracking.sink import Sink


def start(config: RunConfig, tell: Callable[[str], None]) -> TrackioSink | None:
    """Start trackio, or say why not.

    Args:
        config: The run.
        tell: Is given one line about it.

    Raises:
        InputError: It is not installed.
    """
    try:
        import trackio
    except ImportError:
        raise InputError(
            "tracking.trackio = true: the package trackio is not installed; `pip install "
            "'oapl[trackio]'`, or leave it out"
        ) from None
    try:
        sink = TrackioSink(trackio, config, tell)
    except Exception as error:  # noqa: BLE001 - whatever trackio raises, the run goes on
        tell(f"trackio did not start: {type(error).__name__}: {first_line(error)}")
        return None
    tell(f"trackio keeps the run; see it with: trackio show --project {sink.project}")
    return sink


class TrackioSink(Sink):
    """A run of trackio's, in the project that W&B has too.

    Args:
        trackio: The module.
        config: The run.
        tell: Is given what trackio raised, once.

    Attributes:
        project: Where it stands on the board.
    """

    def __init__(self, trackio: Any, config: RunConfig, tell: Callable[[str], None]) -> None:
        self.project = config.tracking.wandb_project
        self._tell: Callable[[str], None] | None = tell
        self._warning = trackio.AlertLevel.WARN
        with contextlib.redirect_stdout(io.StringIO()):  # it greets in six lines
            self._run = trackio.init(
                project=self.project,
                name=config.run.name,
                config=asdict(config),  # type: ignore[call-overload]
                resume="allow",
                embed=False,
                auto_log_gpu=False,
            )

    def log(self, metrics: StepMetrics) -> None:
        """Log what is finite under its learner step."""
        finite = {name: value for name, value in metrics.values.items() if math.isfinite(value)}
        self._do(lambda: self._run.log(finite, step=metrics.step))

    def alert(self, title: str, text: str) -> None:
        """Show it on the board, and wherever trackio is told to send alerts."""
        self._do(lambda: self._run.alert(title, text, level=self._warning))

    def close(self) -> None:
        """Write what is left."""
        self._do(self._run.finish)

    def _do(self, act: Callable[[], object]) -> None:
        if self._tell is None:
            return
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                act()
        except Exception as error:  # noqa: BLE001 - whatever trackio raises, the run goes on
            self._tell(
                f"trackio failed: {type(error).__name__}: {first_line(error)}; going on without "
                "it: metrics.jsonl has everything"
            )
            self._tell = None
