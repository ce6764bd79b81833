"""`make recipes`: every toy twin of a published recipe, one after the other, by its own commands.

    python -m tests.recipes [TOY ...]

Makes the data and the model that they begin with (build/toys), and ends with a table, also
build/toys/recipes.csv. The same command skips what is done, goes on where it was ended, and begins
a twin anew whose settings have changed. Exit code 1 where one failed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.recipes import toy_judge, toys
from deploy.sweeping import child, results
from deploy.sweeping.child import Signals
from deploy.sweeping.grid import Cell
from deploy.sweeping.plan import changes, is_done, reason
from deploy.sweeping.results import DONE, FAILED, STOPPED, Result
from oapl.config import RunConfig
from oapl.config.toml import load_config
from tests.support.paper_recipes import FOLDER
from tests.support.toy_recipes import STARTS, TOYS, commands_of

PLACE = Path("build/toys")
NEEDS = {"pcl_offline_rl_toy": "pcl_sft_toy"}
"""Whose model a twin begins with, where it is not the start."""


def main() -> int:
    asked = asked_for(sys.argv[1:])
    console, signals = Console(), Signals()
    toys.make(PLACE)
    found = []
    with toy_judge.served(toy_judge.judge, toy_judge.PORT), signals.handled():
        for toy in _in_order(asked):
            if signals.first:
                break
            found.append(_run(toy, signals, console))
            if found[-1].why:
                console.print(f"{toy} failed: {found[-1].why}", markup=False, soft_wrap=True)
    results.show(found, "toy twins of published recipes", console)
    results.write(found, PLACE / "recipes.csv")
    if signals.first:
        return 128 + signals.first
    return int(any(result.outcome != DONE for result in found))


def asked_for(words: Sequence[str]) -> Sequence[str]:
    """The twins that a command line names: all where it names none.

    argparse itself takes the empty list for a wrong choice.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.recipes")
    parser.add_argument("toys", metavar="TOY", nargs="*", help="default: all of them")
    toys = parser.parse_args(words).toys
    if unknown := [toy for toy in toys if toy not in TOYS]:
        parser.error(f"there is no twin {', '.join(unknown)}; there are {', '.join(TOYS)}")
    return toys or TOYS


def _in_order(asked: Sequence[str]) -> list[str]:
    """What the others begin with comes first."""
    needed = [NEEDS[toy] for toy in asked if toy in NEEDS]
    return list(dict.fromkeys([*STARTS, *needed, *asked]))


def _run(toy: str, signals: Signals, console: Console) -> Result:
    config = load_config(FOLDER / f"{toy}.toml")
    if changes(config):
        console.print(f"{toy} has changed, and begins anew", markup=False)
        shutil.rmtree(config.folder)
    code = 0 if is_done(config) else _commands(toy, config, signals, console)
    outcome = DONE if code == 0 else STOPPED if signals.first else FAILED
    why = (reason(config.folder) or f"exit code {code}") if outcome == FAILED else ""
    seconds = results.seconds_of(config.folder.parent, config.folder.name)
    cell = Cell(name=toy, settings={"recipe": toy}, overrides=())
    return results.read(cell, config.folder, outcome, seconds=seconds, why=why)


def _commands(toy: str, config: RunConfig, signals: Signals, console: Console) -> int:
    """Run the twin's commands up to the first that fails; returns the last exit code."""
    runs, name = config.folder.parent, config.folder.name
    runs.mkdir(exist_ok=True)
    for command in commands_of(FOLDER / f"{toy}.toml"):
        if command[0] == "filter" and Path(command[command.index("--out") + 1]).exists():
            continue  # it is whole
        console.print(f"oapl {' '.join(command)}", style="bold", markup=False, soft_wrap=True)
        began = time.time()
        results.note(runs, cell=name, began=began)
        code = child.run(command, signals)
        results.note(runs, cell=name, seconds=time.time() - began)
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
