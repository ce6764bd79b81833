"""What the scorers of reasoning-gym pay, task by task, beside `reward_server/puzzles/tasks.csv`.

    python -m tests.agreement.puzzle_tasks [--write]

`make puzzles` writes that table anew, `make agreement` compares. Every task is asked for its first
puzzles; whose puzzles differ from one process to another is seen in two of different hash seeds.
Times are no part of the comparison.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from reward_server.puzzles import strict, tasks
from reward_server.puzzles.inert import is_inert

NUM_PUZZLES = 5
SEED = 1
COLUMNS = (
    *("task", "own", "empty", *tasks.WRONG, "strict", "differs"),
    *("make_s", "first_score_s", "score_ms"),
)
TIMES = COLUMNS[-3:]
DIGESTS = """
import hashlib, json, sys
import reasoning_gym
from reasoning_gym.factory import DATASETS
made = {}
for task in sorted(set(DATASETS) - {"composite"}):
    data = reasoning_gym.create_dataset(task, seed=%d, size=%d)
    entries = [(e["question"], e["answer"]) for e in (data[i] for i in range(%d))]
    made[task] = hashlib.sha256(repr(entries).encode()).hexdigest()
open(int(sys.argv[1]), "w").write(json.dumps(made))
"""

Row = dict[str, str]


def main(arguments: list[str] | None = None) -> int:
    """1 where the table says something else of a task."""
    rows = {row["task"]: row for row in survey()}
    if arguments == ["--write"]:
        with tasks.FILE.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows.values())
        tasks.table.cache_clear()
        print(f"puzzles: {len(rows)} tasks written to {tasks.FILE}")
        return 0
    known = {name: task.cells for name, task in tasks.table().items()}
    others = [name for name in {*rows, *known} if _paid(rows, name) != _paid(known, name)]
    for name in sorted(others):
        print(f"puzzles: {name}: {_paid(rows, name)}, but tasks.csv has {_paid(known, name)}")
    marked = sum(task.wrong >= tasks.MARKED for task in tasks.table().values())
    print(f"puzzles: {len(rows)} tasks, {marked} marked; {len(others)} not as in tasks.csv")
    return int(bool(others))


def _paid(rows: Mapping[str, Mapping[str, str]], name: str) -> dict[str, str]:
    return {key: cell for key, cell in rows.get(name, {}).items() if key not in TIMES}


def survey() -> Iterator[Row]:
    """A row of every task."""
    from reasoning_gym.factory import DATASETS

    seeds = [_digests(seed) for seed in ("1", "2")]
    for task in sorted(set(DATASETS) - {"composite"}):
        with contextlib.redirect_stdout(io.StringIO()):
            row = _row(task)
        differs = len({made[task] for made in seeds}) > 1
        yield {**row, "differs": "yes" if differs else "no"}


def _digests(seed: str) -> dict[str, str]:
    """Of each task's puzzles, in a process with this hash seed."""
    reader, writer = os.pipe()
    code = DIGESTS % (SEED, NUM_PUZZLES, NUM_PUZZLES)
    with os.fdopen(reader) as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(writer)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            pass_fds=[writer],
            stdout=subprocess.DEVNULL,
        )
        os.close(writer)
        text = file.read()
    assert process.wait(timeout=600) == 0
    return json.loads(text)


def _row(task: str) -> Row:
    import reasoning_gym

    data = reasoning_gym.create_dataset(task, seed=SEED, size=NUM_PUZZLES)
    began = time.perf_counter()
    entries = [data[index] for index in range(NUM_PUZZLES)]
    made_s = (time.perf_counter() - began) / NUM_PUZZLES
    began = time.perf_counter()
    score = reasoning_gym.get_score_answer_fn(task)
    _given(score, entries[0]["answer"] or "1", entries[0])
    first_s = time.perf_counter() - began
    paid: dict[str, list[float]] = {name: [] for name in ("own", "empty", *tasks.WRONG, "strict")}
    times = []
    for entry, other in zip(entries, [*entries[1:], entries[0]], strict=True):
        for name, answer in _answers(entry, other):
            began = time.perf_counter()
            given = _given(score, answer, entry)
            times.append(time.perf_counter() - began)
            paid[name].append(given)
            if name in tasks.WRONG:
                is_paid = is_inert(task, answer) and strict.is_right(task, answer, entry, given)
                paid["strict"].append(float(is_paid))
    cells = {name: f"{max(given):.3g}" if given else "" for name, given in paid.items()}
    if paid["own"]:
        cells["own"] = f"{min(paid['own']):.3g}"
    return {
        "task": task,
        **cells,
        "make_s": f"{made_s:.2f}",
        "first_score_s": f"{first_s:.2f}",
        "score_ms": f"{1000 * sum(times) / len(times):.2f}",
    }


def _answers(entry: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The right answer, and wrong ones by the name of their column."""
    own = entry["answer"]
    yield "empty", ""
    yield "word", "banana"
    if _number(own) != 0:
        yield "zero", "0"
    if own is None:
        return
    yield "own", own
    yield "hedged", f"{own} or 7"
    if other["answer"] != own:
        yield "other", other["answer"]
    if _number(own):
        yield "longer", f"1{own.lstrip('-')}7"
        yield "negative", own[1:] if own.startswith("-") else f"-{own}"


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _given(score: Any, answer: str, entry: Mapping[str, Any]) -> float:
    """A scorer that raises pays nothing."""
    try:
        return float(score(answer, entry))
    except Exception:  # noqa: BLE001 - of any type
        return 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
