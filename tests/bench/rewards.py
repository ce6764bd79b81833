"""(e) Rewards per second of the pool, beside as many plain processes that run the same verifier.

    python -m tests.bench.rewards

The pool is a reward server in a Ray actor, fed by 16 callers with as many responses a call as a
rollout worker joins. Plain is Python's own `multiprocessing.Pool`, warm, which is given the same
responses, as many at a time; and the same processes when each holds its part already: no way of
giving a process its work can be as fast as that. `short` are model solutions of GSM8K
where they are at hand (OAPL_DATA, or ../shared/data), else solutions made here: the exact layer
judges one in 0.02 to 0.05 ms, less than most calls between processes take. `hard` are such as
math-verify compares in 4 ms. With one worker fewer than cores, whoever gives out the work has one,
too; with as many as cores, ratios say what that costs beside judging.

(f) From an item's deadline to the first answer of the worker that replaced its own.
(g) Memory of a warm worker that has judged a thousand responses: its own, and with shared pages.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import multiprocessing
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.processes.launch import connect
from deploy.processes.ray_cluster import start_local_ray
from oapl.config import RunConfig
from oapl.records import Prompt, Rollout, Verdict
from oapl.remote.batched_calls import MAX_ITEMS
from reward_server.verifiers import math
from tests.bench import table
from tests.support.judging import HOSTILE, deed, server

CORES = os.cpu_count() or 1
CALLERS, ROUNDS = 16, 3
NUM_SHORT, NUM_HARD = 20_000, 600
BAR = 0.95
KILLS, DEADLINE_S, REPLACED_BAR_S = 60, 0.2, 0.2
SHARED = Path(__file__).parents[3] / "shared" / "data"

Item = tuple[Prompt, Rollout]


def measure(model: Path, name: str) -> list[table.Row]:
    short, origin = short_items()
    rows = []
    start_local_ray(num_cpus=max(CORES, 2))
    for workers in sorted({max(CORES - 1, 1), CORES}):
        for kind, work in ((f"short ({origin})", short), ("hard", hard_items())):
            rows += ratios(workers, kind, work)
    return [*rows, asyncio.run(replaced()), asyncio.run(memory(short))]


def ratios(workers: int, kind: str, work: Sequence[Item]) -> list[table.Row]:
    folder, name = os.environ["OAPL_BENCH_FOLDER"], f"rewards-{workers}-{kind.split()[0]}"
    config = RunConfig(
        run={"dir": folder, "name": name}, reward={"workers": workers, "deadline_s": 20.0}
    )
    config.folder.mkdir()
    pool, given, held = asyncio.run(rates(config, work, workers))
    return [
        table.Row(
            what=f"(e) rewards of {workers} workers over processes that {verb}, {kind}",
            model="math",
            ours=pool,
            theirs=plain,
            unit="rewards/s",
            ratio=pool / plain,
            bar=BAR,
        )
        for verb, plain in (("are given their work", given), ("hold it already", held))
    ]


async def rates(
    config: RunConfig, work: Sequence[Item], workers: int
) -> tuple[float, float, float]:
    """Best rates of a few rounds, in turn; all ways give the same rewards."""
    processes = connect(config, "evaluate")
    reward = (await processes.start("reward", "reward-0")).handle
    await _through_pool(reward, work[: workers * 1000])
    pool, given, held = [], [], []
    for _ in range(ROUNDS):
        started = time.monotonic()
        total = await _through_pool(reward, work)
        pool.append(len(work) / (time.monotonic() - started))
        for rates, way in ((given, _given), (held, _held)):
            seconds, same = await asyncio.to_thread(way, work, workers)
            rates.append(len(work) / seconds)
            assert total == same, f"the pool gives {total}, plain processes give {same}"
    await processes.close()
    return max(pool), max(given), max(held)


async def _through_pool(reward, work: Sequence[Item]) -> float:
    """The sum of the rewards."""
    calls = [work[start : start + MAX_ITEMS] for start in range(0, len(work), MAX_ITEMS)]

    async def caller(index: int) -> float:
        total = 0.0
        for call in calls[index::CALLERS]:
            total += sum([judgement.reward for judgement in await reward.score(call)])
        return total

    return sum(await asyncio.gather(*(caller(index) for index in range(CALLERS))))


def _given(work: Sequence[Item], workers: int) -> tuple[float, float]:
    """Seconds and the sum of the rewards, through Python's own pool once it is warm."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, _prepare, (work[:1000],)) as pool:
        pool.map(_verify, work[: workers * MAX_ITEMS], MAX_ITEMS)
        started = time.monotonic()
        verdicts = pool.map(_verify, work, MAX_ITEMS)
        return time.monotonic() - started, sum(verdict.reward for verdict in verdicts)


_verifier: math.MathVerifier


def _prepare(first: Sequence[Item]) -> None:
    global _verifier
    _verifier = math.build(math.Config())
    for prompt, rollout in first:
        _verifier.verify(prompt, rollout)


def _verify(item: Item) -> Verdict:
    return _verifier.verify(*item)


def _held(work: Sequence[Item], workers: int) -> tuple[float, float]:
    """The same through processes that have their part, from the moment at which all are warm."""
    context = multiprocessing.get_context("spawn")
    barrier, totals = context.Barrier(workers + 1), context.SimpleQueue()
    processes = [
        context.Process(target=_judge, args=(work[index::workers], barrier, totals))
        for index in range(workers)
    ]
    for process in processes:
        process.start()
    barrier.wait(120)
    started = time.monotonic()
    barrier.wait(600)
    seconds = time.monotonic() - started
    total = sum(totals.get() for _ in processes)
    for process in processes:
        process.join(60)
    return seconds, total


def _judge(work: Sequence[Item], barrier, totals) -> None:
    verifier = math.build(math.Config())
    for prompt, rollout in work[:1000]:
        verifier.verify(prompt, rollout)
    barrier.wait(120)
    total = 0.0
    for prompt, rollout in work:
        total += verifier.verify(prompt, rollout).reward
    barrier.wait(600)
    totals.put(total)


async def replaced() -> table.Row:
    """Items that hang, one after the other; the next one is answered by a fresh worker."""
    seconds = []
    options = {HOSTILE: {"jailed": True}}
    async with server({HOSTILE: 1.0}, options, workers=1, deadline_s=DEADLINE_S) as running:
        await running.score([deed("nothing")])
        for _ in range(KILLS):
            started = time.monotonic()
            (hung,) = await running.score([deed("loop")])
            await running.score([deed("nothing")])
            seconds.append(time.monotonic() - started - DEADLINE_S)
            assert hung.verdicts[HOSTILE].kind == "timeout"
    p50, p99 = np.percentile(seconds, (50, 99))
    return table.Row(
        what="(f) from a deadline to the answer of the worker that replaced the hung one, p99",
        model=f"{KILLS} hangs",
        ours=float(p99),
        theirs=float(p50),
        unit="s (beside: median)",
        ratio=float(p99),
        bar=REPLACED_BAR_S,
        at_least=False,
    )


async def memory(work: Sequence[Item]) -> table.Row:
    async with server({"math": 1.0}, workers=2) as running:
        await running.score(work[:2000])
        _, *workers = running.processes()
        proportional, resident = (
            max(_kib(pid, name) for pid in workers) for name in ("Pss", "Rss")
        )
    return table.Row(
        what="(g) memory of a warm worker of two: its share of all pages, beside all it maps",
        model="math",
        ours=proportional / 1024,
        theirs=resident / 1024,
        unit="MiB",
        ratio=proportional / resident,
    )


def _kib(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def short_items() -> tuple[list[Item], str]:
    """Short answers, repeated as often as it takes; and whose they are."""
    groups, origin = answered()
    items = [item for index, group in enumerate(groups) for item in _group(index, *group)]
    times = -(-NUM_SHORT // len(items))
    return (items * times)[:NUM_SHORT], origin


def answered() -> tuple[list[tuple[str, str, list[str]]], str]:
    """Questions with gold and responses: real solutions where they are, else made; and which."""
    path = Path(os.environ.get("OAPL_DATA", SHARED)) / "gsm8k_model_solutions.jsonl.gz"
    return (_real(path), "GSM8K") if path.exists() else (_made(), "made here")


def _real(path: Path) -> list[tuple[str, str, list[str]]]:
    """Question, gold and responses, four of them to a question."""
    groups = []
    with gzip.open(path, "rt") as file:
        for row in map(json.loads, file):
            texts = [solution["solution"] for solution in row["model_solutions"].values()]
            said = [(text, text.rpartition("A:")[2].strip()) for text in texts]
            responses = [rf"{text} \boxed{{{answer}}}" for text, answer in said]
            groups.append((row["prompt"], row["ground_truth"].rpartition("A:")[2], responses))
    return groups


def _made() -> list[tuple[str, str, list[str]]]:
    draw = random.Random(0)
    groups = []
    for _ in range(1000):
        responses, gold = [], 0
        for _ in range(4):
            numbers = [draw.randrange(2, 500) for _ in range(6)]
            steps, gold = [], numbers[0]
            for number in numbers[1:]:
                steps.append(f"Then there are {gold} + {number} = {gold + number} of them.")
                gold += number
            responses.append("\n".join([*steps, rf"So it is \boxed{{{gold}}}"]))
        groups.append(("How many are there in all? " * 8, str(gold), responses))
    return groups


def hard_items() -> list[Item]:
    return [
        item
        for n in range(NUM_HARD)
        for item in _group(
            n,
            "?",
            rf"\frac{{{n}}}{{7}}+\sqrt{{{n}}}",
            [rf"\boxed{{\sqrt{{{n}}}+\frac{{{n}}}{{7}}}}"],
        )
    ]


def _group(index: int, question: str, gold: str, responses: Sequence[str]) -> list[Item]:
    prompt = Prompt(
        id=f"bench:{index}@0",
        text=question,
        token_ids=np.arange(100, dtype=np.int32),
        verifiers={"math": 1.0},
        reference={"answer": gold},
        source="bench",
    )
    return [(prompt, _rollout(text)) for text in responses]


def _rollout(text: str) -> Rollout:
    return Rollout(
        token_ids=np.arange(len(text) // 3, dtype=np.int32),
        inference_logprobs=None,
        finish_reason="stop",
        text=text,
        first_version=0,
        last_version=0,
    )


if __name__ == "__main__":
    table.main(measure)
