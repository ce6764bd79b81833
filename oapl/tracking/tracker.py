"""Where a run's numbers go: a fan-out to JSONL, console, W&B and Ray; names in `names`.

Invariants: one writer (the learner's process); a line of metrics.jsonl is whole or absent, holds
only what JSON knows (a number that is not finite is null), and is never written twice: on resume
the lines after the checkpoint's step are set aside; a tracking service that fails is reported and
left out, it never ends a run.
"""

from __future__ import annotations

import json
import math
import netrc
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oapl import interfaces
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.records import StepMetrics
from oapl.tracking import console, ray_metrics, rollouts
from oapl.tracking.history import CLOCK, MESSAGES_FILE, METRICS_FILE, STAMP, Tail
from oapl.tracking.names import STEP
from oapl.tracking.status import StatusSink
from oapl.whole_files import written_aside

TABLE = "rollouts"
TABLE_ROWS = 64
TABLE_COLUMNS = ("step", "version", "id", "prompt", "response", "reward", "credit", "verdicts")
WANDB_START_S = 30
WANDB_FINISH_S = 60


class Tracker:
    """`oapl.interfaces.Tracker`: hands everything to each sink, in order."""

    def __init__(self, sinks: Sequence[interfaces.Tracker]) -> None:
        self._sinks = list(sinks)

    def log(self, metrics: StepMetrics) -> None:
        for sink in self._sinks:
            sink.log(metrics)

    def message(self, text: str) -> None:
        for sink in self._sinks:
            sink.message(text)

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for sink in self._sinks:
            sink.rollouts(rows)

    def phase(self, name: str) -> None:
        for sink in self._sinks:
            sink.phase(name)

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


def build_tracker(config: RunConfig, folder: Path, step: int | None) -> Tracker:
    """The sinks of a run that begins, or goes on, after learner step `step`.

    Metrics and stored rollouts of later steps are set aside, as they are made again; with None (an
    evaluation alone) nothing is touched and lines are added.

    Raises:
        InputError: W&B is to be online, but nobody is logged in.
    """
    mode = wandb_mode(config.tracking.wandb)
    folder.mkdir(parents=True, exist_ok=True)
    # The status first: who watches must know that another process is at work before lines move.
    sinks: list[interfaces.Tracker] = [] if step is None else [StatusSink(folder, step)]
    sinks.append(JsonlSink(folder, step))
    if step is not None:
        rollouts.set_aside(folder, step)
    written = Tail(folder / METRICS_FILE), Tail(folder / MESSAGES_FILE)
    screen = console.build(config, step or 0, written if step else None)
    if screen is not None:
        sinks.append(screen)
    tracker = Tracker(sinks)
    if ray_metrics.is_wanted(config):
        sinks.append(ray_metrics.RayMetricsSink(config.run.name, tracker.message))
        tracker = Tracker(sinks)
    if mode != "off":
        sink = _start_wandb(config, folder, mode, tracker.message)
        tracker = tracker if sink is None else Tracker([*sinks, sink])
    return tracker


class JsonlSink:
    """metrics.jsonl: one line per learner step, evaluations as lines of their own; messages.log."""

    def __init__(self, folder: Path, step: int | None) -> None:
        self._path = folder / METRICS_FILE
        self._messages = folder / MESSAGES_FILE
        self._resumed_at = step
        if step is not None:
            self._set_aside(lambda row: row is None or row[STEP] > step)

    def log(self, metrics: StepMetrics) -> None:
        values = {name: _finite(value) for name, value in metrics.values.items()}
        if metrics.step == self._resumed_at and is_evaluation(values):
            # The checkpoint was saved before this evaluation, which is therefore made again.
            self._set_aside(lambda row: row is not None and _repeats(row, metrics))
        row = {STEP: metrics.step, **values, CLOCK: round(time.time(), 3)}
        with self._path.open("a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def message(self, text: str) -> None:
        with self._messages.open("a") as file:
            file.write(f"{time.strftime(STAMP)} {text}\n")

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        pass  # the store itself has written them

    def phase(self, name: str) -> None:
        pass

    def close(self) -> None:
        pass

    def _set_aside(self, is_moved: Callable[[dict[str, Any] | None], bool]) -> None:
        """Move lines to metrics.after-step-N.jsonl; a line torn by a kill is None."""
        if not self._path.exists():
            return
        lines = self._path.read_text().splitlines()
        moved = [line for line in lines if is_moved(_parse(line))]
        if not moved:
            return
        kept = [line for line in lines if not is_moved(_parse(line))]
        with self._path.with_name(f"metrics.after-step-{self._resumed_at}.jsonl").open("a") as file:
            file.writelines(line + "\n" for line in moved)
        with written_aside(self._path) as part:
            part.write_text("".join(line + "\n" for line in kept))


def is_evaluation(row: Mapping[str, Any]) -> bool:
    """Whether a line holds nothing but the figures of an evaluation."""
    names = set(row) - {STEP, CLOCK}
    return bool(names) and all(name.startswith("eval/") for name in names)


def first_evaluation(folder: Path) -> dict[str, float]:
    """The figures of the run's first evaluation, which a resumed run did not make itself."""
    path = folder / METRICS_FILE
    rows = map(_parse, path.read_text().splitlines() if path.exists() else [])
    first = next((row for row in rows if row is not None and is_evaluation(row)), {})
    return {name: value for name, value in first.items() if name.startswith("eval/")}


def _repeats(row: Mapping[str, Any], metrics: StepMetrics) -> bool:
    same = set(row) & set(metrics.values)
    return row[STEP] == metrics.step and is_evaluation(row) and bool(same)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and STEP in row else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def wandb_mode(setting: str) -> str:
    """`online`, `offline` or `off`: auto follows WANDB_MODE, then whether somebody is logged in.

    Raises:
        InputError: It is to be online, but nobody is logged in.
    """
    asked = setting
    if setting == "auto":
        asked = {"disabled": "off", "dryrun": "offline"}.get(
            os.environ.get("WANDB_MODE", ""), os.environ.get("WANDB_MODE", "auto")
        )
    if asked in ("off", "offline"):
        return asked
    if _is_logged_in():
        return "online"
    if setting == "online":
        raise InputError(
            'tracking.wandb is "online", but nobody is logged in to W&B; run `wandb login`, set '
            'WANDB_API_KEY, or use "auto" or "offline"'
        )
    return "offline"


def _is_logged_in() -> bool:
    """Whether wandb would find a key without asking a person for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        import wandb
    except ImportError:
        return False
    url = os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return netrc.netrc(path).authenticators(urlsplit(str(url)).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _start_wandb(
    config: RunConfig, folder: Path, mode: str, tell: Callable[[str], None]
) -> WandbSink | None:
    """W&B in this mode, else offline, else not at all; says which."""
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            sink = WandbSink(config, folder, attempt, tell)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, the run goes on
            tell(f"W&B did not start {attempt}: {type(error).__name__}: {error}")
        else:
            tell(f"W&B is {attempt}: {sink.where}")
            return sink
    return None


class WandbSink:
    """A W&B run whose files lie in the run folder, and whose id stays the same across resumes.

    W&B takes a step once: one that a resumed run makes again keeps its first figures there, while
    metrics.jsonl has the new ones.

    Attributes:
        where: The run's page, or its folder and how to upload it.
    """

    def __init__(
        self, config: RunConfig, folder: Path, mode: str, tell: Callable[[str], None]
    ) -> None:
        import wandb

        self._tell = tell
        self._newest = 0
        self._run = wandb.init(
            project=config.tracking.wandb_project,
            name=config.run.name,
            id=_run_id(folder),
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=folder,
            config=asdict(config),  # type: ignore[call-overload]
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, init_timeout=WANDB_START_S
            ),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)
        files = Path(self._run.dir).parent
        offline = f"{files} (upload: wandb sync {files})"
        self.where = str(self._run.url) if mode == "online" else offline

    def log(self, metrics: StepMetrics) -> None:
        values = {STEP: metrics.step, **metrics.values}
        if metrics.step < self._newest:  # an evaluation that went on beside training: W&B never
            del values[STEP]  # goes back, so it stands at the newest step; metrics.jsonl is exact
        step = self._newest = max(metrics.step, self._newest)
        self._try(lambda: self._run.log(values, step=step), "took no metrics")

    def message(self, text: str) -> None:
        pass

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """A table of the newest of these rows, at the step that the last of them was trained at."""
        import wandb

        newest = rows[-TABLE_ROWS:]
        table = wandb.Table(
            columns=list(TABLE_COLUMNS), data=[[row[c] for c in TABLE_COLUMNS] for row in newest]
        )
        step = newest[-1]["step"]
        values = {STEP: step, TABLE: table}
        self._try(lambda: self._run.log(values, step=step), "took no table of rollouts")

    def phase(self, name: str) -> None:
        pass

    def close(self) -> None:
        """Finish the upload, for at most a minute: what is left lies in the run folder."""
        finish = threading.Thread(
            target=self._try, args=(lambda: self._run.finish(), "did not finish"), daemon=True
        )
        finish.start()
        finish.join(WANDB_FINISH_S)
        if finish.is_alive():
            self._tell(f"W&B still uploads after {WANDB_FINISH_S} s; not waiting: {self.where}")

    def _try(self, act: Callable[[], object], failure: str) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, the run goes on
            self._tell(f"W&B {failure}: {type(error).__name__}: {error}")


def _run_id(folder: Path) -> str:
    path = folder / "wandb" / "run-id.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex[:12])
    return path.read_text().strip()
