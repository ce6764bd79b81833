"""What a person sees at the end of a run: before/after table, examples, how to go on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.run import evaluation_files, evaluation_report, spending
from deploy.run.evaluating import LABEL
from deploy.run.evaluation_files import ANSWERS
from deploy.run.outcome import Generated, RunOutcome
from learner.checkpoints.best import FOLDER, Best
from oapl.comparison import compare
from oapl.reports import before_and_after
from oapl.tracking.console import comparison_table
from oapl.tracking.lines import METRICS_FILE
from oapl.tracking.status import STOPPED_AT

Row = dict[str, Any]

EXIT_SIGNAL = 128
NUM_EXAMPLES = 3
TITLE = "before and after, same problems, same settings"
ASK = (
    'from transformers import pipeline; print(pipeline("text-generation", {model})'
    '({text}, return_full_text=False, clean_up_tokenization_spaces=False)[0]["generated_text"])'
)
"""Unless it is told, the pipeline asks a BPE tokenizer for a clean-up, which then warns of it."""


def exit_code(outcome: RunOutcome) -> int:
    """0, or 128 + the signal that stopped the run."""
    return EXIT_SIGNAL + outcome.signal if outcome.signal else 0


def report_generation(outcome: Generated) -> int:
    """Say what there is now, and how to train on it.

    Returns:
        The exit code: 0, or 128 + the signal that stopped it.
    """
    console, folder = Console(), seen_from_here(outcome.folder)
    lines = [f"{outcome.groups:,} of {outcome.total:,} groups are in {folder}"]
    if outcome.cause:
        lines.append(f"prompts failed (the first: {outcome.cause}); the same command tries again")
    elif outcome.groups < outcome.total:
        lines.append("the same command goes on")
    else:
        lines.append(f"train on them by replay.source=stored replay.path={shlex.quote(folder)}")
    console.print("; ".join(lines), highlight=False, soft_wrap=True)
    return EXIT_SIGNAL + outcome.signal if outcome.signal else 0


def report(outcome: RunOutcome) -> int:
    """Say how a run ended.

    Returns:
        The exit code: 0, or 128 + the signal that stopped it.
    """
    console = Console()
    if outcome.signal:
        for line in spending.told(outcome.folder):
            console.print(line, highlight=False, soft_wrap=True)
        line = "; ".join(filter(None, (f"{STOPPED_AT} {outcome.step}", outcome.next)))
        console.print(line, highlight=False, soft_wrap=True)
        return exit_code(outcome)
    if outcome.was_done:
        console.print(
            f"nothing to do: {outcome.folder.name} has made its {outcome.step} steps; raise "
            "run.max_steps to go on, or choose another run.name",
            highlight=False,
            soft_wrap=True,
        )
    if outcome.after:
        _print_compared(console, outcome)
    if outcome.next and not outcome.ended:  # run.max_hours are over
        console.print(outcome.next, highlight=False, soft_wrap=True)
    if (outcome.folder / "model").exists():  # of a run whose stages only generate there is none
        line = f"step {outcome.step}; trained model: {outcome.folder / 'model'}"
        console.print(line, style="bold")
    for line in spending.told(outcome.folder):
        console.print(line, highlight=False, soft_wrap=True)
    if (best := Best(outcome.folder)).step is not None:
        where = outcome.folder / FOLDER
        console.print(f"the best was step {best.step}, mean {best.score:.4f}: {where}")
    return 0


def show_evaluation(outcome: RunOutcome) -> int:
    """Print the figures of `oapl eval`.

    Returns:
        The exit code, as of `report`.
    """
    if not outcome.signal:
        answers = outcome.folder / ANSWERS / LABEL
        evaluation_report.show(evaluation_report.read(answers), Console())
    return exit_code(outcome)


def show(outcome: RunOutcome, wall_s: float) -> None:
    """Print the quickstart's last words.

    Args:
        outcome: Of both halves.
        wall_s: What the whole took.
    """
    console = Console()
    _print_compared(console, outcome)
    examples = _examples(outcome.folder / ANSWERS)
    for old, new in examples:
        console.print(
            f"\n{old['question']}   (reference answer {old['answer']})\n"
            f"  before  {_reward(old):.0f}  {_greedy(old)['text']}\n"
            f"  after   {_reward(new):.0f}  {_greedy(new)['text']}",
            highlight=False,
            markup=False,
        )
    _print_times(console, outcome, wall_s)
    commands = _commands(outcome, examples[0][1]["question"] if examples else None)
    console.print("\nto go on:", style="bold")
    console.print("\n".join(commands), highlight=False, markup=False, soft_wrap=True)


def _print_compared(console: Console, outcome: RunOutcome) -> None:
    """Before and after, how surely they differ, and how both were answered."""
    console.print(comparison_table(compare(outcome.before, outcome.after), TITLE))
    told = evaluation_files.told(evaluation_files.newest(outcome.folder / ANSWERS))
    for line in [*before_and_after(outcome.folder), *told]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _examples(folder: Path) -> list[tuple[Row, Row]]:
    """Problems whose greedy answer was wrong before and is right after, else the first ones."""
    rounds = sorted(folder.glob("step-*.jsonl"), key=_step)
    if len(rounds) < 2:
        return []
    first, last = ([json.loads(line) for line in r.open()] for r in (rounds[0], rounds[-1]))
    pairs = list(zip(first, last, strict=True))
    pairs.sort(key=lambda pair: -(_reward(pair[1]) - _reward(pair[0])))
    return pairs[:NUM_EXAMPLES]


def _step(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("step-"))


def _greedy(row: Row) -> Row:
    return row.get("greedy") or row["samples"][0]


def _reward(row: Row) -> float:
    return float(_greedy(row)["reward"] or 0.0)


def _print_times(console: Console, outcome: RunOutcome, wall_s: float) -> None:
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.phases.items())
    console.print(f"\nwall time {wall_s:.0f} s: {phases}", highlight=False)
    for line in spending.told(outcome.folder):
        console.print(line, highlight=False, soft_wrap=True)
    lines = [json.loads(line) for line in (outcome.folder / METRICS_FILE).open()]
    lines = [line for line in lines if "time/both_working_s" in line]  # where there were engines
    both = sum(line["time/both_working_s"] or 0.0 for line in lines)
    steps = sum(line.get("time/step_s") or 0.0 for line in lines)
    console.print(
        f"engines and learner worked at the same time for {both:.0f} of {steps:.0f} s of training",
        highlight=False,
    )


def _commands(outcome: RunOutcome, question: str | None) -> list[str]:
    """What may follow; asking the model is only shown with a question of the kind it has learned.

    Args:
        outcome: Of the reinforcement.
        question: One that was evaluated; None where none was.
    """
    oapl, folder = program(), shlex.quote(seen_from_here(outcome.folder))
    commands = [
        f"  {oapl} train {folder}/config.toml run.max_steps={outcome.made + 200}     # resume",
        f"  {oapl} train {folder}/config.toml run.name=mine model.path=MODEL 'stages=[]' \\",
        "      data.sources.0.path=MY.jsonl eval.sources.0.path=MY_TEST.jsonl \\",
        '      data.sources.0.verifiers="{math=1}" eval.sources.0.verifiers="{math=1}"'
        "     # own model and data",
        f"  {oapl} show {folder}     # rollouts, best and worst",
    ]
    if question is not None:
        model = seen_from_here(outcome.folder / "model")
        code = ASK.format(model=json.dumps(model), text=json.dumps(question + "\n"))
        python = shlex.quote(seen_from_here(Path(sys.executable)))
        commands.append(f"  {python} -c {shlex.quote(code)}     # ask it")
    return commands


def program() -> str:
    """How a person calls oapl here: by name where that is this one, else by path or as a module."""
    beside = Path(sys.executable).with_name("oapl")
    found = shutil.which("oapl")
    if found and beside.exists() and Path(found).samefile(beside):
        return "oapl"
    if os.access(beside, os.X_OK):
        return shlex.quote(seen_from_here(beside))
    return f"{shlex.quote(seen_from_here(Path(sys.executable)))} -m oapl"


def seen_from_here(path: Path) -> str:
    """A path as a person here would write it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
