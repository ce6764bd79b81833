"""`make chaos`: processes of the reward pool are killed while 2,000 responses are judged.

Two reward servers on a Ray cluster of two nodes; workers, fork servers and the reward servers
themselves are ended with SIGKILL, 20 times in all. Every response must be answered once, with its
true verdict; exit code 1 when one is not. `tests/unit/reward_server/test_pool.py` does the same
with a few hundred responses and no Ray.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from oapl.config import RunConfig
from oapl.records import Judgement, Prompt, Rollout
from tests.support.judging import HOSTILE, deed

ITEMS, KILLS, CALLERS, CALL = 2000, 20, 8, 10
SECONDS = 0.04
"""What an answer takes: the kills need time to be made in."""
DEADLINE_S, ON_FAILURE = 1.0, -3.0
PAUSE_S = (0.2, 0.6)
"""Between two kills, and a call's answers: one judged alone, after its worker's death, shall not
meet the next."""
LIMIT_S = 300.0

Task = tuple[Prompt, Rollout]
Score = Callable[[Sequence[Task]], Awaitable[Sequence[Judgement]]]
Victims = Callable[[], Awaitable[Mapping[str, Sequence[int]]]]
BAD = {"segfault": "runtime_error", "raise": "error", "loop": "timeout"}


def task(index: int, seconds: float) -> Task:
    """Nearly all take a moment and are worth their index; a few deserve what they get."""
    if index % 97 == 96:
        return deed(list(BAD)[index // 97 % len(BAD)], text=str(index))
    return deed("slow", str(seconds), text=str(index))


def check(index: int, judgement: Judgement) -> str:
    """What is wrong with an answer; empty if nothing is."""
    if judgement.failure is not None:
        return f"response {index} failed: {judgement.failure}"
    verdict = judgement.verdicts[HOSTILE]
    done = verdict.kind, judgement.reward
    due: tuple[str, float] = "accepted", float(index)
    if index % 97 == 96:
        due = BAD[list(BAD)[index // 97 % len(BAD)]], ON_FAILURE
    return "" if done == due else f"response {index} is {done}, not {due}: {verdict.detail}"


async def kill_under_load(
    score: Score, victims: Victims, *, items: int, kills: Sequence[str], seconds: float
) -> tuple[list[str], Counter[str]]:
    """Judge `items` responses, or more, ending a process of each kind in `kills` meanwhile.

    Returns:
        What was wrong, and the kills made by kind.
    """
    wrong: list[str] = []
    answered: Counter[int] = Counter()
    numbers = itertools.count()

    async def caller() -> None:
        while answered.total() < items or not killing.done():
            call = list(itertools.islice(numbers, CALL))
            judgements = await score([task(index, seconds) for index in call])
            for index, judgement in zip(call, judgements, strict=True):
                answered[index] += 1
                if trouble := check(index, judgement):
                    wrong.append(trouble)

    async def killer() -> None:
        for kind in kills:
            before = answered.total()
            await asyncio.sleep(random.uniform(*PAUSE_S))
            while answered.total() < before + CALL:
                await asyncio.sleep(0.05)
            while not _kill_one((await victims()).get(kind, ())):
                await asyncio.sleep(0.05)
            made[kind] += 1

    made: Counter[str] = Counter()
    killing = asyncio.create_task(killer())
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        await killing
    asked = next(numbers)
    wrong += [f"response {index} was answered {n} times" for index, n in answered.items() if n != 1]
    if len(answered) != asked:
        wrong.append(f"{len(answered)} of {asked} responses were answered")
    return wrong, made


def _kill_one(pids: Sequence[int]) -> bool:
    if not pids:
        return False
    try:
        os.kill(random.choice(pids), signal.SIGKILL)
    except ProcessLookupError:  # it died with its fork server
        return False
    return True


async def through_ray(address: str) -> list[str]:
    from actors import scoring
    from deploy.processes.launch import connect

    config = RunConfig(
        run={"dir": tempfile.mkdtemp(prefix="oapl-chaos-"), "name": "rewards"},
        model={"path": "none"},
        reward={
            "verifiers": {HOSTILE: 1.0},
            "servers": 2,
            "deadline_s": DEADLINE_S,
            "on_failure": ON_FAILURE,
        },
        cluster={"address": address},
    )
    config.folder.mkdir()
    processes = connect(config, "evaluate")
    servers = [await processes.start("reward", f"reward-{index}") for index in range(2)]
    places = [(await server.actor.place.remote())[0] for server in servers]
    print(f"reward servers on {' and '.join(places)}", flush=True)

    async def victims() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {"server": [], "fork_server": [], "worker": []}
        for server in servers:
            try:
                fork_server, *workers = await asyncio.wait_for(server.handle.processes(), 5)
                found["server"].append(_parent(fork_server))
            except Exception:  # noqa: BLE001 - it was killed, and is being restarted
                continue
            found["fork_server"].append(fork_server)
            found["worker"] += workers
        return found

    kinds = ["worker", "fork_server", "worker", "server"]
    kills = [kind for kind, _ in zip(itertools.cycle(kinds), range(KILLS), strict=False)]
    scorer = scoring.build(config, [server.handle for server in servers])
    await scorer.score([task(0, 0.0)])
    started = time.monotonic()
    wrong, made = await kill_under_load(
        scorer.score, victims, items=ITEMS, kills=kills, seconds=SECONDS
    )
    print(f"{ITEMS} responses in {time.monotonic() - started:.1f} s; killed: {dict(made)}")
    if len(set(places)) != 2:
        wrong.append(f"both reward servers are on {places[0]}")
    await processes.close()
    return wrong


def _parent(pid: int) -> int:
    """The reward server of a fork server."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def shown(wrong: Sequence[str]) -> Iterator[str]:
    yield from wrong[:20]
    if len(wrong) > 20:
        yield f"... and {len(wrong) - 20} more"


def main() -> int:
    from tests.support.clusters import Cluster

    with Cluster() as cluster:
        variables: dict[str, Any] = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(cluster.token),
        }
        os.environ.update(variables)
        wrong = asyncio.run(through_ray(cluster.address))
    print("\n".join(shown(wrong)) or "every response was answered once, with its true verdict")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
