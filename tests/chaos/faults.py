"""`make chaos`: faults are done to real runs of one engine, and what they say of it is looked at.

    python -m tests.chaos.faults            all of them, half an hour on two cores
    python -m tests.chaos.faults worker     those whose names hold a word

A fault may end the run or not; it must be told in the right name, in a line and no traceback,
within its time. Exit code 1 when one is not.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from tests.support.run_files import steps
from tests.support.whole_runs import write_recipe

SETTINGS = ("run.max_steps=400", "sync.interval=10", "sync.timeout_s=30")
IMITATION = ("objective.name=sft", "rollout.group_size=1")
START_S = 600
"""For a run to come to a step, on a machine that does other things too."""


class Run:
    """`oapl train` in a process group of its own.

    Attributes:
        started: All of them.
        folder: The run's.
    """

    started: ClassVar[list[Run]] = []

    def __init__(self, work: Path, name: str, *overrides: str, imitates: bool = False) -> None:
        if imitates:  # no engine, so it starts and steps sooner
            overrides = (*IMITATION, f"data.sources.0.path={work}/sft.jsonl", *overrides)
        self.folder = work / "runs" / name
        settings = (f"run.name={name}", *SETTINGS, *overrides)
        self._log = (work / f"{name}.log").open("w+")
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "oapl", "sft" if imitates else "train"),
                *(work / "recipe.toml", *settings),
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.started.append(self)

    def kill(self) -> None:
        """With all that it started in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        return Path(self._log.name).read_text()

    def until(self, what: str | Callable[[], bool], seconds: float = START_S) -> float:
        """Wait for a text in the output, or anything; returns for how long."""
        began = time.monotonic()
        is_there = (lambda: what in self.output) if isinstance(what, str) else what
        while not is_there():
            assert self.process.poll() is None, f"it ended before {what}:\n{self.output}"
            assert time.monotonic() - began < seconds, f"no {what} in {seconds} s:\n{self.output}"
            time.sleep(0.2)
        return time.monotonic() - began

    def reach(self, step: int) -> None:
        self.until(lambda: any(made >= step for made in steps(self.folder)))

    def pid(self, name: str) -> int:
        return int(json.loads((self.folder / "processes.json").read_text())[name])

    def rays(self, name: str) -> int:
        """A server of the run's own Ray."""
        listed = subprocess.run(
            ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
        ).stdout
        for line in listed.splitlines():
            pid, parent, command = line.split(maxsplit=2)
            if parent == str(self.process.pid) and name in command.split()[0]:
                return int(pid)
        raise AssertionError(listed)

    def end(self, code: int, seconds: float = START_S) -> str:
        try:
            assert self.process.wait(seconds) == code, f"{self.process.returncode}:\n{self.output}"
        finally:
            self.kill()
        assert "Traceback" not in self.output, self.output
        return self.output

    def phase(self) -> str:
        return str(json.loads((self.folder / "status.json").read_text())["phase"])


def worker_stopped_between_loads(work: Path) -> None:
    run = Run(work, "worker")
    run.reach(12)
    os.kill(run.pid("worker-0.0"), signal.SIGSTOP)
    run.until("worker 0.0 has not answered for 30 s; killing it", 60)
    made = max(steps(run.folder))
    run.reach(made + 12)
    assert "worker-0.0" not in json.loads((run.folder / "processes.json").read_text())
    run.process.send_signal(signal.SIGTERM)
    run.end(143)


def reward_server_stopped(work: Path) -> None:
    run = Run(work, "reward")
    run.reach(12)
    old = run.pid("reward-0")
    os.kill(old, signal.SIGSTOP)
    run.until("reward-0 has not answered for 30 s; replacing it", 60)
    made = max(steps(run.folder))
    run.reach(made + 12)
    assert run.pid("reward-0") != old
    assert run.output.count("reward-0") == 1, f"told once:\n{run.output}"
    assert "worker 0.0 " not in run.output, run.output
    run.process.send_signal(signal.SIGTERM)
    run.end(143)


def replay_stopped(work: Path) -> None:
    run = Run(work, "replay")
    run.reach(12)
    os.kill(run.pid("replay"), signal.SIGSTOP)
    assert "which holds the buffer, has not answered for 30 s" in run.end(1, 120)
    assert "the same command resumes from checkpoints/step-1" in run.output
    assert run.phase() == "failed"


def raylet_killed(work: Path) -> None:
    _ray_server_killed(work, "raylet")


def gcs_killed(work: Path) -> None:
    _ray_server_killed(work, "gcs_server")


def _ray_server_killed(work: Path, name: str) -> None:
    run = Run(work, name, imitates=True)
    run.reach(2)
    os.kill(run.rays(name), signal.SIGKILL)
    began = time.monotonic()
    assert f"Ray's {name} (process " in run.end(1, 60)
    print(f"  after {time.monotonic() - began:.0f} s")
    assert "learner rank" not in run.output.splitlines()[-1], run.output
    assert run.phase() == "failed"


def signals_before_the_first_step(work: Path) -> None:
    run = Run(work, "early", imitates=True)
    run.until(lambda: (run.folder / "status.json").exists())
    run.process.send_signal(signal.SIGTERM)
    assert "SIGTERM: stopping; once more ends at once" in run.end(143, 60)
    assert "PC: @" not in run.output, "Ray's dump of its stack"
    assert "there is no checkpoint yet" in run.output.splitlines()[-1]
    assert run.phase() == "stopped"


def signals_in_an_evaluation(work: Path) -> None:
    """Of an hour, if nobody stopped it."""
    exam = (f"eval.sources.0.path={work}/sums.jsonl", "eval.sources.0.name=exam")
    run = Run(work, "exam", *exam, "eval.num_samples=1000", "eval.timeout_s=3600")
    run.until(lambda: (run.folder / "status.json").exists() and run.phase() == "evaluate")
    began = time.monotonic()
    run.process.send_signal(signal.SIGTERM)
    run.end(143, 120)
    print(f"  after {time.monotonic() - began:.0f} s")
    assert run.phase() == "stopped"


def signals_twice(work: Path) -> None:
    run = Run(work, "twice", imitates=True)
    run.reach(2)
    run.process.send_signal(signal.SIGINT)
    run.until("SIGINT: stopping after this step; once more ends at once", 60)
    run.process.send_signal(signal.SIGINT)
    assert "SIGINT again: ending at once" in run.end(130, 60)
    assert run.phase() == "stopped"


def signals_of_a_closed_terminal(work: Path) -> None:
    run = Run(work, "terminal", imitates=True)
    run.reach(2)
    run.process.send_signal(signal.SIGHUP)
    run.end(129, 120)
    assert run.phase() == "stopped"
    assert any((run.folder / "checkpoints").glob("step-*"))


def signals_to_the_whole_group(work: Path) -> None:
    """As GNU `timeout` and batch systems send them; Ray's own servers go on until the run ends."""
    run = Run(work, "group", imitates=True)
    run.reach(2)
    os.killpg(run.process.pid, signal.SIGTERM)
    run.end(143, 50)  # of a headless Ray that would be told after 60 s
    assert run.phase() == "stopped"
    assert any((run.folder / "checkpoints").glob("step-*"))


@contextlib.contextmanager
def small_disk(work: Path, name: str) -> Iterator[Path]:
    """A file system of a few megabytes at the run's folder."""
    place = work / "runs" / name
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def disk_full(work: Path) -> None:
    with small_disk(work, "full") as place:
        run = Run(work, "full", imitates=True)
        run.reach(2)
        with contextlib.suppress(OSError), (place / "filler").open("wb", buffering=0) as file:
            while True:
                file.write(b"0" * 4096)
        said = run.end(1, 120)
        assert f"no space left in {place}" in said.splitlines()[-1], said
        assert run.phase() == "failed"
        (place / "filler").unlink()
        again = Run(work, "full", "run.max_steps=12", imitates=True)
        again.end(0, START_S)


def folder_removed(work: Path) -> None:
    run = Run(work, "removed", imitates=True)
    run.reach(2)
    shutil.rmtree(run.folder, ignore_errors=True)
    assert f"the run folder {run.folder} is gone" in run.end(1, 120).splitlines()[-1]


def main(words: list[str]) -> int:
    faults = [
        worker_stopped_between_loads,
        reward_server_stopped,
        replay_stopped,
        raylet_killed,
        gcs_killed,
        signals_before_the_first_step,
        signals_in_an_evaluation,
        signals_twice,
        signals_of_a_closed_terminal,
        signals_to_the_whole_group,
        disk_full,
        folder_removed,
    ]
    chosen = [fault for fault in faults if not words or any(w in fault.__name__ for w in words)]
    failed = 0
    with tempfile.TemporaryDirectory(prefix="oapl-faults-") as folder:
        work = Path(folder)
        write_recipe(work)
        for fault in chosen:
            print(f"{fault.__name__} ...", flush=True)
            try:
                fault(work)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed += 1
                print(f"  FAILED: {error}", flush=True)
            else:
                print("  as it should be", flush=True)
            finally:
                for run in Run.started:
                    run.kill()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
