"""One run to which fault after fault is done: started, struck, watched, started again.

Invariant: a case counts as passed only when its fault is known to have fired, what the user reads
was read in time, and the same run has made learner steps after it.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from tests.chaos.places import SITE, Armoury
from tests.chaos.records import Case, GoesOn, Plan, Row, Skipped, Struck
from tests.chaos.remains import Remains, is_alive
from tests.support.run_files import steps

START_S = 600.0
"""For a run to come to a step, on a machine that does other things too."""
AFTER = 2
"""Learner steps that show that a run goes on."""
GRACE_S, END_S = 30.0, 120.0
"""Within which a run that is asked to stop has ended (batch systems give that), and one that fails.
"""
CODES = {GoesOn.ENDS: 1, GoesOn.STOPS: 143, GoesOn.KILLED: -signal.SIGKILL, GoesOn.REFUSED: 2}
ENDS_RUN = (GoesOn.ENDS, GoesOn.STOPS, GoesOn.KILLED)
FAILURES = (AssertionError, OSError, subprocess.SubprocessError, ValueError, LookupError)
"""What a case that fails raises."""
STEP = '"time/step_s"'
"""In the line of each learner step."""
IMITATION = ("objective.name=sft", "rollout.group_size=1")


class Chain:
    """The run.

    Args:
        plan: What it is, and what is done to it.
        work: Folder with `recipe.toml` and the data.
        seed: Of the moments at which faults strike.
        slack: Deadlines are longer by this factor: a machine that does other things is slower.

    Attributes:
        armoury: What strikes inside its processes.
        folder: The run's.
        lasting: Settings of every start from now on.
        process: The command, while there is one.
        random: Chooses the moments.
    """

    def __init__(self, plan: Plan, work: Path, seed: int, slack: float = 2.0) -> None:
        self.plan, self.work = plan, work
        self.folder = work / "runs" / plan.name
        self.armoury = Armoury(work / f"{plan.name}-strikes")
        self.random = random.Random(f"{seed} {plan.name}")
        self.process: subprocess.Popen[bytes] | None = None
        self.remains = Remains("")
        self.slack = slack
        self.lasting: tuple[str, ...] = ()
        self._number = 0
        self._overrides: tuple[str, ...] = ()
        self._log = work / f"{plan.name}.0.log"

    # -- the command --------------------------------------------------------------------------

    @property
    def verb(self) -> str:
        """Of the command line."""
        return "sft" if self.plan.imitates else "train"

    def words(self, *overrides: str) -> list[str]:
        """The command that starts it."""
        settings = self.plan.settings
        if self.plan.imitates:
            settings = (*IMITATION, f"data.sources.0.path={self.work}/sft.jsonl", *settings)
        name = f"run.name={self.plan.name}"
        recipe = str(self.work / "recipe.toml")
        settings = (*settings, *self.lasting, *overrides)
        words = [sys.executable, "-m", "oapl", self.verb, recipe, name, *settings]
        return [word.replace("{work}", str(self.work)) for word in words]

    def start(self, *overrides: str, **variables: str) -> None:
        """Start the same command (again)."""
        self._number += 1
        self._log = self.work / f"{self.plan.name}.{self._number}.log"
        mark = f"OAPL_CHAOS_RUN={uuid.uuid4().hex}"
        self.remains = Remains(mark)
        key, _, value = mark.partition("=")
        path = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH", ""))))
        disk = {"OAPL_CHAOS_DISK": str(self.folder)}
        own = {key: value, "PYTHONPATH": path, **disk, **self.armoury.variables, **variables}
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                self.words(*overrides),
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **own},
                start_new_session=True,
            )

    @property
    def is_alive(self) -> bool:
        """Whether the command runs."""
        return self.process is not None and self.process.poll() is None

    @property
    def output(self) -> str:
        """What the command has said since its last start."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """End all that it has started, whatever that does."""
        for pid in self.remains.processes():
            _signal(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(30)

    def end(self, seconds: float) -> int:
        """Wait for its end; its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"it has not ended within {seconds:.0f} s:\n{self.output[-3000:]}"
            ) from None

    # -- what it does -------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """The last learner step that it has written."""
        return max(steps(self.folder), default=0)

    def pid(self, name: str) -> int:
        """Of a process that it notes in `processes.json`."""
        return self.pids()[name]

    def pids(self) -> dict[str, int]:
        """Of all such processes, by name."""
        noted: dict[str, int] = json.loads((self.folder / "processes.json").read_text())
        return noted

    def workers(self) -> list[int]:
        """Of the rollout workers that live now."""
        found = [pid for name, pid in self.pids().items() if name.startswith("worker-")]
        return [pid for pid in found if is_alive(pid)]

    def phase(self) -> str:
        """What it says that it does."""
        return str(json.loads((self.folder / "status.json").read_text())["phase"])

    def until(self, is_there: Callable[[], object], seconds: float, what: str) -> None:
        """Wait while the command runs.

        Raises:
            AssertionError: It ended, or the time did.
        """
        deadline = time.monotonic() + seconds
        while not is_there():
            assert self.is_alive, f"it ended before {what}:\n{self.output[-3000:]}"
            late = f"no {what} within {seconds:.0f} s:\n{self.output[-3000:]}"
            assert time.monotonic() < deadline, late
            time.sleep(0.1)

    def reach(self, step: int) -> None:
        """Wait for a learner step."""
        self.until(lambda: self.step >= step, START_S, f"step {step}")

    def go_on_by(self, *overrides: str) -> None:
        """Give the next start more settings."""
        self._overrides = overrides

    def alive(self) -> None:
        """Bring it to new learner steps, whatever was done to it before."""
        if not self.is_alive:
            self.start(*self._overrides)
            self._overrides = ()
        lines = self._lines()
        self.until(lambda: self._lines() >= lines + AFTER, START_S, "new learner steps")
        self.reach(self.plan.first_step)
        self.remains.look()

    def goes_on(self, seconds: float) -> bool:
        """Whether it makes a new learner step within so long."""
        lines, deadline = self._lines(), time.monotonic() + seconds
        while self.is_alive and time.monotonic() < deadline:
            if self._lines() > lines:
                return True
            time.sleep(0.2)
        return False

    def _lines(self) -> int:
        """Learner steps that were ever written, those that were set aside included."""
        files = self.folder.glob("metrics*.jsonl")
        return sum(file.read_text(errors="replace").count(STEP) for file in files)

    def _set_aside(self) -> int:
        """Learner steps that were made again."""
        return self._lines() - len(steps(self.folder))

    # -- a case -------------------------------------------------------------------------------

    def try_case(self, case: Case, seed: int) -> Row:
        """Do it; what came of it."""
        found: dict[str, object] = {}
        try:
            self._try(case, found)
        except Skipped as error:
            return self._row(case, seed, "skipped", found, str(error))
        except FAILURES as error:
            why = f"{type(error).__name__}: {error}"
            return self._row(case, seed, "failed", found, why)
        finally:
            self.armoury.disarm()
        return self._row(case, seed, "ok", found)

    def _row(
        self, case: Case, seed: int, outcome: str, found: dict[str, object], why: str = ""
    ) -> Row:
        return Row(
            name=case.name,
            outcome=outcome,
            why=why,
            seed=seed,
            chain=self.plan.name,
            **found,  # type: ignore[arg-type]
        )

    def _try(self, case: Case, found: dict[str, object]) -> None:
        self.alive()
        if case.is_down:
            self.stop()
        time.sleep(self.random.uniform(0.0, 0.5))
        mark, before = len(self.output), self._set_aside()
        try:
            struck = case.strike.act(self)
            found["evidence"] = struck.evidence
            assert struck.evidence, "nothing shows that the fault fired"
            if case.is_down:
                mark = 0
            self._await_word(case, struck, mark, found)
            self._await_end(case)
        finally:
            if case.mends is not None:
                case.mends(self)
        if not self.is_alive:
            assert not (left := self.remains.left(90 * self.slack)), f"left behind: {left}"
            mark = 0
        self.alive()
        found["resumed_s"] = round(time.time() - struck.at, 1)
        found["redone_steps"] = self._set_aside() - before
        self._check(case, struck, mark)

    def _await_word(self, case: Case, struck: Struck, mark: int, found: dict[str, object]) -> None:
        """Until the user reads what is due."""
        if not case.reads:
            return
        deadline = struck.at + case.within_s * self.slack
        while (line := self._told(case.reads, mark)) is None:
            late = f"nobody told {case.reads!r} within {case.within_s * self.slack:.0f} s"
            assert time.time() < deadline, f"{late}:\n{self.output[mark:][-3000:]}"
            time.sleep(0.1)
        found["detected_s"], found["told"] = round(time.time() - struck.at, 1), line

    def _told(self, pattern: str, mark: int) -> str | None:
        lines = self.output[mark:].splitlines()
        return next((line for line in lines if re.search(pattern, line)), None)

    def _await_end(self, case: Case) -> None:
        if case.goes_on not in (*ENDS_RUN, GoesOn.REFUSED):
            return
        limit_s = GRACE_S if case.goes_on is GoesOn.STOPS else END_S
        code = self.end(limit_s * self.slack)
        due = CODES[case.goes_on] if case.code is None else case.code
        assert code == due, f"exit code {code}, not {due}:\n{self.output[-3000:]}"
        assert "Traceback" not in self.output, self.output[-3000:]

    def _check(self, case: Case, struck: Struck, mark: int) -> None:
        made = steps(self.folder)
        first = made[0] if case.is_cut and made else 1
        assert made == list(range(first, first + len(made))), (
            f"steps are not each there once: {made}"
        )
        assert "Traceback" not in self.output, self.output[-3000:]
        alive = [pid for pid in struck.victims if pid in self.remains.processes()]
        assert not alive, f"victims that are still there: {alive}"
        if case.goes_on is GoesOn.UNHARMED and not case.reads:
            told = self._told("restart|starting all|killing|replacing|failed", mark)
            assert told is None, f"it was to be unharmed, but: {told}"

    def stop(self) -> None:
        """Ask it to stop, and wait for its end."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.end(END_S * self.slack)
        assert code == 143, f"{code}:\n{self.output[-3000:]}"


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
