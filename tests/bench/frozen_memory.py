"""(l) Memory of a frozen policy: its weights, or at stage 3 this rank's part of them, no more.

    python -m tests.bench.frozen_memory

With a model of 42M parameters: by how much two ranks grow when each takes a copy, at every ZeRO
stage; the fullest moment of steps with a reference and its passes, less that of steps without, each
in a process of its own; and what sizing says of a rank with a reference.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from deploy.processes.ray_cluster import start_local_ray
from tests.bench import table
from tests.bench.sides import Side, alternate, side
from tests.support import measured, ranks
from tests.support.makers import make_wide_model

WITHOUT = {"name": "grpo"}
WITH = {"name": "grpo", "kl_coefficient": 1e-3}
MIB = 2**20
NAME = "42M"


def measure(model: Path, name: str) -> list[table.Row]:
    folder = Path(os.environ["OAPL_BENCH_FOLDER"])
    model = make_wide_model(folder / "wide")
    rows = copies(folder, model)
    weights = rows[0].theirs
    return [*rows, in_steps(model, weights), foretold(model)]


def copies(folder: Path, model: Path) -> list[table.Row]:
    ray = start_local_ray(num_cpus=4)
    configs = [ranks.config_of(model, zero_stage=stage, num_ranks=2) for stage in range(4)]
    answers = ranks.run(folder, 2, [("copy", config) for config in configs])
    ray.shutdown()
    return [_copy(stage, found) for stage, found in enumerate(answers)]


def _copy(stage: int, found: list[dict[str, int]]) -> table.Row:
    """Of the rank that took most: its tensors, or more, if it grew by more than they take. It grows
    by less where the heap had room from before."""
    grown, tensors = (max(one[key] for one in found) for key in ("grown", "tensors"))
    taken = max(grown, tensors)
    part = found[0]["weights"] / (2 if stage == 3 else 1)
    whose = "its part of the weights" if stage == 3 else "the weights"
    return table.Row(
        what=f"(l) memory of a frozen policy at stage {stage}, two ranks, over {whose}",
        model=NAME,
        ours=taken / MIB,
        theirs=part / MIB,
        unit="MiB",
        ratio=taken / part,
        bar=1.02,
        at_least=False,
        parts={"its tensors": tensors / MIB, "growth": grown / MIB},
    )


def in_steps(model: Path, weights: float) -> table.Row:
    def ours(**settings: Any) -> Side:
        return side(kind="ours", model=str(model), groups=1, **settings)

    found = alternate(
        {
            "with": ours(objective=WITH, prepares=True),
            "without": ours(objective=WITHOUT, prepares=False),
        },
        rounds=2,
    )
    peaks = {name: one["peak_bytes"] / MIB for name, one in found.items()}
    more = peaks["with"] - peaks["without"]
    return table.Row(
        what="(l) peak of steps with a reference, less without, over the weights",
        model=NAME,
        ours=more,
        theirs=weights,
        unit="MiB",
        ratio=more / weights,
        bar=1.05,
        at_least=False,
        parts=peaks,
    )


def foretold(model: Path) -> table.Row:
    expected = measured.foretell("learner", model, "float32", WITH).total
    found = measured.measure("learner", model, "float32", WITH)
    return table.Row(
        what="(l) sizing of a rank with a reference, the larger over the smaller",
        model=NAME,
        ours=expected / MIB,
        theirs=found / MIB,
        unit="MiB",
        ratio=max(expected, found) / min(expected, found),
        bar=1.15,
        at_least=False,
    )


if __name__ == "__main__":
    table.main(measure)
