"""The cells run one after the other; what ends one of them does not end the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.console import Console

from deploy.run import evaluation_files, folders
from deploy.run.evaluation_files import ANSWERS
from deploy.run.summary import EXIT_SIGNAL, seen_from_here
from deploy.sweeping import child, results
from deploy.sweeping.child import Signals
from deploy.sweeping.plan import Plan, Planned, reason
from deploy.sweeping.results import DONE, FAILED, OPEN, STOPPED, TABLE, Result

EXIT_FAILED = 1

Run = Callable[[Sequence[str], Signals], int]


def show(plan: Plan) -> None:
    """Print the grid, and what of it is done."""
    console = Console()
    for number, planned in enumerate(plan.cells, 1):
        state = "done" if planned.is_done else "to run"
        if planned.begun and not planned.is_done:
            state = f"goes on from step {planned.begun}"
        _say(console, f"{number}. {planned.cell}: {state}, in {planned.config.folder}")
    for line in plan.unchecked:
        _say(console, f"not checked: {line}")
    left = sum(not planned.is_done for planned in plan.cells)
    _say(console, f"{len(plan.cells)} cells, {left} to run")


def run(plan: Plan, *, stop_on_failure: bool = False, run_command: Run = child.run) -> int:
    """Run what is not done, print the table and write it.

    Args:
        plan: The cells, checked.
        stop_on_failure: Begin no further cell after one that failed.
        run_command: Runs one command of ours to its end; other than `child.run` in tests.

    Returns:
        The exit code: 0 where all cells are done, 1 where one failed, 128 + the signal that ended
        the sweep.

    Raises:
        InputError: Another process uses the folder.
    """
    console, signals = Console(), Signals()
    found: dict[str, Result] = {
        planned.cell.name: _result(plan, planned, DONE if planned.is_done else OPEN)
        for planned in plan.cells
    }
    with folders.locked(plan.folder), signals.handled():
        for number, planned in enumerate(plan.cells, 1):
            name, of = planned.cell.name, f"cell {number} of {len(plan.cells)}"
            if planned.is_done:
                _say(console, f"{of}, {planned.cell}: done before")
                continue
            if signals.first:
                break
            _say(console, f"{of}, {planned.cell}: begins in {planned.config.folder}")
            found[name] = _run_cell(plan, planned, signals, run_command)
            results.write(list(found.values()), plan.folder / TABLE)
            if found[name].outcome == FAILED:
                _say(console, f"{of}, {planned.cell}: failed: {found[name].why}")
                if stop_on_failure:
                    break
        results.write(list(found.values()), plan.folder / TABLE)
    return _tell(plan, list(found.values()), signals, console)


def _run_cell(plan: Plan, planned: Planned, signals: Signals, run_command: Run) -> Result:
    name, folder, began = planned.cell.name, planned.config.folder, time.time()
    results.note(plan.folder, cell=name, began=began)
    code = run_command(planned.words, signals)
    results.note(plan.folder, cell=name, seconds=time.time() - began)
    outcome = DONE if code == 0 else STOPPED if signals.first else FAILED
    why = "" if outcome != FAILED else reason(folder) or f"exit code {code}"
    return _result(plan, planned, outcome, why)


def _result(plan: Plan, planned: Planned, outcome: str, why: str = "") -> Result:
    seconds = results.seconds_of(plan.folder, planned.cell.name)
    if outcome == OPEN and planned.begun:
        outcome = STOPPED
    return results.read(planned.cell, planned.config.folder, outcome, seconds=seconds, why=why)


def _tell(plan: Plan, found: Sequence[Result], signals: Signals, console: Console) -> int:
    results.show(found, f"{plan.folder.name}: {len(found)} cells", console)
    for line in _answered(plan):
        _say(console, line)
    _say(console, f"the same with every figure: {seen_from_here(plan.folder / TABLE)}")
    left = sum(result.outcome != DONE for result in found)
    if left:
        _say(console, f"{left} of {len(found)} cells are not done; the same command goes on")
    if signals.first:
        return EXIT_SIGNAL + signals.first
    return EXIT_FAILED if left else 0


def _answered(plan: Plan) -> list[str]:
    """How the evaluations were answered that the scores are of: once, where all were alike."""
    told = {
        str(planned.cell): evaluation_files.told(evaluation_files.newest(folder))
        for planned in plan.cells
        if (folder := planned.config.folder / ANSWERS).is_dir()
    }
    if len(set(map(tuple, told.values()))) == 1:
        return next(iter(told.values()))
    return [f"{cell}: {line}" for cell, lines in told.items() for line in lines]


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)
