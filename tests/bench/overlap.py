"""(d) Wall time of the asynchronous run, over the longer of generation alone and training alone.

    python -m tests.bench.overlap [MODEL]

L = 50, so that only publications and the ends of periods are not overlapped; else all three have
the settings of the quickstart's recipe. They make or train the same number of rollouts; each figure
is seconds per trained token. Alone means alone on the machine, with the same threads: generation is
the rollout pipeline of (a), training the trainer on batches of the same shape. With as many cores
as busy threads, the bar can be met; with fewer the two take turns, and `sum` shows what they would
take one after the other.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import numpy as np

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from actors.data import prompts
from actors.data.tokenizer import load_tokenizer
from deploy.processes.ray_cluster import start_local_ray
from deploy.run.program import train
from learner import trainer
from oapl import batching
from oapl.records import Credit, CreditedGroup
from tests.bench import table
from tests.bench.pipeline import configure, make_prompts, through_pipeline
from tests.support.makers import make_group

INTERVAL, MAX_LEAD, STEPS, TOKENS, GROUPS = 50, 5, 150, 32, 8
ROLLOUT = {"max_groups_in_flight": 64}
LEARNER = {"precision": "fp32", "micro_batch_tokens": 512, "row_tokens": 1}


def measure(model: Path, name: str) -> list[table.Row]:
    start_local_ray(num_cpus=2)
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    together, length = _together(folder, model)
    generation = _generation(folder, model)
    training = _training(folder, model, length)
    longer = max(generation, training)
    return [
        table.Row(
            what="(d) asynchronous run over the longer half alone",
            model=name,
            ours=1e6 * together,
            theirs=1e6 * longer,
            unit="us/token",
            ratio=together / longer,
            bar=1.25,
            at_least=False,
            parts={
                "generation alone": 1e6 * generation,
                "training alone": 1e6 * training,
                "sum": 1e6 * (generation + training),
                "cores": float(os.cpu_count() or 1),
            },
        )
    ]


def _together(folder: Path, model: Path) -> tuple[float, float]:
    """Seconds per trained token from the end of the first step to the last; mean length."""
    config = configure(
        folder,
        "overlap",
        model,
        make_prompts(folder / "overlap.jsonl", 256),
        TOKENS,
        run={"max_steps": STEPS},
        data={"epochs": 0},
        rollout=ROLLOUT,
        sync={"interval": INTERVAL, "max_lead": MAX_LEAD},
        learner=LEARNER,
        optimizer={"lr": 1e-9},
        checkpoint={"every_syncs": 0},
        tracking={"wandb": "off", "console": "off"},
    )
    train(config)
    lines = map(json.loads, (config.folder / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if "time/step_s" in line][1:]
    lengths = [step["rollout/length_mean"] for step in steps if "rollout/length_mean" in step]
    length = float(np.mean(lengths))
    seconds = sum(step["time/step_s"] for step in steps)
    return seconds / (len(steps) * GROUPS * 8 * length), length


def _generation(folder: Path, model: Path) -> float:
    problems = make_prompts(folder / "generation.jsonl", 512)
    config = configure(folder, "generation", model, problems, TOKENS, rollout=ROLLOUT)
    tokens, seconds = asyncio.run(through_pipeline(config))
    return seconds / tokens


def _training(folder: Path, model: Path, length: float) -> float:
    config = configure(
        folder,
        "training",
        model,
        folder / "generation.jsonl",
        TOKENS,
        learner=LEARNER,
        sync={"transport": "local"},
        cluster={"mode": "local"},
    )
    stream = prompts.build(config, load_tokenizer(str(model), trust_remote_code=False))
    learner = trainer.build(config)
    groups = []
    for index in range(GROUPS):
        prompt = stream.next()
        assert prompt is not None
        scored = make_group(
            [round(length)] * 8,
            prompt_length=len(prompt.token_ids),
            name=f"p{index}",
            seed=index,
        )
        groups.append(CreditedGroup(scored=scored, credit=Credit(values=scored.rewards - 0.5)))
    batch = batching.make_batch(
        groups, step=0, micro_batch_tokens=LEARNER["micro_batch_tokens"], row_tokens=1
    )
    learner.update(batch)
    started = time.monotonic()
    for _ in range(STEPS // 3):
        learner.update(batch)
    seconds = time.monotonic() - started
    learner.close()
    return seconds / (STEPS // 3 * batch.global_tokens)


if __name__ == "__main__":
    table.main(measure)
