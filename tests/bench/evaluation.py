"""(m) `oapl eval` beside plain `LLM.generate`: 200 problems x 8 samples, rewards included.

    python -m tests.bench.evaluation [MODEL]

Ours is counted from the reading of the problems to the figures, every answer judged and stored:
all but the start of the engine; see `tests/bench/answering.py`. With a model as large as SmolLM2
answers are short and no turn is there to warm up, so that two quiet cores take some five minutes;
longer ones favour ours, which reads, judges and writes 1,600 of them whatever their length.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from tests.bench import pipeline, table
from tests.bench.answering import Bench, Settings, configure

PROBLEMS = 200
LARGE_TOKENS = 16
"""Longest answer of a model that is not small, where each token takes its time."""
NAME = "sums"


def measure(model: Path, name: str) -> list[table.Row]:
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    size, small = pipeline.size_of(model), pipeline.SIZES["small"]
    max_tokens = small[1] if size == small else LARGE_TOKENS
    return BENCH.measure(
        folder, model, name, PROBLEMS, max_tokens, warms_up=max_tokens != LARGE_TOKENS
    )


def _configure(settings: Settings, name: str) -> Any:
    return configure(
        settings,
        name,
        eval={
            "sources": [{"name": NAME, "path": settings["prompts"]}],
            "num_samples": pipeline.GROUP_SIZE,
            "as_rollouts": True,
            "greedy": False,
        },
    )


def _seconds_a_token(config: Any) -> float:
    from deploy.run.program import evaluate

    outcome = evaluate(config)
    per_answer = outcome.after[f"eval/{NAME}/length_mean"]
    return outcome.phases["evaluate"] / (per_answer * PROBLEMS * pipeline.GROUP_SIZE)


BENCH = Bench(
    module="tests.bench.evaluation",
    what="(m) oapl eval over LLM.generate, rewards included",
    configure=_configure,
    seconds_a_token=_seconds_a_token,
)

if __name__ == "__main__":
    BENCH.main(measure)
