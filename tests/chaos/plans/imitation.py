"""A run of two ranks without engines, on a small file system: its data is scripted, so that its
parameters at the end are compared with those of a run that nothing was done to."""

from __future__ import annotations

import os
import signal

from tests.chaos.chain import Chain
from tests.chaos.making import AGAIN, BACK, KILLED, SINCE, STOPS, cases_of
from tests.chaos.plans import files
from tests.chaos.records import GoesOn, Plan
from tests.chaos.strikes import (
    KILL,
    STOP,
    TERM,
    at_place,
    child,
    driver,
    in_phase,
    over_memory,
    paused,
    process,
    signalled,
    told,
)

HANG_S = 45
"""`sync.timeout_s`."""
LOST = r"learner rank [01, ]+ of 2 {}.*" + BACK
SILENT = {
    "detected_by": f"the learner, after sync.timeout_s ({HANG_S} s here)",
    "within_s": HANG_S + 25.0,
    "reads": LOST.format("did not answer"),
}
READING = LOST.format("died after step 0, asked for the checkpoint;")


def kill_rank(chain: Chain) -> None:
    """Make the run go back."""
    os.kill(process("trainer-0")(chain), KILL)


def _start(chain: Chain) -> None:
    chain.start()


_rank = cases_of(
    "learner rank",
    detected_by="Ray",
    within_s=30.0,
    reads=LOST.format("died"),
    loses=SINCE,
    goes_on=GoesOn.BACK,
)
RANKS = (
    _rank("rank-killed-in-forward", "in a forward pass", at_place("forward", "kill", most=8)),
    _rank("rank-killed-in-backward", "in a backward pass", at_place("backward", "kill", most=8)),
    _rank(
        "rank-killed-before-collective",
        "before the collectives of a step",
        at_place("step", "kill", most=8),
        detected_by="Ray; the other rank waits in the collective",
    ),
    _rank("rank-killed-saving", "saving its part of a checkpoint", at_place("save", "kill")),
    _rank("rank-exits", "in a forward pass", at_place("forward", "exit", most=8)),
    _rank(
        "rank-raises",
        "in a forward pass",
        at_place("forward", "raise", most=8),
        detected_by="the rank itself",
        reads=LOST.format(r"failed \(RuntimeError: struck\)"),
    ),
    _rank("rank-stopped", "in a collective", signalled(process("trainer-1"), STOP), **SILENT),
    _rank(
        "rank-holds-the-gil", "in a backward pass", at_place("backward", "gil", most=8), **SILENT
    ),
    _rank(
        "rank-killed-going-back",
        "reading the checkpoint that the run goes back to",
        at_place("load_checkpoint", "kill", then=kill_rank),
        reads=READING,
    ),
    _rank(
        "rank-over-memory",
        "any time",
        over_memory(process("trainer-1")),
        within_s=60.0,
        does="see the kernel's log; give the rank more memory, or lower learner.micro_batch_tokens",
    ),
    _rank(
        "rank-paused",
        "any time",
        paused(process("trainer-1")),
        detected_by="nobody: sync.timeout_s is longer",
        reads="",
        loses="nothing",
        goes_on=GoesOn.UNHARMED,
    ),
)

_ray = cases_of("Ray of the run's own", detected_by="the pulse", within_s=60.0, loses=SINCE)
RAY = (
    _ray(
        "raylet-killed",
        "its raylet",
        signalled(child(driver, "raylet/raylet", is_program=True), KILL),
        within_s=30.0,
        reads=f"Ray's raylet .*{BACK}",
        does="look for what killed it: often too little memory",
        goes_on=GoesOn.BACK,
    ),
    _ray(
        "gcs-killed",
        "its GCS",
        signalled(child(driver, "gcs_server", is_program=True), KILL),
        reads="failed: HeadError: Ray's gcs_server .* the same command resumes from",
        does=AGAIN,
        goes_on=GoesOn.ENDS,
    ),
)

_command = cases_of("the command", **STOPS)
_killed = cases_of("the command", **KILLED)
DRIVER = (
    _killed("driver-killed-committing", "renaming a checkpoint", at_place("commit", "kill")),
    _killed("driver-killed-logging", "writing a line of metrics", at_place("log", "kill", most=8)),
    _command("sigterm", "in phase train", told(TERM)),
    _command("sigterm-starting", "in phase start", in_phase("start", TERM, _start), is_down=True),
    _command("sigterm-going-back", "in phase restart", in_phase("restart", TERM, kill_rank)),
    _command(
        "sigterm-twice",
        "in phase train, and in phase finish",
        told(TERM, TERM, apart_s=0.1),
        reads="SIGTERM again: ending at once",
    ),
    _command(
        "sigint-twice",
        "in phase train",
        told(signal.SIGINT, signal.SIGINT, apart_s=0.1),
        reads="SIGINT again: ending at once",
        code=130,
    ),
    _command("sighup", "in phase train", told(signal.SIGHUP), reads="SIGHUP: stopping", code=129),
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
    cases=(*RANKS, *RAY, *DRIVER, *files.DISK, *files.FILES, *files.OTHERS),
)
