"""(h) Wall time of a learner step of the quickstart's RL phase, beside TRL's GRPOTrainer.

    python -m tests.bench.trl_step [MODEL]

Same model, prompts, batch (64 rollouts), group size, token limit, and both cores. TRL is installed
by name into a folder of its own over the pinned set; it generates with transformers, on two
threads. Ours is the whole program on Ray, publication every 10 steps included; the first period of
each is left out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.program import train
from oapl.config import RunConfig
from tests.bench import table
from tests.bench.pipeline import make_prompts

TRL = "trl==1.16.0"
STEPS, WARM_UP, TOKENS, INTERVAL = 60, 10, 22, 10


def measure(model: Path, name: str) -> list[table.Row]:
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    prompts = make_prompts(folder / "trl-prompts.jsonl", 256)
    theirs = trl_seconds(folder, model, prompts)
    ours, parts = our_seconds(folder, model, prompts)
    return [
        table.Row(
            what="(h) seconds of a learner step over TRL's GRPOTrainer",
            model=name,
            ours=ours,
            theirs=theirs,
            unit="s",
            ratio=ours / theirs,
            bar=0.70,
            at_least=False,
            parts=parts,
        )
    ]


def our_seconds(folder: Path, model: Path, prompts: Path) -> tuple[float, dict[str, float]]:
    config = RunConfig(
        run={"dir": str(folder), "name": "trl-ours", "max_steps": STEPS},
        model={"path": str(model), "dtype": "float32"},
        data={"sources": [{"name": "sums", "path": str(prompts)}]},
        rollout={
            "group_size": 8,
            "max_tokens": TOKENS,
            "max_groups_in_flight": 32,
            "engine_options": {"max_num_seqs": 256},
        },
        optimizer={"lr": 1e-6},
        learner={"precision": "fp32", "micro_batch_tokens": 2048, "row_tokens": 1},
        sync={"interval": INTERVAL},
        checkpoint={"every_syncs": 0},
        tracking={"wandb": "off", "console": "off"},
    )
    train(config)
    lines = map(json.loads, (config.folder / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if "time/step_s" in line][WARM_UP:]
    names = ("time/wait_for_batch_s", "time/forward_backward_s", "time/publish_s")
    parts = {name: sum(step.get(name, 0.0) for step in steps) / len(steps) for name in names}
    parts["rollout/length_mean"] = statistics.mean(
        step["rollout/length_mean"] for step in steps if "rollout/length_mean" in step
    )
    return statistics.mean(step["time/step_s"] for step in steps), parts


def trl_seconds(folder: Path, model: Path, prompts: Path) -> float:
    target = folder / "trl"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
    subprocess.run([*pip, TRL], check=True)
    arguments = map(str, (model, prompts, STEPS, TOKENS, folder / "trl-out"))
    path = os.pathsep.join([str(target), str(Path(__file__).parents[2])])
    answer = subprocess.run(
        [sys.executable, "-m", "tests.bench.trl_reference", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": path},
        check=True,
        capture_output=True,
        text=True,
    )
    seconds: list[float] = json.loads(answer.stdout.splitlines()[-1])
    return statistics.mean(seconds[WARM_UP - 1 :])


if __name__ == "__main__":
    table.main(measure)
