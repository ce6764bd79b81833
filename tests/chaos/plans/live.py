"""A run with an engine: faults of its worker, reward server, replay buffer, rank and command.

Group size 4, surplus 0, an evaluation at each synchronisation of 4 steps, all groups stored.
"""

from __future__ import annotations

from tests.chaos.chain import Chain
from tests.chaos.making import BACK, DRAWS, KILLED, SINCE, STOPS, cases_of
from tests.chaos.records import GoesOn, Plan
from tests.chaos.remains import below
from tests.chaos.strikes import (
    KILL,
    STOP,
    TERM,
    at_place,
    at_prompt,
    child,
    driver,
    in_phase,
    over_memory,
    paused,
    process,
    signalled,
    told,
    worker,
)

SILENCE = {"detected_by": "the pulse, which asks it every 5 s", "within_s": 45.0}
UNNOTICED = {
    "detected_by": "nobody: 30 s of silence are allowed",
    "reads": "",
    "loses": "nothing",
    "goes_on": GoesOn.UNHARMED,
}
_killing = SILENCE | {"reads": r"worker \d+\.\d+ has not answered for 30 s; killing it"}
_worker = cases_of(
    "rollout worker",
    detected_by="Ray, which tells the worker's keeper",
    within_s=15.0,
    reads=r"worker \d+\.\d+ died .*; restarting",
    loses=DRAWS,
    goes_on=GoesOn.ALONE,
)
WORKERS = (
    _worker("worker-killed-generating", "generating", at_place("generate", "kill", most=20)),
    _worker("worker-exits-generating", "generating", at_place("generate", "exit", most=20)),
    _worker("worker-killed-loading", "loading", at_place("load", "kill", most=2)),
    _worker("worker-killed-probing", "probing", at_place("probe", "kill", most=2)),
    _worker("worker-killed-evaluating", "evaluating", at_place("evaluate", "kill", most=2)),
    _worker("worker-stopped", "generating", signalled(worker, STOP), **_killing),
    _worker("worker-stopped-loading", "loading", at_place("load", "stop"), **_killing),
    _worker("worker-holds-the-gil", "generating", at_place("generate", "gil", most=20), **_killing),
    _worker("worker-over-memory", "any time", over_memory(worker), within_s=60.0),
    _worker("worker-paused", "generating", paused(worker), **UNNOTICED),
)


def reward_worker(chain: Chain) -> int:
    """A process that judges."""
    found = below(FORK_SERVER(chain))
    assert found, "the fork server has no process below it"
    return found[0]


REWARD, FORK_SERVER = process("reward-0"), child(process("reward-0"), "fork_server")
_replacing = SILENCE | {"reads": "reward-0 has not answered for 30 s; replacing it"}
_reward = cases_of(
    "reward server",
    detected_by="the pulse, which asks it every 5 s",
    within_s=15.0,
    reads=r"reward-0 is down \([\w ]+\); Ray (starts|has started) it again",
    loses="nothing; what it had is judged again",
    goes_on=GoesOn.ALONE,
)
REWARDS = (
    _reward("reward-killed", "judging", signalled(REWARD, KILL)),
    _reward("reward-exits", "judging", at_place("judge", "exit", most=20)),
    _reward("reward-stopped", "judging", signalled(REWARD, STOP), **_replacing),
    _reward("reward-holds-the-gil", "judging", at_place("judge", "gil", most=20), **_replacing),
    _reward("reward-paused", "judging", paused(REWARD), **UNNOTICED),
    _reward(
        "reward-fork-server-killed",
        "its fork server",
        signalled(FORK_SERVER, KILL),
        reads="",
        detected_by="its reward server, which starts another",
    ),
    _reward(
        "reward-fork-server-stopped",
        "its fork server",
        signalled(FORK_SERVER, STOP, stays=True),
        reads="",
        detected_by="its reward server, when it needs a worker",
    ),
    _reward(
        "reward-worker-killed",
        "a process of its pool",
        signalled(reward_worker, KILL),
        reads="",
        detected_by="its reward server, which starts another",
    ),
)

REPLAY_PROCESS = process("replay")
_replay = cases_of(
    "replay buffer",
    detected_by="whoever asks it, or the pulse",
    within_s=15.0,
    reads=f"replay .*{BACK}",
    loses=SINCE,
    goes_on=GoesOn.BACK,
)
REPLAY = (
    _replay("replay-killed", "any time", signalled(REPLAY_PROCESS, KILL)),
    _replay("replay-exits-taking-in", "taking in a group", at_place("put", "exit", most=8)),
    _replay("replay-killed-saving", "giving its state", at_place("snapshot", "kill", most=1)),
    _replay("replay-stopped", "any time", signalled(REPLAY_PROCESS, STOP), **SILENCE),
    _replay("replay-holds-the-gil", "lending groups", at_place("take", "gil"), **SILENCE),
    _replay("replay-paused", "any time", paused(REPLAY_PROCESS), **UNNOTICED),
)

_rank = cases_of(
    "learner rank, in a publication",
    detected_by="the learner, which publishes",
    within_s=30.0,
    reads=f"learner rank 0 of 1 died.*{BACK}",
    loses=SINCE,
    goes_on=GoesOn.BACK,
)
RANK = (
    _rank("publication-rank-killed-exporting", "announcing it", at_place("export", "kill", most=1)),
    _rank(
        "publication-rank-killed-between-chunks",
        "between any two of its chunks",
        at_place("chunk", "kill", most=16),
    ),
    _rank(
        "object-store-full",
        "putting a chunk into Ray's object store",
        at_place("put_weights", "fill_store"),
        detected_by="Ray, which moves what lies in it to the disk",
        reads="",
        loses="nothing",
        goes_on=GoesOn.UNHARMED,
    ),
    _rank(
        "object-store-refuses",
        "putting a chunk into Ray's object store",
        at_place("put_weights", "refuse"),
        detected_by="the rank itself",
        reads=rf"learner rank 0 of 1 failed \(ObjectStoreFullError: .*{BACK}",
        does="give /dev/shm, and the disk of Ray's temporary files, more room",
    ),
)

_command = cases_of("the command", **STOPS)
DRIVER = (
    cases_of("the command", **KILLED)(
        "driver-killed-live", "between two steps", signalled(driver, KILL)
    ),
    *(
        _command(f"sigterm-in-{phase}", f"in phase {phase}", in_phase(phase, TERM))
        for phase in ("publish", "evaluate")
    ),
    _command("sigterm-live", "in phase train", told(TERM, group=True)),
)
PROMPT = _worker(
    "prompt-that-kills-engines",
    "generating for one prompt",
    at_prompt("generate", "kill", "3+8="),
    detected_by="replay, which counts the deaths under a draw",
    within_s=200.0,
    reads="a prompt failed: 3 engines died under it",
    loses="that draw: it fails after rollout.max_deaths",
    does="look at the prompt: rollouts, and logs/worker-*.log",
)
PLAN = Plan(
    name="live",
    first_step=9,
    settings=(
        *("run.max_steps=100000", "sync.interval=4", "sync.timeout_s=60", "data.epochs=0"),
        *("tracking.store_groups=all", "checkpoint.every_syncs=1"),
        *("eval.every_syncs=1", "eval.num_samples=1", "eval.ks=[1]", "eval.max_tokens=8"),
        *("eval.sources.0.name=exam", "eval.sources.0.path={work}/exam.jsonl"),
        *("restarts.worker.max_restarts=1000", "restarts.worker.longest_pause_s=1.0"),
        *("restarts.rank.max_restarts=1000", "restarts.rank.longest_pause_s=1.0"),
        *("restarts.replay.max_restarts=1000", "restarts.replay.longest_pause_s=1.0"),
        "restarts.reward_server.max_restarts=1000",
    ),
    cases=(*WORKERS, *REWARDS, *REPLAY, *RANK, *DRIVER),
    last=(PROMPT,),
)
