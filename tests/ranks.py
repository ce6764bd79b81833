"""Two trainer ranks in processes of their own: the program, and how a test runs it.

`python -m tests.ranks RANK WORLD_SIZE PORT MODEL OUT` runs one rank; rank 0 writes what it found.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oapl.errors import WeightsError

DEADLINE_S = 150.0
STAGES = (1, 3)
LIMITS = {"micro_batch_tokens": 64, "row_tokens": 40}
SEED = 10
"""Of groups that make five micro-batches, one of two rows; on two ranks 2 + 3 and a dummy."""


def run(model: Path, out: Path, world_size: int = 2) -> dict[str, Any]:
    """Run all ranks to their end.

    Returns:
        Rank 0's report: by stage, what `_visit` found.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    root = Path(__file__).parents[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.ranks", *map(str, (rank, world_size, port, model, out))],
            cwd=root,
            env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.STDOUT,
            stdout=(out / f"rank-{rank}.log").open("w"),
        )
        for rank in range(world_size)
    ]
    try:
        codes = [rank.wait(DEADLINE_S) for rank in ranks]
    finally:
        for rank in ranks:
            if rank.poll() is None:
                rank.kill()
                rank.wait()
    logs = [(out / f"rank-{rank}.log").read_text()[-3000:] for rank in range(world_size)]
    assert codes == [0] * world_size, "\n".join(logs)
    report: dict[str, Any] = json.loads((out / "report.json").read_text())
    return report


def config_of(model: Path, **learner: Any) -> Any:
    """A run in fp32 that steps on the plain gradient."""
    from oapl.config import RunConfig

    options = {
        "precision": "fp32",
        "zero_stage": 1,
        **LIMITS,
        "logprob_chunk_tokens": 16,
        **learner,
    }
    return RunConfig(
        model={"path": str(model), "dtype": "float32"},
        objective={"name": "oapl", "beta2": 0.1},
        learner=options,
        optimizer={"lr": 1e-3, "clip_norm": 0.0, "weight_decay": 0.0},
        sync={"transport": "local", "timeout_s": 60},
    )


@contextmanager
def everything_sharded() -> Iterator[None]:
    """Stage 3 shards small parameters too, which it would otherwise keep whole on every rank, and
    gathers a few at a time."""
    from learner import deepspeed, export

    original, chunk_bytes = deepspeed.settings, export.CHUNK_BYTES

    def sharding(config: Any) -> dict[str, Any]:
        found = original(config)
        if config.learner.zero_stage == 3:
            found["zero_optimization"] |= {"stage3_param_persistence_threshold": 0}
        return found

    deepspeed.settings, export.CHUNK_BYTES = sharding, 2**17
    try:
        yield
    finally:
        deepspeed.settings, export.CHUNK_BYTES = original, chunk_bytes


def gradients(trainer: Any) -> dict[str, torch.Tensor]:
    """The gradient of the first update, float32 by name: Adam's first moment is a tenth of it."""
    from deepspeed.utils import safe_get_full_optimizer_state

    found = {}
    optimizer = trainer.engine.inner.optimizer
    for name, parameter in trainer.engine.module.lm.named_parameters():
        if hasattr(parameter, "_hp_mapping") or hasattr(parameter, "ds_id"):
            moment = safe_get_full_optimizer_state(parameter, "exp_avg")
        else:
            moment = optimizer.state[parameter]["exp_avg"]
        found[name] = moment.detach().float().clone() / 0.1
    return found


def groups_to_train(broken: bool = False) -> list[Any]:
    """Three groups of ten rollouts in all; `broken`: one inference log-prob is NaN."""
    from oapl.objectives.base import build
    from tests.makers import make_groups

    groups = make_groups(build({"name": "oapl"}), temperature=0.8, seed=SEED)
    if broken:
        scored = groups[0].scored
        first = scored.group.rollouts[0]
        rollout = replace(first, inference_logprobs=first.inference_logprobs * np.float32("nan"))
        group = replace(scored.group, rollouts=(rollout, *scored.group.rollouts[1:]))
        groups[0] = replace(groups[0], scored=replace(scored, group=group))
    return groups


def _visit(stage: int, rank: int, world_size: int, port: int, model: Path, out: Path) -> Any:
    from learner import trainer as trainers
    from oapl.batching import shard

    config = config_of(model, zero_stage=stage, num_ranks=world_size)
    trainer = trainers.build(config, rank=rank, world_size=world_size, master_port=port)

    def share(step: int, broken: bool = False) -> Any:
        return shard(groups_to_train(broken), step=step, num_ranks=world_size, **LIMITS)[rank]

    found: dict[str, Any] = {"metrics": trainer.update(share(0))}
    moments = gradients(trainer)
    if rank == 0:
        torch.save(moments, out / f"gradients-{stage}.pt")
    before = _weights(trainer)
    found["skipped"] = trainer.update(share(1, broken=True))["faults/skipped_steps"]
    found["moved_by_skipped"] = _distance(before, _weights(trainer))
    trainer.save(out / f"checkpoint-{stage}")
    trainer.update(share(2))
    after = _weights(trainer)
    trainer.load(out / f"checkpoint-{stage}")
    found["moved_by_load"] = _distance(before, _weights(trainer))
    trainer.update(share(2))
    found["differs_after_resume"] = _distance(after, _weights(trainer))
    if rank == 0:
        trainer.sender = FailingSender(sender := trainer.sender)
    try:
        trainer.export(3)
    except WeightsError as error:
        found["failed_export"] = str(error)
    if rank == 0:
        trainer.sender = sender
    weights = trainer.export(3)
    found["specs"] = len(weights.specs) if weights else 0
    trainer.save_model(out / f"model-{stage}")
    if weights:
        np.savez(
            out / f"probe-{stage}.npz",
            ids=np.concatenate(weights.probe.token_ids),
            logprobs=np.concatenate(weights.probe.logprobs),
            lengths=[len(ids) for ids in weights.probe.token_ids],
        )
    trainer.close()
    return found


class FailingSender:
    """Takes one tensor, then fails, on rank 0 alone."""

    def __init__(self, sender: Any) -> None:
        self.sender = sender

    def send(self, version: int, tensors: Any, probe: Any) -> Any:
        name, _ = next(tensors)
        raise WeightsError(f"failed after {name}")


def _weights(trainer: Any) -> dict[str, torch.Tensor]:
    from learner.export import gathered

    return {name: tensor.clone() for name, tensor in gathered(trainer.engine.module.lm)}


def _distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def main() -> None:
    rank, world_size, port = map(int, sys.argv[1:4])
    model, out = map(Path, sys.argv[4:6])
    torch.set_num_threads(1)
    report = {}
    with everything_sharded():
        for number, stage in enumerate(STAGES):
            report[str(stage)] = _visit(stage, rank, world_size, port + number, model, out)
    if rank == 0:
        (out / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
