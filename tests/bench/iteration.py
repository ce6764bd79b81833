"""(j) A learner step of OAPL: over the build before iterations, and over GRPO with its passes.

    OAPL_BENCH_BEFORE=FOLDER python -m tests.bench.iteration [MODEL]

FOLDER is a work tree of the last commit before there were iterations (6bca9e6); without it those
rows are left out. GRPO divides a take into four mini-batches, so that it scores the tokens under
the policy before the first and under a reference; OAPL trains on the same tokens, divided the same
way. A pass that scores without a gradient stands beside the same pass of a plain module. All sides
are processes of their own, in turn, the fastest of thirty; memory is that of the iterations, at
their fullest, of a model of 42M parameters.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported
from tests.bench import table
from tests.bench.learner_step import SMALL, parameters
from tests.bench.sides import ROUNDS, Side, alternate, side
from tests.support.makers import make_wide_model
from tests.support.objectives import prepares

BUILD_BEFORE = os.environ.get("OAPL_BENCH_BEFORE", "")
NO_BUILD = "OAPL_BENCH_BEFORE names no work tree of that build"
OAPL = {"name": "oapl", "beta2": 0.1}
PROXIMAL = {"name": "grpo"}
REFERENCE = {"name": "grpo", "ratio_to": "inference", "kl_coefficient": 1e-3}
BOTH = {"name": "grpo", "kl_coefficient": 1e-3}
MINI_BATCHES = 4
MEMORY_ROUNDS = 2
APART = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Each tensor is mapped by itself and given back at once. In a common heap what is freed stays, and
how much of it depends on the order of the first imports: 1,383 to 1,478 MiB of one and the same
step, in either build."""


def measure(model: Path, name: str) -> list[table.Row]:
    is_small = parameters(model) < SMALL
    groups, rounds = (8, ROUNDS) if is_small else (1, 4)
    rows = [over_before(model, name, groups, rounds)]
    if is_small:  # once, whatever models are given
        rows.append(memory_over_before())
    return rows + over_grpo(model, name, groups, rounds)


def over_before(model: Path, name: str, groups: int, rounds: int) -> table.Row:
    what = "(j) learner step of oapl over the build before iterations"
    if not BUILD_BEFORE:
        return table.left_out(what, name, NO_BUILD)
    now, before = now_and_before(model, groups, rounds)
    return table.Row(
        what=what,
        model=name,
        ours=1000 * now["step"],
        theirs=1000 * before["step"],
        unit="ms",
        ratio=now["step"] / before["step"],
        bar=1.03,
        at_least=False,
    )


def memory_over_before() -> table.Row:
    what = "(j) memory of a learner step of oapl over the build before iterations"
    if not BUILD_BEFORE:
        return table.left_out(what, "42M", NO_BUILD)
    model = make_wide_model(Path(os.environ["OAPL_BENCH_FOLDER"]) / "wide")
    now, before = now_and_before(model, groups=1, rounds=MEMORY_ROUNDS, environment=APART)
    return table.Row(
        what=what,
        model="42M",
        ours=now["peak_bytes"] / 2**20,
        theirs=before["peak_bytes"] / 2**20,
        unit="MiB",
        ratio=now["peak_bytes"] / before["peak_bytes"],
        bar=1.01,
        at_least=False,
    )


def now_and_before(
    model: Path, groups: int, rounds: int, environment: Mapping[str, str] | None = None
) -> tuple[dict[str, float], ...]:
    given: dict[str, Any] = {"kind": "ours", "model": str(model), "objective": OAPL}
    given |= {"groups": groups, "environment": environment}
    found = alternate({"now": side(**given), "before": side(Path(BUILD_BEFORE), **given)}, rounds)
    now, before = found["now"], found["before"]
    assert abs(now["loss"] / before["loss"] - 1) < 1e-3, f"the losses differ: {found}"
    return now, before


def over_grpo(model: Path, name: str, groups: int, rounds: int) -> list[table.Row]:
    def ours(objective: dict[str, Any]) -> Side:
        return side(
            kind="ours",
            model=str(model),
            objective=objective,
            mini_batches=MINI_BATCHES,
            prepares=prepares(objective, MINI_BATCHES),
            groups=groups,
        )

    found = alternate(
        {
            "oapl": ours(OAPL),
            "grpo": ours(BOTH),
            "proximal": ours(PROXIMAL),
            "reference": ours(REFERENCE),
            "plain": side(
                kind="forward", model=str(model), mini_batches=MINI_BATCHES, groups=groups
            ),
        },
        rounds,
    )
    oapl, grpo, forward = found["oapl"], found["grpo"], found["plain"]["step"]
    rows = [
        table.Row(
            what="(j) learner step of oapl over grpo with proximal and reference passes",
            model=name,
            ours=1000 * oapl["step"] / MINI_BATCHES,
            theirs=1000 * grpo["step"] / MINI_BATCHES,
            unit="ms",
            ratio=oapl["step"] / grpo["step"],
            bar=0.70,
            at_least=False,
            parts={"of grpo's, the passes": 1000 * grpo["prepare"] / MINI_BATCHES},
        )
    ]
    rows += [
        table.Row(
            what=f"(j) pass that scores under the {policy} policy over a plain forward pass",
            model=name,
            ours=1000 * found[policy]["prepare"] / MINI_BATCHES,
            theirs=1000 * forward / MINI_BATCHES,
            unit="ms",
            ratio=found[policy]["prepare"] / forward,
            bar=1.1,
            at_least=False,
        )
        for policy in ("proximal", "reference")
    ]
    return rows


if __name__ == "__main__":
    table.main(measure)
