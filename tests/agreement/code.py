"""Programs: published solutions must pass their problem's tests, and what is no solution must not.

    python -m tests.agreement code

A set that is not on this machine is skipped. Per set: how many solutions are accepted, each miss
with its verdict, and how many of as many stubs (the same functions, returning None) are.
"""

from __future__ import annotations

import ast
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from oapl.records import Verdict
from reward_server.sandbox import measure
from reward_server.sandbox.command import locate
from reward_server.verifiers import code
from tests.support import real_data
from tests.support.judging import prompt, rollout

SETS = ("humaneval", "leetcode_test", "leetcode_train")


def main() -> int:
    """The table; 1 where HumanEval is not whole."""
    console, table = Console(), Table("set", "solutions", "accepted", "stubs accepted", "seconds")
    misses: list[tuple[str, Verdict]] = []
    is_whole = True
    for name in SETS:
        try:
            problems = real_data.rows(name)
        except real_data.Absent as absent:
            console.print(f"skipped: {absent}")
            continue
        started = time.monotonic()
        kinds, missed, num_stubs = judge(problems)
        misses += missed
        is_whole &= name != "humaneval" or not missed
        total = sum(kinds.values())
        seconds = f"{time.monotonic() - started:.0f}"
        table.add_row(name, str(total), str(kinds["accepted"]), str(num_stubs), seconds)
    console.print(table)
    for identity, verdict in misses:
        console.print(f"{identity}: {verdict.kind}: {verdict.detail}", markup=False)
    return int(not is_whole)


def judge(
    problems: Sequence[Mapping[str, Any]],
) -> tuple[Counter[str], list[tuple[str, Verdict]], int]:
    """Kinds of verdict on the solutions, those not accepted, and how many stubs were."""
    packages = [name for name in ("sortedcontainers", "numpy") if locate(name)]
    verifier = code.build(
        code.Config(total_s=20.0, reward="all_or_nothing", packages=tuple(packages))
    )
    verifier.start(measure.strongest().level)
    kinds: Counter[str] = Counter()
    missed, num_stubs = [], 0
    for row in problems:
        asked = prompt(row, {"code": 1.0}, row["prompt"], question=row["prompt"])
        gold = row["solutions"] if row.get("solutions") else row["prompt"] + row["answer"]
        verdict = verifier.verify(asked, rollout(fenced(gold)))
        kinds[verdict.kind] += 1
        if verdict.kind != "accepted":
            missed.append((row["id"], verdict))
        num_stubs += verifier.verify(asked, rollout(fenced(stub(gold)))).kind == "accepted"
    verifier.close()
    return kinds, missed, num_stubs


def fenced(source: str) -> str:
    return f"Thus:\n```python\n{source}\n```\n"


def stub(source: str) -> str:
    """The same functions, each of which returns None."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = [ast.Return(ast.Constant(None))]
    return ast.unparse(ast.fix_missing_locations(tree))
