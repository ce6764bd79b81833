"""`make chaos`: a run whose reward function misbehaves for some of its prompts.

    python -m tests.chaos.deeds            a minute on two cores

It must make all its steps, and each such answer must be counted as what it was: a timeout, a crash.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from oapl.tracking import rollouts
from tests.support.whole_runs import Run, write_recipe

FUNCTION = """
import ctypes, os, re, sys, time


def reward(prompt, response, reference):
    deeds = {"0": sleep, "1": spin, "2": fork, "3": eat, "4": shout, "5": leave}
    if prompt[0] in deeds:
        deeds[prompt[0]]()
    return 1.0


def sleep():
    time.sleep(1000)


def spin():
    ctypes.PyDLL(None).sleep(1000)


def fork():
    for _ in range(20):
        if os.fork() == 0:
            time.sleep(1000)


def eat():
    kept = []
    while True:
        kept.append(bytearray(64 * 2**20))


def shout():
    for _ in range(100):
        sys.stdout.write("x" * 2**20)
        sys.stdout.flush()


def leave():
    os._exit(0)
"""
DEEDS = {
    "0+": "sleeps",
    "1+": "spins in C",
    "2+": "forks",
    "3+": "takes memory",
    "4+": "prints 100 MB",
    "5+": "ends its process",
}
UNPUNISHED = ("2+", "4+")
"""May be allowed to give its reward: its children are ended with it, its output is thrown away."""
STEPS = 6


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="oapl-deeds-") as folder:
        work = Path(folder)
        recipe = write_recipe(work)
        (work / "deeds.py").write_text(FUNCTION)
        own = ("reward.verifiers.function=1.0", "reward.deadline_s=1.0", "reward.on_failure=-1.0")
        function = f"reward.options.function.function={work}/deeds.py:reward"
        many = ("learner.batch_size=64", f"run.max_steps={STEPS}", "tracking.store_groups=all")
        run = Run(recipe, "deeds", *own, function, *many)
        code, output = run.end(900)
        assert code == 0, output
        assert "Traceback" not in output, output
        assert run.steps() == list(range(1, STEPS + 1)), run.steps()
        left = run.left(60)
        assert left == [], left
        found: dict[str, Counter[str]] = {}
        for row in rollouts.read(run.folder):
            kinds = found.setdefault(row["prompt"][:2], Counter())
            (verdict,) = json.loads(row["verdicts"]).values()
            kinds[f"{verdict['kind']} {row['reward']:g}"] += 1
    wrong = [deed for start, deed in DEEDS.items() if start not in found]
    assert not wrong, f"never done: {wrong}"
    for start, kinds in sorted(found.items()):
        is_deed = start in DEEDS and start not in UNPUNISHED
        ends = {float(kind.rpartition(" ")[2]) for kind in kinds}
        assert ends == {-1.0 if is_deed else 1.0} or start in UNPUNISHED, (start, kinds)
    told = (f"{DEEDS[start]}: {[*found[start]]}" for start in DEEDS)
    print("; ".join(told))
    return 0


if __name__ == "__main__":
    sys.exit(main())
