"""A run of two ranks without engines, on a small file system: its data is scripted, so that its
parameters at the end are compared with those of a run that nothing was done to."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.chain import Chain
from tests.chaos.records import Case, GoesOn, Plan, Struck
from tests.chaos.strikes import (
    at_place,
    at_place_then,
    child,
    driver,
    in_phase,
    over_memory,
    paused,
    process,
    signalled,
    told,
    with_clock,
)

KILL, STOP, TERM = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
INSIDE, OUTSIDE = "inside it, at that place", "a signal from outside"
BACK = "starting all processes again from step-"
SINCE = "nothing; the steps since the last checkpoint are made again"
AGAIN = "give the same command again"
HANG_S = 45
"""`sync.timeout_s`."""

LOST_RANKS = tuple(
    Case(
        name=f"rank-{name}",
        place=f"learner rank, {place}",
        fault=fault,
        injected=injected,
        detected_by=by,
        within_s=within_s,
        reads=f"learner rank [01, ]+ of 2 {how}.*{BACK}",
        loses=SINCE,
        goes_on=GoesOn.BACK,
        strike=strike,
    )
    for name, place, fault, injected, by, within_s, how, strike in (
        (
            *("killed-in-forward", "in a forward pass", "kill -9", INSIDE, "Ray", 30.0, "died"),
            at_place("forward", "kill", most=8),
        ),
        (
            *("killed-in-backward", "in a backward pass", "kill -9", INSIDE, "Ray", 30.0, "died"),
            at_place("backward", "kill", most=8),
        ),
        (
            *("killed-before-collective", "before the collectives of a step", "kill -9", INSIDE),
            *("Ray; the other rank waits in the collective", 30.0, "died"),
            at_place("step", "kill", most=8),
        ),
        (
            *("killed-saving", "saving its part of a checkpoint", "kill -9", INSIDE, "Ray", 30.0),
            *("died", at_place("save", "kill", most=2)),
        ),
        (
            *("exits", "in a forward pass", "exit", INSIDE, "Ray", 30.0, "died"),
            at_place("forward", "exit", most=8),
        ),
        (
            *("raises", "in a forward pass", "an exception", INSIDE, "the rank itself", 30.0),
            *(r"failed \(RuntimeError: struck\)", at_place("forward", "raise", most=8)),
        ),
        (
            *("stopped", "in a collective", "SIGSTOP for ever", OUTSIDE),
            *("the learner, after sync.timeout_s (45 s here)", HANG_S + 25.0, "did not answer"),
            signalled(process("trainer-1"), STOP),
        ),
        (
            *("holds-the-gil", "in a backward pass", "a thread holds the GIL in C", INSIDE),
            *("the learner, after sync.timeout_s (45 s here)", HANG_S + 25.0, "did not answer"),
            at_place("backward", "gil", most=8),
        ),
        (
            *("killed-going-back", "reading the checkpoint that the run goes back to", "kill -9"),
            *(INSIDE, "Ray", 30.0, "died"),
            at_place_then(
                "load_checkpoint", "kill", lambda chain: os.kill(chain.pid("trainer-0"), KILL)
            ),
        ),
    )
)
RANKS = (
    *LOST_RANKS,
    Case(
        name="rank-over-memory",
        place="learner rank, any time",
        fault="is over a memory limit",
        injected="a control group without memory left",
        detected_by="Ray",
        within_s=60.0,
        reads=f"learner rank [01, ]+ of 2 died.*{BACK}",
        loses=SINCE,
        does="see the kernel's log; give the rank more memory, or lower learner.micro_batch_tokens",
        goes_on=GoesOn.BACK,
        strike=over_memory(process("trainer-1")),
    ),
    Case(
        name="rank-paused",
        place="learner rank, any time",
        fault="SIGSTOP for 20 s",
        injected=OUTSIDE,
        detected_by="nobody: sync.timeout_s is longer",
        within_s=0.0,
        goes_on=GoesOn.UNHARMED,
        strike=paused(process("trainer-1")),
    ),
)


def _server(name: str) -> Callable[[Chain], int]:
    return child(driver, name, is_program=True)


RAY = (
    Case(
        name="raylet-killed",
        place="raylet of the run's own Ray",
        fault="kill -9",
        injected=OUTSIDE,
        detected_by="the pulse",
        within_s=30.0,
        reads=f"Ray's raylet .*{BACK}",
        loses=SINCE,
        does="look for what killed it: often too little memory",
        goes_on=GoesOn.BACK,
        strike=signalled(_server("raylet/raylet"), KILL),
    ),
    Case(
        name="gcs-killed",
        place="GCS of the run's own Ray",
        fault="kill -9",
        injected=OUTSIDE,
        detected_by="the pulse",
        within_s=60.0,
        reads="failed: HeadError: Ray's gcs_server .* the same command resumes from",
        loses=SINCE,
        does=AGAIN,
        goes_on=GoesOn.ENDS,
        strike=signalled(_server("gcs_server"), KILL),
    ),
)


def _stops(name: str, place: str, fault: str, strike, **more) -> Case:  # type: ignore[no-untyped-def]
    return Case(
        name=name,
        place=f"the command, {place}",
        fault=fault,
        injected=OUTSIDE,
        detected_by="the command",
        within_s=10.0,
        reads=more.pop("reads", "SIGTERM: stopping"),
        does=AGAIN,
        goes_on=GoesOn.STOPS,
        strike=strike,
        **more,
    )


def _killed(name: str, place: str, strike) -> Case:  # type: ignore[no-untyped-def]
    return Case(
        name=name,
        place=f"the command, {place}",
        fault="kill -9",
        injected=INSIDE,
        detected_by="the shell",
        within_s=5.0,
        loses=SINCE,
        does=AGAIN,
        goes_on=GoesOn.KILLED,
        strike=strike,
    )


def _start_and_stop(chain: Chain) -> Struck:
    chain.start()
    return in_phase("start", TERM)(chain)


DRIVER = (
    _killed("driver-killed-committing", "renaming a whole checkpoint", at_place("commit", "kill")),
    _killed("driver-killed-logging", "writing a line of metrics", at_place("log", "kill", most=8)),
    _stops("sigterm", "in phase train", "SIGTERM", told(TERM)),
    _stops("sigterm-starting", "in phase start", "SIGTERM", _start_and_stop, is_down=True),
    _stops(
        "sigint-twice",
        "in phase train",
        "SIGINT twice",
        told(signal.SIGINT, signal.SIGINT, apart_s=0.02),
        reads="SIGINT again: ending at once",
        code=130,
    ),
    _stops(
        "sighup",
        "in phase train",
        "its terminal is closed",
        told(signal.SIGHUP),
        reads="SIGHUP: stopping",
        code=129,
    ),
)


# -- disk, folder, files ---------------------------------------------------------------------------


def _fill(chain: Chain) -> Struck:
    written = 0
    with (chain.folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                written += file.write(b"0" * 4096)
        except OSError as error:
            return Struck(evidence=f"{error.strerror} after {written:,} bytes", at=time.time())


def _free(chain: Chain) -> None:
    (chain.folder / "filler").unlink()


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


def _damaged(damage: Callable[[Path], str]) -> Callable[[Chain], Struck]:
    def strike(chain: Chain) -> Struck:
        newest = max(
            (chain.folder / "checkpoints").glob("step-*"), key=lambda path: int(path.name[5:])
        )
        evidence, at = damage(newest), time.time()
        chain.start()
        return Struck(evidence=evidence, at=at)

    return strike


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


def _start_other(chain: Chain) -> Struck:
    at = time.time()
    second = subprocess.run(
        chain.words(), capture_output=True, text=True, timeout=240, start_new_session=True
    )
    said = second.stderr.strip().splitlines()[-1]
    assert second.returncode == 2, second.stderr
    assert "is using" in said, said
    return Struck(evidence=f"exit code 2: {said}", at=at)


def _start_with(*overrides: str) -> Callable[[Chain], Struck]:
    def strike(chain: Chain) -> Struck:
        at = time.time()
        chain.start(*overrides)
        return Struck(evidence=f"started with {' '.join(overrides)}", at=at)

    return strike


def _start_without_wandb(chain: Chain) -> Struck:
    """At an address where nobody listens; the key is none."""
    own = {"WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "0" * 40}
    at = time.time()
    chain.start("tracking.wandb=online", **own)
    return Struck(evidence="WANDB_BASE_URL=http://127.0.0.1:9", at=at)


class _Older:
    """The next start is told of the older checkpoint, as the message says."""

    def __call__(self, chain: Chain) -> None:
        word = "go on from the older one by checkpoint.resume="
        line = next(line for line in chain.output.splitlines() if word in line)
        chain.go_on_by(f"checkpoint.resume={line.rpartition(word)[2].strip()}")


OLDER = _Older()
DISK = (
    Case(
        name="disk-full",
        place="the run folder's file system",
        fault="full",
        injected="a file that takes all that is left",
        detected_by="whoever writes first: a checkpoint, a line of metrics",
        within_s=120.0,
        reads="failed: StorageError: no space left in .*the same command resumes from",
        loses=SINCE,
        does="free some space; give the same command again",
        goes_on=GoesOn.ENDS,
        strike=_fill,
        mends=_free,
    ),
    Case(
        name="folder-read-only",
        place="the run folder",
        fault="is mounted read-only",
        injected="a mount over it",
        detected_by="whoever writes first",
        within_s=60.0,
        reads="failed: StorageError: .* cannot be written to .*the same command resumes from",
        loses=SINCE,
        does="make it writable; give the same command again",
        goes_on=GoesOn.ENDS,
        strike=_write_protect,
        mends=_writable,
    ),
)


def _files(name: str, fault: str, strike, **more) -> Case:  # type: ignore[no-untyped-def]
    return Case(
        name=name,
        place=more.pop("place", "the newest checkpoint"),
        fault=fault,
        injected="in the file, between two starts",
        detected_by=more.pop("detected_by", "the next start, by its digest"),
        within_s=more.pop("within_s", 60.0),
        goes_on=more.pop("goes_on", GoesOn.REFUSED),
        strike=strike,
        is_down=True,
        **more,
    )


BAD = {
    "reads": r"checkpoint \S+step-\d+: .*; go on from the older one by checkpoint.resume=",
    "loses": "the steps since the older checkpoint are made again",
    "does": "give the command with checkpoint.resume=..., as the message says",
    "mends": OLDER,
    "code": 1,
}
FILES = (
    _files("checkpoint-truncated", "its largest file is half as long", _damaged(_truncate), **BAD),
    _files("checkpoint-flipped", "a bit of its largest file is flipped", _damaged(_flip), **BAD),
    _files(
        "checkpoint-half-written",
        "a save that was killed is left beside it",
        _damaged(_halve),
        detected_by="the next save, which removes it",
        goes_on=GoesOn.UNHARMED,
    ),
    _files(
        "metrics-torn",
        "the last line is torn",
        _tear,
        place="metrics.jsonl",
        detected_by="the next start",
        goes_on=GoesOn.UNHARMED,
    ),
    *(
        _files(
            f"clock-an-hour-{name}",
            f"the wall clock is an hour {name}",
            with_clock(shift),
            place="the machine",
            detected_by="nobody: what is waited for is measured by another clock",
            goes_on=GoesOn.UNHARMED,
        )
        for name, shift in (("ahead", "+1h"), ("behind", "-1h"))
    ),
    _files(
        "wandb-unreachable",
        "cannot be reached",
        _start_without_wandb,
        place="W&B, at the start",
        detected_by="W&B's own client, within 30 s",
        within_s=120.0,
        goes_on=GoesOn.ALONE,
        reads="W&B did not start online: ",
        loses="nothing: W&B is offline, metrics.jsonl has everything",
    ),
    _files(
        "resume-other-model",
        "another model.path",
        _start_with("model.path={work}/other"),
        place="the command",
        detected_by="the start",
        reads=r"error: .*model.*begin afresh under another run.name",
        does="set model.path back, or choose another run.name",
    ),
    _files(
        "resume-other-stage",
        "another ZeRO stage",
        _start_with("learner.zero_stage=3"),
        place="the command",
        detected_by="the start",
        reads=r"error: learner.zero_stage = 3, but .*set learner.zero_stage=2, or begin afresh",
        does="set it back, or choose another run.name",
    ),
)
OTHERS = (
    Case(
        name="two-runs-in-one-folder",
        place="the run folder",
        fault="the same command a second time",
        injected="while the first one runs",
        detected_by="the second command, by the folder's lock",
        within_s=60.0,
        loses="nothing",
        does="wait, or choose another run.name",
        goes_on=GoesOn.UNHARMED,
        strike=_start_other,
    ),
    Case(
        name="wandb-killed",
        place="the process of W&B",
        fault="kill -9",
        injected=OUTSIDE,
        detected_by="W&B's own client",
        within_s=60.0,
        reads="W&B .*; going on without it: metrics.jsonl has everything",
        loses="what W&B was not told yet; metrics.jsonl has all",
        goes_on=GoesOn.UNHARMED,
        strike=signalled(child(driver, "wandb-core"), KILL),
    ),
)
PLAN = Plan(
    name="imitation",
    imitates=True,
    first_step=22,
    small_disk=160 * 2**20,
    settings=(
        *("run.max_steps=100000", "sync.interval=10", f"sync.timeout_s={HANG_S}", "data.epochs=0"),
        *("learner.num_ranks=2", "learner.zero_stage=2", "tracking.wandb=offline"),
        *("restarts.rank.max_restarts=1000", "restarts.rank.longest_pause_s=1.0"),
    ),
    cases=(*RANKS, *RAY, *DRIVER, *DISK, *FILES, *OTHERS),
)
