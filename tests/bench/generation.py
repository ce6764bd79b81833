"""(k) `oapl generate` beside plain `LLM.generate`: tokens per second, rewards and shards included.

    python -m tests.bench.generation [MODEL]

Ours is the command's own work, from the first prompt that is handed out to the last whole shard:
queue, engine, log-probs, rewards, groups stored. Plain is `vllm.LLM.generate` on the same prompts,
with log-probs and the same engine settings, and nothing else. Both are processes of their own, each
engine on one thread, in turn; the fastest turn of each.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from tests.bench import pipeline, side, table
from tests.bench.sides import Side, alternate

ROUNDS = 2
"""Turns that count, after one to warm up: a turn is minutes with a large model."""
BAR = 0.95


def measure(model: Path, name: str) -> list[table.Row]:
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    num_prompts, max_tokens = pipeline.size_of(model)
    settings = {
        "folder": str(folder),
        "model": str(model),
        "prompts": str(pipeline.make_prompts(folder / "prompts.jsonl", num_prompts)),
        "max_tokens": max_tokens,
    }
    found = alternate({kind: one_side(kind, settings) for kind in KINDS}, ROUNDS)
    ours, plain = (1 / found[kind]["seconds_a_token"] for kind in ("ours", "plain"))
    return [
        table.Row(
            what="(k) oapl generate over LLM.generate, rewards included",
            model=name,
            ours=ours,
            theirs=plain,
            unit="tokens/s",
            ratio=ours / plain,
            bar=BAR,
        )
    ]


def one_side(kind: str, settings: dict[str, Any]) -> Side:
    return Side(["-m", "tests.bench.generation", "--side", json.dumps({**settings, "kind": kind})])


def ours(settings: dict[str, Any]) -> side.Step:
    """Each turn is the command's work in a run folder of its own."""
    from deploy.processes.launch import start_local_ray
    from deploy.run.generation import generate

    start_local_ray(num_cpus=2)
    turns = iter(range(1000))

    def step() -> dict[str, float]:
        outcome = generate(_config(settings, f"generated-{next(turns)}"))
        assert outcome.groups == outcome.total, outcome.cause
        return {"seconds_a_token": outcome.seconds / outcome.tokens}

    return step


def plain(settings: dict[str, Any]) -> side.Step:
    """Each turn is a call of `LLM.generate`."""
    engine = pipeline.PlainEngine(_config(settings, "plain"), Path(settings["prompts"]))

    def step() -> dict[str, float]:
        tokens, seconds = engine.generate()
        return {"seconds_a_token": seconds / tokens}

    return step


KINDS = {"ours": ours, "plain": plain}


def _config(settings: dict[str, Any], name: str) -> Any:
    return pipeline.configure(
        Path(settings["folder"]),
        name,
        Path(settings["model"]),
        Path(settings["prompts"]),
        settings["max_tokens"],
        rollout={"max_groups_in_flight": 64},
        tracking={"console": "off", "wandb": "off"},
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        given = json.loads(sys.argv[2])
        side.serve(lambda: KINDS[given["kind"]](given))
    else:
        table.main(measure)
