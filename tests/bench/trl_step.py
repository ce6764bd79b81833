"""(h) Wall time of a learner step of the quickstart's RL phase, beside TRL's GRPOTrainer.

    python -m tests.bench.trl_step [RUN]

RUN is the folder of a finished quickstart; without one its warm start is made first (4 minutes).
Ours is the quickstart's second half as it stands, publication every 10 steps included, evaluations
and checkpoints left out. TRL gets the same model, prompts, batch, group size, token limit, learning
rate and both cores; it is installed by name into a folder of its own over the pinned set, and
generates with transformers on two threads. The first period of each is left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.commands import quickstart
from deploy.run.program import train
from oapl.config import RunConfig
from tests.bench import table
from tests.learning import warm

TRL = "trl==1.16.0"
STEPS = 60


def measure(model: Path, name: str) -> list[table.Row]:
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    if (model / "start").is_dir():
        start, model = model / "start", model / "sft" / "model"
    else:
        start, model = warm.warm_start(folder)
    config = quickstart.reinforcement(_configure(folder), start, model)
    config = replace(config, eval=replace(config.eval, sources=()))
    their_parts = trl_seconds(folder, config)
    our_parts = our_seconds(config)
    ours, theirs = our_parts.pop("step"), their_parts.pop("step")
    return [
        table.Row(
            what="(h) seconds of a learner step over TRL's GRPOTrainer",
            model="quickstart, warm",
            ours=ours,
            theirs=theirs,
            unit="s",
            ratio=ours / theirs,
            bar=0.70,
            at_least=False,
            parts={**our_parts, **{f"TRL's {name}": value for name, value in their_parts.items()}},
        )
    ]


def _configure(folder: Path) -> RunConfig:
    return warm.configure(
        folder,
        0,
        "run.name=ours",
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


def trl_seconds(folder: Path, config: RunConfig) -> dict[str, float]:
    target, settings = folder / "trl", folder / "trl.json"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, TRL], check=True)
    settings.write_text(
        json.dumps(
            {
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
        )
    )
    path = os.pathsep.join([str(target), str(Path(__file__).parents[2])])
    answer = subprocess.run(
        [sys.executable, "-m", "tests.bench.trl_reference", str(settings)],
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    parts: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return parts


if __name__ == "__main__":
    table.main(measure)
