"""(k) Learner steps per second of each objective, beside the same steps in plain PyTorch.

    python -m tests.bench.objective_steps

Every objective there is, with the options of `tests.support.objectives`, its passes over frozen
policies and its critic included; plain is `tests.bench.plain`. Each side is a process of its own,
in turn, the fastest of thirty.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from oapl.objectives.base import build
from tests.bench import table
from tests.bench.sides import ROUNDS, alternate, side
from tests.support import objectives


def measure(model: Path, name: str) -> list[table.Row]:
    return [of(objective, model, name) for objective in objectives.names()]


def of(objective: str, model: Path, name: str) -> table.Row:
    example = objectives.example(objective)
    steps = example.mini_batches * example.updates_per_batch
    options = {"name": objective, **example.options}
    settings: dict[str, Any] = {
        "model": str(model),
        "objective": options,
        "mini_batches": example.mini_batches,
        "updates_per_batch": example.updates_per_batch,
        "prepares": objectives.prepares(options, steps),
    }
    found = alternate(
        {"ours": side(kind="ours", **settings), "plain": side(kind="plain", **settings)}, ROUNDS
    )
    ours, plain = found["ours"], found["plain"]
    if "values" not in build(options).declares.needs:  # a critic begins with weights of its own
        apart = abs(ours["loss"] - plain["loss"]) / max(1.0, abs(plain["loss"]))
        assert apart < 1e-3, f"{objective}: the losses differ: {found}"
    return table.Row(
        what=f"(k) learner step of {objective} over the same in plain PyTorch",
        model=name,
        ours=steps / ours["step"],
        theirs=steps / plain["step"],
        unit="steps/s",
        ratio=plain["step"] / ours["step"],
        bar=0.95,
    )


if __name__ == "__main__":
    table.main(measure)
