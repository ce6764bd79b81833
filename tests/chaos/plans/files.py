"""Faults of what a run reads and writes: its disk, its folder, its files, the clock, W&B."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.chaos.chain import Chain
from tests.chaos.making import SINCE, STOPS, cases_of
from tests.chaos.records import GoesOn, Strike, Struck
from tests.chaos.strikes import (
    KILL,
    OUTSIDE,
    STOP,
    TERM,
    at_place,
    child,
    driver,
    signalled,
    told,
    with_clock,
)
from tests.support import wandb_server

START_S = 240.0
"""For a second command to be refused."""
IN_FILE = "in the file, between two starts"


# -- the disk and the folder -----------------------------------------------------------------------


def _fill(chain: Chain) -> Struck:
    written = 0
    with (chain.folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                written += file.write(b"0" * 4096)
        except OSError as error:
            return Struck(evidence=f"{error.strerror} after {written:,} bytes", at=time.time())


def free(chain: Chain) -> None:
    """Remove what fills the disk."""
    (chain.folder / "filler").unlink(missing_ok=True)


def _write_protect(chain: Chain) -> Struck:
    """Lay the folder over itself, read-only: files that are open already can still be written."""
    place, at = str(chain.folder), time.time()
    subprocess.run(["mount", "--bind", place, place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    try:
        (chain.folder / "trial").touch()
    except OSError as error:
        return Struck(evidence=str(error), at=at)
    return Struck(evidence="", at=at)


def _writable(chain: Chain) -> None:
    subprocess.run(["umount", "-l", str(chain.folder)], check=True)


full = cases_of(
    "the run folder's file system",
    detected_by="whoever writes first",
    within_s=120.0,
    reads="failed: StorageError: no space left in .*the same command resumes from",
    loses=SINCE,
    does="free some space; give the same command again",
    goes_on=GoesOn.ENDS,
    mends=free,
)
DISK = (
    full("disk-full", "any time", Strike("full", "a file that takes all that is left", _fill)),
    full("disk-full-saving", "as a rank saves", at_place("save", "fill_disk")),
    full("disk-full-logging", "as a line of metrics is written", at_place("log", "fill_disk")),
    full(
        "folder-read-only",
        "any time",
        Strike("is mounted read-only", "a mount over it", _write_protect),
        within_s=60.0,
        reads="failed: StorageError: .* cannot be written to .*the same command resumes from",
        does="make it writable; give the same command again",
        mends=_writable,
    ),
)


# -- files, between two starts ---------------------------------------------------------------------


def _damaged(fault: str, damage: Callable[[Path], str]) -> Strike:
    """Of the newest checkpoint; the run is started again."""

    def act(chain: Chain) -> Struck:
        found = (chain.folder / "checkpoints").glob("step-*")
        evidence = damage(max(found, key=lambda path: int(path.name[5:])))
        at = time.time()
        chain.start()
        return Struck(evidence=evidence, at=at)

    return Strike(fault, IN_FILE, act)


def _largest(checkpoint: Path) -> Path:
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def _truncate(checkpoint: Path) -> str:
    path = _largest(checkpoint)
    size = path.stat().st_size
    os.truncate(path, size // 2)
    return f"{checkpoint.name}/{path.name}: {path.stat().st_size:,} of {size:,} bytes"


def _flip(checkpoint: Path) -> str:
    path = _largest(checkpoint)
    place = path.stat().st_size // 2
    with path.open("r+b") as file:
        file.seek(place)
        was = file.read(1)[0]
        file.seek(place)
        file.write(bytes([was ^ 1]))
    return f"{checkpoint.name}/{path.name}: byte {place:,} is {was ^ 1}, was {was}"


def _halve(checkpoint: Path) -> str:
    part = checkpoint.with_name(f".step-{int(checkpoint.name[5:]) + 10}.part")
    shutil.copytree(checkpoint, part)
    (part / "digests.json").unlink()
    _largest(part).unlink()
    return f"{part.name} without its largest file"


def _tear(chain: Chain) -> Struck:
    with (chain.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99999, "time/st')
    at = time.time()
    chain.start()
    return Struck(evidence="metrics.jsonl ends within a line", at=at)


def _start_without_wandb(chain: Chain) -> Struck:
    """At an address where nobody listens; the key is none."""
    own = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    at = time.time()
    chain.start("tracking.wandb=online", **own)
    return Struck(evidence="WANDB_BASE_URL=http://127.0.0.1:9", at=at)


def _lose_wandb(chain: Chain) -> Struck:
    """Online until its server is gone; the run goes on, and is asked to stop."""
    with wandb_server.served() as server:
        chain.start("tracking.wandb=online", **server.variables)
        chain.alive()
        assert f"W&B is online: {server.url}" in chain.output, chain.output[-3000:]
        step = chain.step
    evidence = f"its server (process {server.pid}) was killed after step {step}"
    return _asked_to_stop(chain, evidence)


def _stop_wandb(chain: Chain) -> Struck:
    """Its process is stopped; the run goes on, and is asked to stop."""
    chain.start()
    chain.alive()
    stopped = signalled(child(driver, "wandb-core"), STOP, stays=True).act(chain)
    return _asked_to_stop(chain, f"{stopped.evidence} at step {chain.step}")


def _asked_to_stop(chain: Chain, evidence: str) -> Struck:
    chain.alive()
    asked = told(TERM).act(chain)
    return Struck(evidence=f"{evidence}; SIGTERM after step {chain.step}", at=asked.at)


OLDER = "go on from the older one by checkpoint.resume="


def _go_on_from_the_older(chain: Chain) -> None:
    """The next start is told of it, as the message says; of no message nothing is told."""
    for line in chain.output.splitlines():
        if OLDER in line:
            chain.go_on_by(f"checkpoint.resume={line.rpartition(OLDER)[2].strip()}")
            return


_checkpoint = cases_of(
    "the newest checkpoint",
    is_down=True,
    detected_by="the next start, by its digest",
    within_s=60.0,
    reads=rf"checkpoint \S+step-\d+: .*; {OLDER}",
    loses="the steps since the older checkpoint are made again",
    does="give the command with checkpoint.resume=..., as the message says",
    goes_on=GoesOn.REFUSED,
    code=1,
    mends=_go_on_from_the_older,
)
_unharmed = cases_of("", is_down=True, goes_on=GoesOn.UNHARMED)
_BY_NOBODY = "nobody: what is waited for is measured by another clock"
FILES = (
    _checkpoint("checkpoint-truncated", "", _damaged("its largest file is cut in half", _truncate)),
    _checkpoint("checkpoint-flipped", "", _damaged("a bit of its largest file is flipped", _flip)),
    _unharmed(
        "checkpoint-half-written",
        "beside the newest checkpoint",
        _damaged("what a killed save leaves", _halve),
        detected_by="the next save, which removes it",
    ),
    _unharmed(
        "metrics-torn",
        "metrics.jsonl",
        Strike("the last line is torn", IN_FILE, _tear),
        detected_by="the next start",
    ),
    *(
        _unharmed(
            f"clock-an-hour-{name}",
            "the machine",
            with_clock(f"the wall clock is an hour {name}", shift),
            detected_by=_BY_NOBODY,
        )
        for name, shift in (("ahead", "+1h"), ("behind", "-1h"))
    ),
)


# -- W&B, and another command ----------------------------------------------------------------------


def _start_other(chain: Chain) -> Struck:
    at = time.time()
    second = subprocess.run(
        chain.words(), capture_output=True, text=True, timeout=START_S, start_new_session=True
    )
    said = second.stderr.strip().splitlines()[-1]
    assert second.returncode == 2, second.stderr
    assert "is using" in said, said
    return Struck(evidence=f"exit code 2: {said}", at=at)


UNFINISHED: dict[str, Any] = STOPS | {
    "detected_by": "the run, as it ends",
    "within_s": 30.0,
    "reads": r"W&B (did not finish within 20 s and is ended; upload the rest: wandb sync |"
    "took no .*; going on without it: )",
    "is_down": True,
    "loses": "nothing; metrics.jsonl has all",
    "does": "`wandb sync` of the folder in `wandb/` uploads the rest, once it is back",
}
_wandb = cases_of("W&B", detected_by="W&B's own client")
OTHERS = (
    _wandb(
        "wandb-unreachable",
        "at the start",
        Strike("cannot be reached", "an address where nobody listens", _start_without_wandb),
        is_down=True,
        within_s=120.0,
        reads="W&B did not start online: ",
        loses="nothing: W&B is offline, metrics.jsonl has everything",
        goes_on=GoesOn.ALONE,
    ),
    _wandb(
        "wandb-killed",
        "its process",
        signalled(child(driver, "wandb-core"), KILL),
        within_s=60.0,
        reads="W&B .*; going on without it: metrics.jsonl has everything",
        loses="what W&B was not told yet; metrics.jsonl has all",
        goes_on=GoesOn.UNHARMED,
    ),
    _wandb(
        "wandb-stopped",
        "its process",
        signalled(child(driver, "wandb-core"), STOP, stays=True),
        detected_by="the run, at its end",
        does="see the line at the run's end: `wandb sync` uploads the rest",
        loses="nothing; metrics.jsonl has all",
        goes_on=GoesOn.UNHARMED,
    ),
    _wandb(
        "wandb-unreachable-later",
        "its server, from some step on",
        Strike("is gone", "its process is killed, and SIGTERM some steps later", _lose_wandb),
        **UNFINISHED,
    ),
    _wandb(
        "wandb-stopped-at-the-end",
        "its process, from some step on",
        Strike("SIGSTOP for ever", f"{OUTSIDE}, and SIGTERM some steps later", _stop_wandb),
        **UNFINISHED,
    ),
    cases_of("the run folder")(
        "two-runs-in-one-folder",
        "",
        Strike("the same command a second time", "while the first one runs", _start_other),
        detected_by="the second command, by the folder's lock",
        does="wait, or choose another run.name",
        goes_on=GoesOn.UNHARMED,
    ),
)
