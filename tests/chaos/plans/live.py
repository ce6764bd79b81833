"""A run with an engine: faults of its worker, reward server, replay buffer, rank and command.

Group size 4, surplus 0, an evaluation at each synchronisation of 4 steps, all groups stored.
"""

from __future__ import annotations

import signal

from tests.chaos.chain import Chain
from tests.chaos.records import Case, GoesOn, Plan, Struck
from tests.chaos.strikes import (
    FIRE_S,
    at_place,
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

KILL, STOP = signal.SIGKILL, signal.SIGSTOP
DIED = r"worker 0\.\d+ died .*; restarting"
SILENT = r"worker 0\.\d+ has not answered for 30 s; killing it"
BACK = "starting all processes again from step-"
DRAWS = "no draw; what the worker had in flight is made again"
SINCE = "no draw; the steps since the last checkpoint are made again"


def _worker(name: str, place: str, fault: str, strike, reads: str = DIED, **more) -> Case:  # type: ignore[no-untyped-def]
    return Case(
        name=f"worker-{name}",
        place=f"rollout worker, {place}",
        fault=fault,
        injected=more.pop("injected", "inside it, at that place"),
        detected_by=more.pop("detected_by", "Ray, which tells the worker's keeper"),
        within_s=more.pop("within_s", 15.0),
        reads=reads,
        loses=DRAWS,
        goes_on=GoesOn.ALONE,
        strike=strike,
    )


def _silent(name: str, place: str, fault: str, strike, injected: str) -> Case:  # type: ignore[no-untyped-def]
    return _worker(
        name,
        place,
        fault,
        strike,
        SILENT,
        injected=injected,
        detected_by="the pulse, which asks it every 5 s",
        within_s=45.0,
    )


INSIDE, OUTSIDE = "inside it, at that place", "a signal from outside"
WORKERS = (
    _worker("killed-generating", "generating", "kill -9", at_place("generate", "kill", most=20)),
    _worker("exits-generating", "generating", "exit", at_place("generate", "exit", most=20)),
    _worker("killed-loading", "loading", "kill -9", at_place("load", "kill", most=2)),
    _worker("killed-probing", "probing", "kill -9", at_place("probe", "kill", most=2)),
    _worker(
        "killed-evaluating",
        "evaluating",
        "kill -9",
        at_place("evaluate", "kill", most=2),
        reads=f"{DIED}|evaluation interrupted",
    ),
    _silent("stopped", "generating", "SIGSTOP for ever", signalled(worker, STOP), OUTSIDE),
    _silent("stopped-loading", "loading", "SIGSTOP for ever", at_place("load", "stop"), INSIDE),
    _silent(
        "holds-the-gil",
        "generating",
        "a thread holds the GIL in C",
        at_place("generate", "gil", most=20),
        INSIDE,
    ),
    _worker(
        "over-memory",
        "any time",
        "is over a memory limit",
        over_memory(worker),
        injected="a control group without memory left",
        within_s=60.0,
    ),
    Case(
        name="worker-paused",
        place="rollout worker, generating",
        fault="SIGSTOP for 20 s",
        injected=OUTSIDE,
        detected_by="nobody: 30 s of silence are allowed",
        within_s=0.0,
        goes_on=GoesOn.UNHARMED,
        strike=paused(worker),
    ),
)
DOWN = r"reward-0 is down \([\w ]+\); Ray (starts|has started) it again"
REPLACED = "reward-0 has not answered for 30 s; replacing it"


def _reward(name: str, fault: str, strike, **more) -> Case:  # type: ignore[no-untyped-def]
    return Case(
        name=f"reward-{name}",
        place=more.pop("place", "reward server, judging"),
        fault=fault,
        injected=more.pop("injected", OUTSIDE),
        detected_by=more.pop("detected_by", "the pulse, which asks it every 5 s"),
        within_s=more.pop("within_s", 15.0),
        reads=more.pop("reads", DOWN),
        loses="nothing; what it had is judged again",
        goes_on=more.pop("goes_on", GoesOn.ALONE),
        strike=strike,
    )


FORK_SERVER = child(process("reward-0"), "fork_server")
REWARDS = (
    _reward("killed", "kill -9", signalled(process("reward-0"), KILL)),
    _reward(
        "stopped",
        "SIGSTOP for ever",
        signalled(process("reward-0"), STOP),
        reads=REPLACED,
        within_s=45.0,
    ),
    _reward(
        "holds-the-gil",
        "a thread holds the GIL in C",
        at_place("judge", "gil", most=20),
        injected=INSIDE,
        reads=REPLACED,
        within_s=45.0,
    ),
    _reward(
        "paused",
        "SIGSTOP for 20 s",
        paused(process("reward-0")),
        reads="",
        detected_by="nobody: 30 s of silence are allowed",
        goes_on=GoesOn.UNHARMED,
    ),
    _reward(
        "fork-server-killed",
        "kill -9",
        signalled(FORK_SERVER, KILL),
        place="fork server of a reward server",
        reads="",
        detected_by="its reward server, which starts another",
    ),
    _reward(
        "fork-server-stopped",
        "SIGSTOP for ever",
        signalled(FORK_SERVER, STOP, stays=True),
        place="fork server of a reward server",
        reads="",
        detected_by="its reward server, when it needs a worker",
    ),
)
LOST_REPLAYS = tuple(
    Case(
        name=f"replay-{name}",
        place=f"replay buffer, {place}",
        fault=fault,
        injected=injected,
        detected_by=by,
        within_s=within_s,
        reads=f"replay .*{BACK}",
        loses=SINCE,
        goes_on=GoesOn.BACK,
        strike=strike,
    )
    for name, place, fault, injected, by, within_s, strike in (
        (
            *("killed", "any time", "kill -9", OUTSIDE, "whoever asks it, or the pulse", 15.0),
            signalled(process("replay"), KILL),
        ),
        (
            *("exits-taking-in", "taking in a group", "exit", INSIDE, "whoever asks it", 15.0),
            at_place("put", "exit", most=8),
        ),
        (
            *("killed-saving", "giving its state to a checkpoint", "kill -9", INSIDE),
            *("the learner, which saves", 15.0, at_place("snapshot", "kill")),
        ),
        (
            *("stopped", "any time", "SIGSTOP for ever", OUTSIDE, "the pulse", 45.0),
            signalled(process("replay"), STOP),
        ),
        (
            *("holds-the-gil", "lending groups", "a thread holds the GIL in C", INSIDE),
            *("the pulse", 45.0, at_place("take", "gil")),
        ),
    )
)
REPLAY = (
    *LOST_REPLAYS,
    Case(
        name="replay-paused",
        place="replay buffer, any time",
        fault="SIGSTOP for 20 s",
        injected=OUTSIDE,
        detected_by="nobody: 30 s of silence are allowed",
        within_s=0.0,
        goes_on=GoesOn.UNHARMED,
        strike=paused(process("replay")),
    ),
)
RANK = tuple(
    Case(
        name=f"publication-rank-{name}",
        place=f"learner rank, {place}",
        fault=fault,
        injected=INSIDE,
        detected_by="the learner, which publishes",
        within_s=within_s,
        reads=f"learner rank 0 of 1 .*{BACK}",
        loses=SINCE,
        goes_on=GoesOn.BACK,
        strike=strike,
    )
    for name, place, fault, within_s, strike in (
        ("killed-exporting", "announcing weights", "kill -9", 30.0, at_place("export", "kill")),
        (
            *("killed-between-chunks", "between two chunks of a publication", "kill -9", 30.0),
            at_place("chunk", "kill", most=4),
        ),
    )
)


def _poison(chain: Chain) -> Struck:
    """Kill the engine each time that it is given a problem of the sum 7+5; told after 3 deaths."""
    chain.armoury.arm("generate", "kill", prompt="7+5=")
    fired = chain.armoury.fired("generate", 2 * FIRE_S)
    return Struck(evidence=f"process {fired.pid} was killed by the prompt 7+5=", at=fired.at)


PROMPT = Case(
    name="prompt-that-kills-engines",
    place="rollout worker, generating for one prompt",
    fault="kill -9, each time",
    injected=INSIDE,
    detected_by="replay, which counts the deaths under a draw",
    within_s=150.0,
    reads="a prompt failed: .*died|a prompt failed: .*deaths",
    loses="that draw: it fails after rollout.max_deaths",
    does="look at the prompt that the message names",
    goes_on=GoesOn.ALONE,
    strike=_poison,
)
DRIVER = (
    Case(
        name="driver-killed-live",
        place="the command, between two steps",
        fault="kill -9",
        injected=OUTSIDE,
        detected_by="the shell",
        within_s=5.0,
        loses=SINCE,
        does="give the same command again",
        goes_on=GoesOn.KILLED,
        strike=signalled(driver, KILL),
    ),
    *(
        Case(
            name=f"sigterm-in-{phase}",
            place=f"the command, in phase {phase}",
            fault="SIGTERM",
            injected=OUTSIDE,
            detected_by="the command",
            within_s=10.0,
            reads="SIGTERM: stopping",
            does="give the same command again",
            goes_on=GoesOn.STOPS,
            strike=in_phase(phase, signal.SIGTERM),
        )
        for phase in ("publish", "evaluate")
    ),
    Case(
        name="sigterm-live",
        place="the command, in phase train",
        fault="SIGTERM to the whole process group",
        injected=OUTSIDE,
        detected_by="the command",
        within_s=10.0,
        reads="SIGTERM: stopping",
        does="give the same command again",
        goes_on=GoesOn.STOPS,
        strike=told(signal.SIGTERM, group=True),
    ),
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
