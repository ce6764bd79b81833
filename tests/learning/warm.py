"""The quickstart's two halves with fewer steps: what the learning test and its seeds run."""

from __future__ import annotations

import json
from pathlib import Path

from deploy.commands import quickstart
from deploy.run import program
from oapl.config import RunConfig
from oapl.config.toml import load_config

STEPS = 100
SET = "sums"


def configure(folder: Path, seed: int, *overrides: str) -> RunConfig:
    return load_config(
        quickstart.RECIPES / "cpu_quickstart.toml",
        [
            *quickstart.placeholders(),
            f"run.dir={json.dumps(str(folder))}",
            f"run.name=seed-{seed}",
            f"run.seed={seed}",
            f"run.max_steps={STEPS}",
            'tracking.wandb="off"',
            *overrides,
        ],
    )


def warm_start(folder: Path) -> tuple[Path, Path]:
    """Problems and a model that adds right two times in three; shared by all seeds.

    Returns:
        The folder of problems and the model's.

    Raises:
        KeyboardInterrupt: A signal ended it before its end.
    """
    config = configure(folder, 0, "run.name=warm")
    start = quickstart.prepare(config.folder / "start", seed=0)
    outcome = program.train(quickstart.imitation(config, start))
    if outcome.signal:
        raise KeyboardInterrupt
    return start, outcome.folder / "model"


def reinforce(folder: Path, start: Path, model: Path, seed: int, *overrides: str) -> list[float]:
    """Train from the warm start; mean@8 before and after, read from metrics.jsonl."""
    config = quickstart.reinforcement(configure(folder, seed, *overrides), start, model)
    program.train(config)
    lines = map(json.loads, (config.folder / "metrics.jsonl").read_text().splitlines())
    name = f"eval/{SET}/mean@8"
    return [line[name] for line in lines if name in line]
