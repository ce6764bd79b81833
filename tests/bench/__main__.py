"""`make bench`: every figure of one run, as ratios to the raw parts; a table and `bench.json`.

    python -m tests.bench [--model FOLDER ...] [--only NAME ...] [--json FILE]

Each bench is a process of its own, since a process holds one engine; figures that depend on a model
are taken with the quickstart's and with each `--model` (default: SmolLM2, where `make smollm2` has
made it). OAPL_BENCH_BEFORE names a work tree of the build before iterations (6bca9e6), which
`iteration` compares with. The exit code is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.bench import table

OF_A_MODEL = (
    *("pipeline", "learner_step", "iteration", "publication"),
    *("generation", "evaluation", "stored_training"),
)
SMOLLM2 = Path("build/smollm2")
OF_ONE = (
    "engine_throughput",
    "overlap",
    "rewards",
    "scoring",
    "sandbox",
    "logprob_memory",
    "frozen_memory",
    "objective_steps",
    "replay_rate",
    "trl_step",
)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, action="append", default=[], help="a model's folder")
    parser.add_argument("--only", action="append", choices=[*OF_A_MODEL, *OF_ONE])
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    options = parser.parse_args()
    console, rows = Console(), []
    if not options.model and SMOLLM2.is_dir():
        options.model = [SMOLLM2]
    elif not options.model:
        console.print("without SmolLM2: `make smollm2` makes it")
    for name in options.only or [*OF_A_MODEL, *OF_ONE]:
        models = [None, *options.model] if name in OF_A_MODEL else [None]
        for model in models:
            found = _run(name, model, console)
            table.show(found, console)
            rows += found
            table.save(rows, options.json)
    console.rule("all of it")
    table.show(rows, console)
    return int(any(row.verdict == "MISSED" for row in rows))


def _run(name: str, model: Path | None, console: Console) -> list[table.Row]:
    command = [sys.executable, "-m", f"tests.bench.{name}", *([str(model)] if model else [])]
    console.print(f"python {' '.join(command[1:])}", highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.json"
        done = subprocess.run([*command, "--json", str(rows)], capture_output=True, text=True)
        if done.returncode:
            console.print(done.stdout + done.stderr, highlight=False, markup=False)
            done.check_returncode()
        return table.load(rows)


if __name__ == "__main__":
    sys.exit(main())
