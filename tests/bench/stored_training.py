"""(l) Training from a stored set beside the bare learner loop on the same packed batches.

    python -m tests.bench.stored_training [MODEL]

Ours is a run's own loop, `replay.source = "stored"`: groups taken from the set, packed, sent to the
rank, which is a Ray actor, leases closed, metrics collected and written. Bare is
`learner.trainer.Trainer.update` in its own process on the batches of one pass, packed beforehand.
A turn is a pass over the set in its own order; the fastest turn of each. What of ours passes
outside the rank's update is told beside it: a machine's ups and downs may be larger than that.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from tests.bench import side, table
from tests.bench.learner_step import SMALL, parameters
from tests.bench.sides import Side, alternate

BAR = 0.97
GROUP_SIZE = side.GROUP_SIZE
SMALL_SIZE = {"groups": 8, "steps": 16, "rounds": 10}
LARGE_SIZE = {"groups": 1, "steps": 4, "rounds": 3}
"""Groups of a step, steps of a turn, turns that count."""


def measure(model: Path, name: str) -> list[table.Row]:
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    size = SMALL_SIZE if parameters(model) < SMALL else LARGE_SIZE
    settings = {"folder": str(folder), "model": str(model), **size}
    tokens = write_set(settings)
    found = alternate({kind: one_side(kind, settings) for kind in KINDS}, size["rounds"])
    ours, bare = (found[kind]["step"] for kind in ("ours", "bare"))
    assert abs(found["ours"]["loss"] / found["bare"]["loss"] - 1) < 1e-3, found
    return [
        table.Row(
            what="(l) training from a stored set over the bare learner loop",
            model=name,
            ours=tokens / ours,
            theirs=tokens / bare,
            unit="tokens/s",
            ratio=bare / ours,
            bar=BAR,
            parts={
                "ms a step more": 1000 * (ours - bare) / size["steps"],
                "ms a step outside the rank": 1000 * found["ours"]["outside"] / size["steps"],
            },
        )
    ]


def one_side(kind: str, settings: dict[str, Any]) -> Side:
    asked = json.dumps({**settings, "kind": kind})
    return Side(["-m", "tests.bench.stored_training", "--side", asked])


def write_set(settings: dict[str, Any]) -> int:
    """A set of one turn; its response and prompt tokens."""
    from actors.data.fingerprints import header_of
    from actors.data.tokenizer import load_tokenizer
    from oapl.groups_file import StoredGroup, Writer

    config = configure(settings)
    header = header_of(
        config, load_tokenizer(settings["model"]), made_by="generate", logprobs="sampled"
    )
    groups = [side.drawn_group(index) for index in range(settings["groups"] * settings["steps"])]
    with Writer(Path(config.replay.path[0]), header) as writer:
        for scored in groups:
            writer.add(StoredGroup.from_scored(scored))
    prompts = sum(GROUP_SIZE * len(scored.group.prompt.token_ids) for scored in groups)
    return prompts + sum(scored.group.num_tokens for scored in groups)


def configure(settings: dict[str, Any]) -> Any:
    from oapl.config import RunConfig

    folder = settings["folder"]
    return RunConfig(
        run={"dir": folder, "name": "trained", "max_steps": 10**6},
        model={"path": settings["model"], "dtype": "float32"},
        replay={"source": "stored", "path": (f"{folder}/set",)},
        data={"shuffle": False},
        objective={"name": "oapl", "beta2": 0.1},
        learner={
            "batch_size": settings["groups"] * GROUP_SIZE,
            "precision": "fp32",
            "micro_batch_tokens": 2048,
            "row_tokens": 1,
        },
        optimizer={"lr": 1e-6},
        sync={"interval": 10**6},
        checkpoint={"every_syncs": 0},
        tracking={"console": "off", "wandb": "off"},
    )


def ours(settings: dict[str, Any]) -> side.Step:
    """The run's own loop, a pass further at each turn."""
    from deploy.processes.ray_cluster import start_local_ray

    start_local_ray(num_cpus=2)
    config, loop = configure(settings), asyncio.new_event_loop()
    run, processes = loop.run_until_complete(_start(config))

    def step() -> dict[str, float]:
        began = time.perf_counter()
        loop.run_until_complete(_learn(config, run, settings["steps"]))
        took = time.perf_counter() - began
        assert processes, "they end with what holds them"
        lines = (config.folder / "metrics.jsonl").read_text().splitlines()[-settings["steps"] :]
        made = [json.loads(line) for line in lines]
        in_rank = sum(line["time/forward_backward_s"] for line in made)
        return {"loss": made[-1]["loss/total"], "outside": took - in_rank}

    return step


async def _start(config: Any) -> Any:
    """The parts of a run, and what holds its processes."""
    from deploy.checks.preflight import preflight
    from deploy.run import folders, parts, restarts
    from deploy.run.attempts import Attempts
    from deploy.run.lifetime import processes_of
    from deploy.run.signals import Stop
    from oapl.tracking.tracker import build_tracker

    preflight(config)
    config.folder.mkdir()
    config = folders.prepare(config)
    attempts = Attempts(restarts=restarts.of_the_run(config), resume=None)
    held, tracker = processes_of(config, Stop()), build_tracker(config, config.folder, 0)
    return await parts.start(config, await held.__aenter__(), tracker, attempts), held


async def _learn(config: Any, run: Any, steps: int) -> None:
    from oapl.loops import learn

    await learn(
        run.learner,
        replay=run.replay,
        groups_per_step=config.groups_per_step,
        interval=config.sync.interval,
        max_steps=run.learner.step + steps,
        timeout_s=config.sync.timeout_s,
        stop=asyncio.Event(),
    )


def bare(settings: dict[str, Any]) -> side.Step:
    """Nothing but the rank's updates, of batches that lie ready."""
    from deploy.run.batches import build_stored
    from learner import trainer
    from oapl import batching

    config = configure(settings)
    learner, stored = trainer.build(config), build_stored(config)
    packed = partial(batching.make_batch, step=0, micro_batch_tokens=2048, row_tokens=1)
    batches = [packed(stored.draw(config.learner.batch_size)) for _ in range(settings["steps"])]

    def step() -> dict[str, float]:
        for batch in batches:
            metrics = learner.update(batch)
        return {"loss": metrics["loss/total"]}

    return step


KINDS = {"ours": ours, "bare": bare}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        given = json.loads(sys.argv[2])
        side.serve(lambda: KINDS[given["kind"]](given))
    else:
        table.main(measure)
