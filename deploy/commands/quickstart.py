"""The first look: a small transformer learns sums, end to end, on two cores.

Makes a model, its tokenizer and worked solutions; imitates them (SFT); evaluates; trains with
asynchronous OAPL; evaluates again; prints what changed. Every part is the one that a cluster runs.

The task: add five to seven numbers. The warm start has seen each problem either worked in steps
(`3+4=7;7+5=12;\\boxed{12}`) or, a little more often, terse (`\\boxed{12}`). It is right mostly when
it works in steps; what reinforcement has to find out is that working in steps pays.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.commands import _shared
from deploy.recipes import sums
from oapl.config import RunConfig
from oapl.errors import InputError

if TYPE_CHECKING:
    from deploy.run.program import RunOutcome

HELP = "the first look: a tiny model learns sums"
RECIPES = Path(__file__).parents[1] / "recipes"
TERMS = {"min_terms": 5, "max_terms": 7}
TERSE_SHARE = 0.6
SIZES = {"sft": 6000, "train": 8000, "eval": 256}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    _shared.add_overrides(parser)


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.run.summary import exit_code

    return exit_code(quickstart(options.overrides))


def quickstart(overrides: Sequence[str]) -> RunOutcome:
    """Run the whole tour; `overrides` apply to both halves, but for what the first one says itself.

    Raises:
        InputError: The run folder holds an earlier run.
    """
    from deploy.run import program, stage_record, summary

    started = time.monotonic()
    config = load([*placeholders(), *overrides])
    folder = config.folder
    if any((folder / name).exists() for name in ("checkpoints", stage_record.FILE)):
        raise InputError(
            f"{folder} holds an earlier run; go on with it by "
            f"`oapl train {folder}/config.toml run.max_steps=N`, or choose another run.name"
        )
    start = prepare(folder / "start", config.run.seed)
    made_s = time.monotonic() - started
    outcome = program.train(load([*made(start), *overrides]))
    phases = {"make data": made_s, **outcome.phases}
    outcome = dataclasses.replace(outcome, phases=phases)
    if not outcome.signal:
        summary.show(outcome, time.monotonic() - started)
    return outcome


def load(overrides: Sequence[str]) -> RunConfig:
    """Read the recipe of both halves."""
    from oapl.config.toml import load_config

    return load_config(RECIPES / "cpu_quickstart.toml", overrides)


def placeholders() -> list[str]:
    """Overrides that let the recipe load before its model and data are made."""
    return _places("made-by-quickstart", "-", "-", "-")


def made(start: Path) -> list[str]:
    """Overrides that name model and data.

    Args:
        start: What `prepare` has made.
    """
    files = (str(start / f"{name}.jsonl") for name in ("train", "eval", "sft"))
    return _places(str(start / "model"), *files)


def _places(model: str, train: str, exam: str, worked: str) -> list[str]:
    named = {
        "model.path": model,
        "data.sources.0.path": train,
        "eval.sources.0.path": exam,
        "stages.0.data.sources.0.path": worked,
    }
    return [f"{key}={json.dumps(path)}" for key, path in named.items()]


def imitation(config: RunConfig, start: Path) -> RunConfig:
    """The first half alone, as a run in the folder of the whole.

    Args:
        config: Of the whole; gives seed, folder and console.
        start: What `prepare` has made.
    """
    from deploy.checks.handing_over import ready
    from oapl.config.stages import stages_of

    whole = load(
        [
            *made(start),
            f"run.seed={config.run.seed}",
            f"tracking.console={json.dumps(config.tracking.console)}",
        ]
    )
    stages = stages_of(whole)
    half = ready(stages, stages[0])
    run = dataclasses.replace(half.run, dir=str(config.folder), name="sft")
    return dataclasses.replace(half, run=run)


def reinforcement(config: RunConfig, start: Path, model: Path) -> RunConfig:
    """The second half alone: OAPL on the problems under `start`.

    Args:
        config: Of the whole, with placeholders for model and data.
        start: What `prepare` has made.
        model: What the first half has trained.
    """

    def with_path(source: Any, name: str) -> Any:
        return dataclasses.replace(source, path=str(start / f"{name}.jsonl"))

    sources = (with_path(config.data.sources[0], "train"),)
    exams = (with_path(config.eval.sources[0], "eval"),)
    return dataclasses.replace(
        config,
        stages=(),
        model=dataclasses.replace(config.model, path=str(model)),
        data=dataclasses.replace(config.data, sources=sources),
        eval=dataclasses.replace(config.eval, sources=exams),
    )


def prepare(folder: Path, seed: int) -> Path:
    """Write problems, worked solutions, the tokenizer and an untrained model.

    Args:
        folder: Gets `train.jsonl`, `eval.jsonl`, `sft.jsonl` and `model/`.
        seed: Of problems, solutions and weights.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    problems = sums.problems(seed, **TERMS)
    chance = random.Random(seed)
    rows: dict[str, list[dict[str, Any]]] = {
        name: [next(problems) for _ in range(size)] for name, size in SIZES.items()
    }
    for row in rows["sft"]:
        row["response"] = _solution(row, chance.random() < TERSE_SHARE)
    for name, lines in rows.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    texts = [f"{row['prompt']}\n{row['response']}" for row in rows["sft"]]
    sums.make_model(folder / "model", texts, seed)
    return folder


def _solution(row: dict[str, Any], is_terse: bool) -> str:
    return ("" if is_terse else sums.steps(row)) + f"\\boxed{{{row['answer']}}}"
