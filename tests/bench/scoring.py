"""(o) `oapl score` of stored answers, beside a loop of math-verify in one process per core.

    python -m tests.bench.scoring

Both are commands, timed from start to end, imports and all, and take turns. The answers are those
of `tests.bench.rewards`: with its model solutions of GSM8K 4,748 of them, judged once. The loop is
what a script of one's own would do: `tests/bench/math_verify_loop.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import rewards, table

ROUNDS = 4
BAR = 0.5
LIMIT_S = 300.0
ROOT = Path(__file__).parents[2]


def measure(model: Path, name: str) -> list[table.Row]:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        stored = folder / "stored.jsonl"
        count, origin = write(stored)
        commands = {
            "ours": ["oapl", "score", str(stored), "--verifier", "math", "--overwrite", "--out"],
            "theirs": ["tests.bench.math_verify_loop", str(stored)],
        }
        seconds: dict[str, list[float]] = {side: [] for side in commands}
        for index in range(ROUNDS):
            for side in [*commands][:: 1 if index % 2 else -1]:
                seconds[side].append(_seconds([*commands[side], str(folder / side)]))
        ours, theirs = (_rewards(folder / side) for side in commands)
    assert ours.keys() == theirs.keys()
    same = sum(ours[id] == theirs[id] for id in ours) / count
    best = {side: min(each) for side, each in seconds.items()}
    return [
        table.Row(
            what=f"(o) oapl score of {count:,} stored answers over a loop of math-verify",
            model=f"math ({origin})",
            ours=best["ours"],
            theirs=best["theirs"],
            unit="s",
            ratio=best["ours"] / best["theirs"],
            bar=BAR,
            at_least=False,
            parts={"share of equal verdicts": same, "accepted by oapl": sum(ours.values())},
        )
    ]


def write(path: Path) -> tuple[int, str]:
    """The answers as records of `oapl score`; how many, and whose they are."""
    groups, origin = rewards.answered()
    records = [
        {"id": f"{index}-{number}", "prompt": question, "response": response, "answer": gold}
        for index, (question, gold, responses) in enumerate(groups)
        for number, response in enumerate(responses)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return len(records), origin


def _seconds(command: Sequence[str]) -> float:
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", *command],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=LIMIT_S,
    )
    return time.monotonic() - started


def _rewards(path: Path) -> dict[str, float]:
    rows = map(json.loads, path.read_text().splitlines())
    return {row["id"]: row["reward"] for row in rows}


if __name__ == "__main__":
    table.main(measure)
