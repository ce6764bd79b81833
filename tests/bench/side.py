"""One side of a comparison: a process that does its step when it is told to, and tells the time.

    python -P tests/bench/side.py '{"kind": "ours", "model": FOLDER, "objective": {"name": "oapl"}}'

A line of input is a turn, answered with seconds by part; the end of the input is answered with the
memory that was taken. Between two turns it sleeps, so that another side has the machine. Kinds:

- `ours`: an iteration of `learner.trainer.Trainer`, scored before its updates as a run would do it;
- `plain`: the same iteration in plain PyTorch, `tests/bench/plain.py`;
- `forward`: its forward passes alone, without a gradient, of a plain module.

It runs against any build of the packages that stands first on the path, so a build of before there
were iterations is given one mini-batch and `"prepares": false`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tests.conftest  # noqa: F401 - the environment must stand before torch is imported

GROUP_SIZE, PROMPT, RESPONSES = 8, 14, (8, 48)
DEFAULTS: dict[str, Any] = {
    "objective": {"name": "oapl", "beta2": 0.1},
    "mini_batches": 1,
    "updates_per_batch": 1,
    "groups": 8,
    "threads": 1,
    "prepares": False,
    "rollouts": None,
    "micro_batch_tokens": 2048,
}
"""`groups` are those of a mini-batch; `rollouts` is a file of them, in place of drawn ones."""

Step = Callable[[], dict[str, float]]


def main(text: str) -> None:
    settings = {**DEFAULTS, **json.loads(text)}
    serve(lambda: KINDS[settings["kind"]](settings), settings["threads"])


def serve(begin: Callable[[], Step], threads: int = 1) -> None:
    """Make a step for every line of input.

    Args:
        begin: Gives the step, once.
        threads: Of torch.
    """
    answers = _answers()
    import deepspeed  # noqa: F401 - what the imports take is not the step's memory
    import torch
    from transformers import LlamaForCausalLM  # noqa: F401

    torch.set_num_threads(threads)
    before = resident("VmRSS")
    step = begin()
    answers({"ready": 1.0})
    for _ in sys.stdin:
        started = time.perf_counter()
        parts = step()
        answers({"step": time.perf_counter() - started, **parts})
    answers({"peak_bytes": resident("VmHWM") - before})


def _answers() -> Callable[[dict[str, float]], None]:
    """What libraries print goes to the errors: the output is for answers."""
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(values: dict[str, float]) -> None:
        print(json.dumps(values), file=output, flush=True)

    return answer


def ours(settings: dict[str, Any]) -> Step:
    from learner import trainer

    learner, parts = trainer.build(config_of(settings)), batches(settings)

    def step() -> dict[str, float]:
        started = time.perf_counter()
        if settings["prepares"]:
            learner.prepare(parts)
        prepared = time.perf_counter() - started
        for _ in range(settings["updates_per_batch"]):
            for batch in parts:
                metrics = learner.update(batch)
        assert not metrics["faults/skipped_steps"]
        return {"prepare": prepared, "loss": metrics["loss/total"]}

    return step


def plain(settings: dict[str, Any]) -> Step:
    from tests.bench.plain import PlainLearner

    learner = PlainLearner(config_of(settings), settings["updates_per_batch"])
    parts = batches(settings)
    return lambda: {"loss": learner.iterate(parts)}


def forward(settings: dict[str, Any]) -> Step:
    from tests.bench.plain import PlainLearner

    learner, parts = PlainLearner(config_of(settings)), batches(settings)

    def step() -> dict[str, float]:
        learner.score(parts)
        return {}

    return step


KINDS: dict[str, Callable[[dict[str, Any]], Step]] = {
    "ours": ours,
    "plain": plain,
    "forward": forward,
}


def config_of(settings: dict[str, Any]) -> Any:
    """A run in fp32, on a CPU's short rows."""
    from oapl.config import RunConfig

    names = ("mini_batches", "updates_per_batch")
    iteration = {name: settings[name] for name in names if settings[name] != 1}
    return RunConfig(
        model={"path": settings["model"], "dtype": "float32"},
        learner={
            "precision": "fp32",
            "micro_batch_tokens": settings["micro_batch_tokens"],
            "row_tokens": 1,
            **iteration,
        },
        objective=settings["objective"],
        optimizer={"lr": 1e-6},
        sync={"transport": "local"},
        cluster={"mode": "local"},
    )


def batches(settings: dict[str, Any]) -> list[Any]:
    """One per mini-batch, of groups that follow from their numbers."""
    from oapl import batching
    from oapl.objectives.base import build
    from oapl.records import CreditedGroup

    objective = build(settings["objective"])
    size, found = settings["groups"], []
    for number in range(settings["mini_batches"]):
        groups = [
            CreditedGroup(scored=scored, credit=objective.credit(scored))
            for scored in _scored(settings, number * size, size)
        ]
        batch = batching.make_batch(
            _with_history(objective, groups),
            step=0,
            micro_batch_tokens=settings["micro_batch_tokens"],
            row_tokens=1,
        )
        found.append(replace(batch, mini_batch=number) if number else batch)
    return found


def _scored(settings: dict[str, Any], first: int, count: int) -> list[Any]:
    if settings["rollouts"]:
        return given_groups(Path(settings["rollouts"]))
    return [drawn_group(index) for index in range(first, first + count)]


def drawn_group(index: int) -> Any:
    from tests.support.makers import make_group

    lengths = np.random.default_rng(index).integers(*RESPONSES, GROUP_SIZE)
    return make_group(lengths.tolist(), prompt_length=PROMPT, name=f"p{index}", seed=index)


def given_groups(path: Path) -> list[Any]:
    """Of a file with one `[prompt ids, response ids, reward]` per rollout, groups in a row."""
    from tests.support.makers import make_group

    rows, groups = json.loads(path.read_text()), []
    for start in range(0, len(rows), GROUP_SIZE):
        members = rows[start : start + GROUP_SIZE]
        scored = make_group(
            [len(response) for _, response, _ in members],
            rewards=[reward for *_, reward in members],
            name=f"p{start}",
            seed=start,
        )
        prompt = replace(scored.group.prompt, token_ids=np.array(members[0][0], np.int32))
        rollouts = tuple(
            replace(rollout, token_ids=np.array(response, np.int32))
            for rollout, (_, response, _) in zip(scored.group.rollouts, members, strict=True)
        )
        group = replace(scored.group, prompt=prompt, rollouts=rollouts)
        groups.append(replace(scored, group=group))
    return groups


def _with_history(objective: Any, groups: Sequence[Any]) -> list[Any]:
    """The share of them that an objective with a history trains on again."""
    history = getattr(getattr(objective, "declares", None), "history", None)
    count = int(history.share * len(groups)) if history else 0
    return [replace(g, is_history=True) if i < count else g for i, g in enumerate(groups)]


def resident(field: str) -> int:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


if __name__ == "__main__":
    main(sys.argv[1])
