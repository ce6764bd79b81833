"""What a person sees at the end of a run: before/after table, examples, how to go on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.run.outcome import RunOutcome
from oapl.comparison import compare
from oapl.tracking.console import comparison_table
from oapl.tracking.lines import METRICS_FILE
from oapl.tracking.status import STOPPED_AT

EXIT_SIGNAL = 128
NUM_EXAMPLES = 3
TITLE = "before and after, same problems, same settings"


def exit_code(outcome: RunOutcome) -> int:
    """0, or 128 + the signal that stopped the run."""
    return EXIT_SIGNAL + outcome.signal if outcome.signal else 0


def report(outcome: RunOutcome) -> int:
    """Say how a run ended.

    Returns:
        The exit code: 0, or 128 + the signal that stopped it.
    """
    console = Console()
    if outcome.signal:
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
        console.print(comparison_table(compare(outcome.before, outcome.after), TITLE))
    console.print(f"step {outcome.step}; trained model: {outcome.folder / 'model'}", style="bold")
    return 0


def show_evaluation(outcome: RunOutcome) -> int:
    """Print the figures of `oapl eval`.

    Returns:
        The exit code, as of `report`.
    """
    if not outcome.signal:
        Console().print(comparison_table(compare({}, outcome.after), "evaluation"))
    return exit_code(outcome)


def show(outcome: RunOutcome, wall_s: float) -> None:
    """Print the quickstart's last words.

    Args:
        outcome: Of its second half, the reinforcement.
        wall_s: What the whole took.
    """
    console = Console()
    console.print(comparison_table(compare(outcome.before, outcome.after), TITLE))
    for example in _examples(outcome.folder / "evaluations"):
        console.print(example, highlight=False, markup=False)
    _print_times(console, outcome, wall_s)
    _print_commands(console, outcome)


def _examples(folder: Path) -> Iterator[str]:
    """Problems whose greedy answer was wrong before and is right after, else the first ones."""
    rounds = sorted(folder.glob("step-*.jsonl"), key=_step)
    if len(rounds) < 2:
        return
    first, last = ([json.loads(line) for line in r.open()] for r in (rounds[0], rounds[-1]))
    pairs = list(zip(first, last, strict=True))
    pairs.sort(key=lambda pair: -(_reward(pair[1]) - _reward(pair[0])))
    for old, new in pairs[:NUM_EXAMPLES]:
        yield (
            f"\n{old['question']}   (reference answer {old['answer']})\n"
            f"  before  {_reward(old):.0f}  {_greedy(old)['text']}\n"
            f"  after   {_reward(new):.0f}  {_greedy(new)['text']}"
        )


def _step(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("step-"))


def _greedy(row: dict[str, Any]) -> dict[str, Any]:
    return row.get("greedy") or row["samples"][0]


def _reward(row: dict[str, Any]) -> float:
    return float(_greedy(row)["reward"] or 0.0)


def _print_times(console: Console, outcome: RunOutcome, wall_s: float) -> None:
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.phases.items())
    console.print(f"\nwall time {wall_s:.0f} s: {phases}", highlight=False)
    lines = [json.loads(line) for line in (outcome.folder / METRICS_FILE).open()]
    both = sum(line.get("time/both_working_s") or 0.0 for line in lines)
    steps = sum(line.get("time/step_s") or 0.0 for line in lines)
    console.print(
        f"engines and learner worked at the same time for {both:.0f} of {steps:.0f} s of training",
        highlight=False,
    )


def _print_commands(console: Console, outcome: RunOutcome) -> None:
    folder, here = outcome.folder, Path.cwd()
    if folder.is_relative_to(here):
        folder = folder.relative_to(here)
    console.print("\nto go on:", style="bold")
    console.print(
        f"  .venv/bin/oapl train {folder}/config.toml run.max_steps={outcome.step + 200}"
        "     # resume\n"
        f"  .venv/bin/oapl train {folder}/config.toml run.name=mine model.path=MODEL \\\n"
        "      data.sources.0.path=MY.jsonl eval.sources.0.path=MY_TEST.jsonl \\\n"
        '      data.sources.0.verifiers="{math=1}" eval.sources.0.verifiers="{math=1}"'
        "     # own model and data\n"
        f"  .venv/bin/oapl show {folder}     # rollouts, best and worst\n"
        f'  .venv/bin/python -c "from transformers import pipeline; '
        f"print(pipeline('text-generation', '{folder}/model')"
        "('Calculate 3 + 4 + 5.\\n', return_full_text=False)[0]['generated_text'])\"",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
