"""The run on Weights & Biases, online or as files to upload later.

Invariant: whatever W&B raises, or however long it takes, the run goes on; what failed is told once,
and W&B is then left out: its process has ended or is stopped, and would say the same at every step.
"""

from __future__ import annotations

import contextlib
import math
import netrc
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import urlsplit

from oapl.config import RunConfig
from oapl.errors import InputError, first_line
from oapl.records import StepMetrics
from oapl.tracking.names import STEP
from oapl.tracking.sink import Sink

TABLE = "rollouts"
TABLE_ROWS = 64
SUMMARIES = {"reward/mean": "max,last,mean", "total/ettr": "last", "eval/*": "max,last"}
"""What W&B keeps of a metric in its table of runs; of the others the last figure."""
TABLE_COLUMNS = ("step", "version", "id", "prompt", "response", "reward", "credit", "verdicts")
WANDB_START_S = 30
WANDB_FINISH_S, WANDB_UPLOAD_S = 20, 120
"""For W&B to take the rest at the end, and where checkpoints are uploaded: batch systems give half
a minute to a run that they stop."""
WANDB_FORGET_S = 10
UPLOAD = "took no checkpoint"
ALERT_EVERY_S = 600
"""At least between two alerts of one title."""
MAX_WAITING, WANDB_CALL_S = 1000, 120
"""Calls that W&B has not taken yet, and for how long it has been at one, uploads excepted: beyond
either its process is stopped."""


def wandb_mode(setting: str) -> str:
    """Decide between `online`, `offline` and `off`.

    `auto` follows WANDB_MODE, then whether somebody is logged in.

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


def start(
    config: RunConfig, folder: Path, mode: str, tell: Callable[[str], None]
) -> WandbSink | None:
    """Start W&B in this mode, else offline, else not at all; say which.

    Args:
        config: The run.
        folder: Its folder.
        mode: `online` or `offline`.
        tell: Is given one line about it.
    """
    for attempt in dict.fromkeys((mode, "offline")):
        try:
            sink = WandbSink(config, folder, attempt, tell)
        except Exception as error:  # noqa: BLE001 - whatever W&B raises, the run goes on
            tell(f"W&B did not start {attempt}: {type(error).__name__}: {first_line(error)}")
            _forget()
        else:
            tell(f"W&B is {attempt}: {sink.where}")
            return sink
    return None


class WandbSink(Sink):
    """A W&B run whose files lie in the run folder, and whose id stays the same across resumes.

    W&B takes a step once: one that a resumed run makes again keeps its first figures there, while
    metrics.jsonl has the new ones.

    Args:
        config: The run.
        folder: Its folder.
        mode: `online` or `offline`.
        tell: Is given what W&B raised, one line each.

    Attributes:
        where: The run's page, or its folder and how to upload it.
    """

    def __init__(
        self, config: RunConfig, folder: Path, mode: str, tell: Callable[[str], None]
    ) -> None:
        import wandb

        self._tell = tell
        self._newest = 0
        self._waiting: Queue[tuple[Callable[[], object], str] | None] = Queue()
        self._late_at = math.inf  # of the call under way, by the monotonic clock
        self._failure = ""
        self._forgetting: threading.Thread | None = None
        self._is_dropped = False
        self._run = wandb.init(
            project=config.tracking.wandb_project,
            name=config.run.name,
            id=_run_id(folder),
            resume="allow" if mode == "online" else None,
            mode=mode,
            dir=folder,
            config=asdict(config),  # type: ignore[call-overload]
            allow_val_change=True,  # a run that goes on, or its next stage, has other settings
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, init_timeout=WANDB_START_S
            ),
        )
        self._uploads = config.tracking.wandb_checkpoints
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)
        for name, summary in SUMMARIES.items():
            self._run.define_metric(name, step_metric=STEP, summary=summary)
        self._files = files = Path(self._run.dir).parent
        offline = f"{files} (upload: wandb sync {files})"
        self.where = str(self._run.url) if mode == "online" else offline
        self._sending = threading.Thread(target=self._send, daemon=True)
        self._sending.start()

    def log(self, metrics: StepMetrics) -> None:
        """Log under the learner step, or the newest one where W&B is past that."""
        values = {STEP: metrics.step, **metrics.values}
        if metrics.step < self._newest:  # an evaluation that went on beside training: W&B never
            del values[STEP]  # goes back, so it stands at the newest step; metrics.jsonl is exact
        step = self._newest = max(metrics.step, self._newest)
        self._do(lambda: self._run.log(values, step=step), "took no metrics")

    def rollouts(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show the newest of these rows as a table, at the step that the last was trained at."""
        import wandb

        newest = rows[-TABLE_ROWS:]
        table = wandb.Table(
            columns=list(TABLE_COLUMNS), data=[[row[c] for c in TABLE_COLUMNS] for row in newest]
        )
        step = newest[-1]["step"]
        values = {STEP: step, TABLE: table}
        self._do(lambda: self._run.log(values, step=step), "took no table of rollouts")

    def alert(self, title: str, text: str) -> None:
        """Have W&B write to whoever has asked for that."""
        self._do(
            lambda: self._run.alert(title, text, level="WARN", wait_duration=ALERT_EVERY_S),
            "took no alert",
        )

    def saved(self, checkpoint: Path, step: int) -> None:
        """Upload a checkpoint, where that is asked for; W&B copies it first, so that it may go."""
        if self._uploads:
            self._do(lambda: self._upload(checkpoint, step), UPLOAD)

    def _upload(self, checkpoint: Path, step: int) -> None:
        import wandb

        made = wandb.Artifact(f"checkpoint-{self._run.id}", "checkpoint", metadata={STEP: step})
        made.add_dir(str(checkpoint))
        self._run.log_artifact(made, aliases=[checkpoint.name, "latest"])

    def close(self) -> None:
        """Finish the upload within `WANDB_FINISH_S`; what is left then lies in the run folder, and
        W&B's process is ended: at the program's end wandb would wait for it, however long."""
        self._do(lambda: self._run.finish(), "did not finish")
        if self._forgetting is not None:
            self._forgetting.join(WANDB_FORGET_S)
            return
        self._waiting.put(None)
        limit_s = WANDB_UPLOAD_S if self._uploads else WANDB_FINISH_S
        self._sending.join(limit_s)
        if self._sending.is_alive():
            self._tell(
                f"W&B did not finish within {limit_s} s and is ended; upload the rest: "
                f"wandb sync {self._files}"
            )
            _forget()
        elif self._failure:
            self._drop()
            self.close()

    def _do(self, act: Callable[[], object], failure: str) -> None:
        """Hand a call to the thread that makes them; none once one has failed or takes too long, or
        when too many wait."""
        if self._is_dropped:
            return
        if self._waiting.qsize() >= MAX_WAITING:
            self._failure = f"has taken none of the last {MAX_WAITING} calls"
        if time.monotonic() > self._late_at:
            self._failure = f"has been at one call for {WANDB_CALL_S} s"
        if self._failure:
            self._drop()
        else:
            self._waiting.put((act, failure))

    def _send(self) -> None:
        while (waiting := self._waiting.get()) is not None and not self._failure:
            act, failure = waiting
            is_upload = failure == UPLOAD
            self._late_at = math.inf if is_upload else time.monotonic() + WANDB_CALL_S
            try:
                act()
            except Exception as error:  # noqa: BLE001 - whatever W&B raises, the run goes on
                self._failure = f"{failure}: {type(error).__name__}: {first_line(error)}"
            finally:
                self._late_at = math.inf

    def _drop(self) -> None:
        self._is_dropped = True
        self._tell(f"W&B {self._failure}; going on without it: metrics.jsonl has everything")
        self._forgetting = threading.Thread(target=_forget, daemon=True)  # nobody waits for that
        self._forgetting.start()


def _forget() -> None:
    """End what is left of W&B in this process: its service holds the run's id, and its farewell at
    the program's end would fail, or wait, as its calls do."""
    import wandb
    from wandb.sdk import wandb_setup

    def end() -> None:
        with contextlib.suppress(AttributeError):  # none was started, or wandb has moved it
            wandb_setup._singleton._connection._proc._process.kill()
        with contextlib.suppress(Exception, SystemExit):  # that it is gone
            wandb.teardown(exit_code=1)

    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    ending.join(WANDB_FORGET_S)


def _run_id(folder: Path) -> str:
    path = folder / "wandb" / "run-id.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(uuid.uuid4().hex[:12])
    return path.read_text().strip()
