"""(k) `oapl generate` beside plain `LLM.generate`: tokens per second, rewards and shards included.

    python -m tests.bench.generation [MODEL]

Ours is counted from the first prompt that is handed out to the last whole shard; see
`tests/bench/answering.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from tests.bench import pipeline, table
from tests.bench.answering import Bench, Settings, configure


def measure(model: Path, name: str) -> list[table.Row]:
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    return BENCH.measure(folder, model, name, *pipeline.size_of(model))


def _configure(settings: Settings, name: str) -> Any:
    return configure(settings, name, rollout={"max_groups_in_flight": 64})


def _seconds_a_token(config: Any) -> float:
    from deploy.run.generation import generate

    outcome = generate(config)
    assert outcome.groups == outcome.total, outcome.cause
    return outcome.seconds / outcome.tokens


BENCH = Bench(
    module="tests.bench.generation",
    what="(k) oapl generate over LLM.generate, rewards included",
    configure=_configure,
    seconds_a_token=_seconds_a_token,
)

if __name__ == "__main__":
    BENCH.main(measure)
