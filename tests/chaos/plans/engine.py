"""A run whose engine is vLLM in a process of its own, under its worker."""

from __future__ import annotations

from tests.chaos.chain import Chain
from tests.chaos.making import DRAWS, cases_of
from tests.chaos.records import GoesOn, Plan
from tests.chaos.remains import below
from tests.chaos.strikes import KILL, STOP, paused, signalled, worker


def core(chain: Chain) -> int:
    """The largest process below the worker: others only watch over resources."""
    found = below(worker(chain))
    assert found, "the worker has no process below it"
    return max(found, key=_resident)


def _resident(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1])
    except OSError:  # gone meanwhile
        return 0


_engine = cases_of(
    "vLLM's own process under a living worker",
    detected_by="the worker",
    loses=DRAWS,
    goes_on=GoesOn.ALONE,
)
PLAN = Plan(
    name="engine",
    first_step=9,
    settings=(
        *("run.max_steps=100000", "sync.interval=4", "sync.timeout_s=90", "data.epochs=0"),
        *("rollout.engine=vllm_async", "rollout.engine_options.max_num_seqs=64"),
        "rollout.engine_silence_s=60",
        *("restarts.worker.max_restarts=1000", "restarts.worker.longest_pause_s=1.0"),
    ),
    cases=(
        _engine("engine-process-killed", "generating", signalled(core, KILL)),
        _engine(
            "engine-process-stopped",
            "generating",
            signalled(core, STOP),
            detected_by="the worker, which asks it every 5 s; in a load, its deadline (90 s here)",
            within_s=110.0,
            reads=r"worker \d+\.\d+ (died \(EngineError: the inference engine has not answered for"
            r"|did not load: DeadlineError)",
        ),
        _engine(
            "engine-process-paused",
            "generating",
            paused(core),
            detected_by="nobody: 60 s of silence are allowed",
            loses="nothing",
            goes_on=GoesOn.UNHARMED,
        ),
    ),
)
