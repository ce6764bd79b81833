"""A run that goes on with another setting than it began with: accepted, or refused in words."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.chaos.chain import Chain
from tests.chaos.making import cases_of
from tests.chaos.records import GoesOn, Plan, Strike, Struck
from tests.chaos.strikes import started_with

INTERVAL = 4
TRIES = 5


def _checkpoints(chain: Chain) -> dict[int, Path]:
    found = (chain.folder / "checkpoints").glob("step-*")
    return {int(path.name[5:]): path for path in found}


def _holds_groups(checkpoint: Path) -> bool:
    return bool(json.loads((checkpoint / "state.json").read_text())["group_sizes"])


def _with_groups(chain: Chain) -> Struck:
    """Where the newest checkpoint has groups of 4 that are still to be trained on."""
    for _ in range(TRIES):
        if _holds_groups(found := max(_checkpoints(chain).items())[1]):
            at = time.time()
            chain.start("rollout.group_size=8")
            return Struck(evidence=f"{found.name} holds groups of another size", at=at)
        chain.alive()
        chain.stop()
    raise AssertionError(f"no group was left over in {TRIES} stops")


def _without_groups(chain: Chain) -> Struck:
    """From a checkpoint at a synchronisation, which has none."""
    at, found = time.time(), _checkpoints(chain)
    step = max(step for step, path in found.items() if not _holds_groups(path))
    chain.start("rollout.group_size=8", f"checkpoint.resume={found[step]}")
    return Struck(evidence=f"started with groups of 8 from step {step}, which has none", at=at)


_HOW = "in the command that goes on"
_resumed = cases_of("the command", is_down=True, detected_by="the start", within_s=120.0)
_refused = cases_of(
    "the command",
    is_down=True,
    detected_by="the start",
    within_s=60.0,
    does="set it back, or choose another run.name",
    goes_on=GoesOn.REFUSED,
)
GOES_ON = {"reads": r"resuming from \S+step-\d+", "goes_on": GoesOn.ACCEPTED}
PLAN = Plan(
    name="changed",
    first_step=9,
    settings=(
        *("run.max_steps=100000", f"sync.interval={INTERVAL}", "sync.timeout_s=60"),
        *("data.epochs=0", "checkpoint.keep=6"),
    ),
    cases=(
        _refused(
            "resume-other-model",
            "",
            started_with("another model.path", "model.path={work}/other"),
            reads=r"error: model\.path = .* set model\.path back, or .* another run\.name",
        ),
        _refused(
            "resume-other-data",
            "",
            started_with("other rows", "data.sources.0.path={work}/exam.jsonl"),
            reads=r"error: \S+step-\d+: the data is not that of the checkpoint: .*restore them",
        ),
        _refused(
            "resume-other-precision",
            "",
            started_with("another learner.precision", "learner.precision=bf16"),
            reads=r"error: learner\.precision = 'bf16', but .* set learner\.precision=fp32",
        ),
        _refused(
            "resume-other-group-size",
            "with groups left",
            Strike("another group size", _HOW, _with_groups),
            reads=r"error: rollout\.group_size = 8, but .* set rollout\.group_size=4",
        ),
        _resumed(
            "resume-other-interval",
            "",
            started_with("another L", "sync.interval=6"),
            **GOES_ON,
        ),
        _resumed(
            "resume-other-ranks",
            "",
            started_with("another number of ranks", "learner.num_ranks=2"),
            **GOES_ON,
        ),
        _resumed(
            "resume-other-stage",
            "",
            started_with("another ZeRO stage", "learner.zero_stage=3"),
            **GOES_ON,
        ),
    ),
    last=(
        _resumed(
            "resume-more-data",
            "",
            started_with(
                "one source more",
                "data.sources.1.name=more",
                "data.sources.1.path={work}/more.jsonl",
                lasts=True,
            ),
            **GOES_ON,
        ),
        _resumed(
            "resume-other-group-size-at-a-synchronisation",
            "",
            Strike("another group size", _HOW, _without_groups),
            **GOES_ON,
        ),
    ),
)
