"""(h) Wall time of a learner step of the quickstart's RL phase, beside TRL's GRPOTrainer.

    python -m tests.bench.trl_step [RUN]

RUN is the folder of a finished quickstart; without one its warm start is made first (4 minutes).
Ours is the quickstart's second half as it stands, and again with objective grpo, publication every
10 steps included, evaluations and checkpoints left out. TRL gets the same model, prompts, batch,
group size, token limit, learning rate and both cores; it is installed by name into a folder of its
own over the pinned set, and generates with transformers on two threads. The first period of each is
left out. Last, the training of a grpo step alone, without generation: both train on the rollouts of
TRL's first step, in processes of their own, with one thread each and with two, in turn, the fastest
of thirty.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.commands import quickstart
from deploy.run.program import train
from oapl.config import RunConfig
from tests.bench import table
from tests.bench.sides import ROOT, Side, alternate, side
from tests.learning import warm

TRL = "trl==1.16.0"
STEPS = 60


def measure(model: Path, name: str) -> list[table.Row]:
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    if (model / "start").is_dir():
        start, model = model / "start", model / "stages" / "imitate" / "model"
    else:
        start, model = warm.warm_start(folder)
    config = quickstart.reinforcement(_configure(folder), start, model)
    config = replace(config, eval=replace(config.eval, sources=()))
    install(folder)
    settings = write_settings(folder, config)
    theirs = trl_seconds(folder, settings)
    rows = [
        _whole_step(objective, our_seconds(_with_objective(config, objective)), theirs)
        for objective in ("oapl", "grpo")
    ]
    return rows + [training_alone(folder, settings, model, threads) for threads in (1, 2)]


def _with_objective(config: RunConfig, name: str) -> RunConfig:
    objective = config.objective if config.objective["name"] == name else {"name": name}
    run = replace(config.run, name=f"ours-{name}")
    return replace(config, objective=objective, run=run)


def _whole_step(objective: str, ours: dict[str, float], theirs: dict[str, float]) -> table.Row:
    parts = {name: value for name, value in ours.items() if name != "step"}
    parts |= {f"TRL's {name}": value for name, value in theirs.items() if name != "step"}
    return table.Row(
        what=f"(h) seconds of a learner step of {objective} over TRL's GRPOTrainer",
        model="quickstart, warm",
        ours=ours["step"],
        theirs=theirs["step"],
        unit="s",
        ratio=ours["step"] / theirs["step"],
        bar=0.70,
        at_least=False,
        parts=parts,
    )


def training_alone(folder: Path, settings: Path, model: Path, threads: int) -> table.Row:
    rollouts = folder / f"trl-rollouts-{threads}.json"
    theirs = Side(
        ["-m", "tests.bench.trl_reference", str(settings), str(rollouts)],
        environment=_environment(folder, threads),
    )
    ours = side(
        kind="ours",
        model=str(model),
        objective={"name": "grpo"},
        rollouts=str(rollouts),
        threads=threads,
        micro_batch_tokens=512,  # the quickstart's
    )
    found = alternate({"ours": ours, "theirs": theirs})
    seconds = {name: one["step"] for name, one in found.items()}
    return table.Row(
        what=f"(h) training alone of a step of grpo over TRL's GRPOTrainer, threads: {threads}",
        model="quickstart, warm",
        ours=1000 * seconds["ours"],
        theirs=1000 * seconds["theirs"],
        unit="ms",
        ratio=seconds["ours"] / seconds["theirs"],
        bar=0.70,
        at_least=False,
    )


def _configure(folder: Path) -> RunConfig:
    return warm.configure(
        folder,
        0,
        f"run.max_steps={STEPS}",
        "checkpoint.every_syncs=0",
        'tracking.console="off"',
    )


def our_seconds(config: RunConfig) -> dict[str, float]:
    train(config)
    lines = map(json.loads, (config.folder / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if "time/step_s" in line][config.sync.interval :]
    names = {
        "step": "time/step_s",
        "wait": "time/wait_for_batch_s",
        "forward and backward": "time/forward_backward_s",
        "publish": "time/publish_s",
    }
    parts = {
        short: sum(step.get(name, 0.0) for step in steps) / len(steps)
        for short, name in names.items()
    }
    for name in ("rollout/length_mean", "reward/mean"):
        parts[name] = statistics.mean(step[name] for step in steps if name in step)
    return parts


def install(folder: Path) -> None:
    target = str(folder / "trl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
    subprocess.run([*pip, TRL], check=True)


def write_settings(folder: Path, config: RunConfig) -> Path:
    settings = folder / "trl.json"
    values: dict[str, Any] = {
        "model": config.model.path,
        "prompts": config.data.sources[0].path,
        "folder": str(folder / "trl-out"),
        "steps": STEPS,
        "warm_up": config.sync.interval,
        "batch_size": config.learner.batch_size,
        "group_size": config.rollout.group_size,
        "max_tokens": config.rollout.max_tokens,
        "lr": config.optimizer.lr,
    }
    settings.write_text(json.dumps(values))
    return settings


def trl_seconds(folder: Path, settings: Path) -> dict[str, float]:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.bench.trl_reference", str(settings)],
        env={**os.environ, **_environment(folder)},
        check=True,
        capture_output=True,
        text=True,
    )
    parts: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return parts


def _environment(folder: Path, threads: int = 2) -> dict[str, str]:
    path = os.pathsep.join([str(folder / "trl"), str(ROOT)])
    return {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": path}


if __name__ == "__main__":
    table.main(measure)
