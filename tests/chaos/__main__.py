"""`make chaos`: faults are done to real runs, and each case leaves a row.

    python -m tests.chaos                    every case that has no row yet, for an hour at most
    python -m tests.chaos replay rank-       those whose names hold a word, in the order of these
    python -m tests.chaos --again            also those that have one
    python -m tests.chaos --list             what there is
    python -m tests.chaos --table            write the table of deploy/OPERATIONS.md

A row is a file in `--results` (build/chaos); the same command goes on where the last one ended.
Exit code 1 while a case has failed.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos import results, table
from tests.chaos.chain import Chain
from tests.chaos.endings import ENDINGS, ending
from tests.chaos.plans import PLANS, Apart
from tests.chaos.records import Case, Plan, Row
from tests.support.disks import file_system
from tests.support.makers import make_model
from tests.support.whole_runs import write_recipe

RESULTS = Path("build/chaos")
PATIENCE_S = 60.0
"""For a run that has not done as it should to make steps all the same."""
LAST_S = 240.0
"""So much of the time is kept for the end of a run."""


def main() -> int:
    options = _parse()
    if options.list:
        print("\n".join(case.name for case in results.cases()))
        return 0
    if not options.table:
        deadline = time.monotonic() + 60 * options.minutes
        with tempfile.TemporaryDirectory(prefix="oapl-chaos-") as folder:
            work = Path(folder)
            prepare(work)
            for plan in PLANS:
                do(plan, work, options, deadline)
    table.write(options.results)
    rows = results.read(options.results)
    print(table.summary(rows))
    return int(any(row.outcome == "failed" for row in rows.values()))


def prepare(work: Path) -> None:
    """Write the recipe, its data and models."""
    write_recipe(work)
    make_model(work / "other", seed=1)
    lines = (work / "sums.jsonl").read_text().splitlines()
    for name, some in (("exam", lines[::25]), ("more", lines[::4])):
        (work / f"{name}.jsonl").write_text("\n".join(some) + "\n")


def do(plan: Plan | Apart, work: Path, options: argparse.Namespace, deadline: float) -> None:
    """Do what of a plan has no row yet, as far as the time reaches."""
    done = {} if options.again else results.read(options.results)
    due = [case for case in _order(plan, options.seed) if _is_due(case, done, options)]
    due.sort(key=lambda case: _place(case, options.words))
    if not due or time.monotonic() > deadline - LAST_S:
        return
    if isinstance(plan, Apart):
        for row in plan.run(due, options.seed):
            _keep(row, options.results)
        return
    chain = Chain(plan, work, options.seed)
    with _disk(plan, chain.folder):
        try:
            tried = _try_all(chain, due, options, deadline)
            _keep_ending(chain, tried, options)
        finally:
            chain.kill()


def _order(plan: Plan | Apart, seed: int) -> list[Case]:
    cases = list(plan.cases)
    if isinstance(plan, Plan):
        random.Random(f"{seed} {plan.name}").shuffle(cases)
        return [*cases, *plan.last]
    return cases


def _place(case: Case, words: Sequence[str]) -> int:
    """Which of the words its name holds first."""
    return next((place for place, word in enumerate(words) if word in case.name), 0)


def _is_due(case: Case, done: dict[str, Row], options: argparse.Namespace) -> bool:
    is_chosen = not options.words or any(word in case.name for word in options.words)
    before = done.get(case.name)
    return is_chosen and (before is None or before.outcome == "failed")


def _try_all(
    chain: Chain, due: Sequence[Case], options: argparse.Namespace, deadline: float
) -> list[Row]:
    tried = []
    for case in due:
        if time.monotonic() > deadline - LAST_S:
            break
        print(f"{case.name} ...", flush=True)
        row = chain.try_case(case, options.seed)
        _keep(row, options.results)
        tried.append(row)
        if row.outcome == "failed" and not chain.goes_on(PATIENCE_S):
            chain.kill()  # the next one begins with a start
    return tried


def _keep_ending(chain: Chain, tried: Sequence[Row], options: argparse.Namespace) -> None:
    """A run's own end: what must hold of it after all that was done to it."""
    if tried and chain.plan.name in ENDINGS:
        print(f"{chain.plan.name}-ending ...", flush=True)
        _keep(ending(chain, options.seed, len(tried)), options.results)


def _keep(row: Row, folder: Path) -> None:
    results.write(row, folder)
    told = f" after {row.detected_s:g} s: {row.told[:150]}" if row.told else ""
    print(f"  {row.outcome}{told}{row.why and ': ' + row.why[-1500:]}", flush=True)


@contextlib.contextmanager
def _disk(plan: Plan, place: Path) -> Iterator[None]:
    """A file system of its own at a run's folder, where the plan has one."""
    if not plan.small_disk:
        yield
        return
    with file_system(place, plan.small_disk):
        yield


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
