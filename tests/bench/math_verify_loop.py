"""Judge stored answers by math-verify in one process per core: `tests.bench.scoring`'s other side.

    python -m tests.bench.math_verify_loop IN OUT

What a script of one's own would do: the package as it is, each response whole, references in a box;
imported once, before the processes are forked.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path

import math_verify

CHUNK = 64


def reward(record: dict[str, str]) -> float:
    gold = math_verify.parse(rf"\boxed{{{record['answer']}}}")
    return float(math_verify.verify(gold, math_verify.parse(record["response"])))


def main(source: Path, out: Path) -> None:
    records = [json.loads(line) for line in source.read_text().splitlines()]
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool, out.open("w") as file:
        for record, value in zip(records, pool.imap(reward, records, CHUNK), strict=True):
            file.write(json.dumps({"id": record["id"], "reward": value}) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
