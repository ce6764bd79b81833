"""Trainer ranks in Ray actors of their own, started as a run starts them, and how a test asks them.

`run` starts the ranks and calls methods of `Rank` on all of them together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch

from oapl.errors import InputError, WeightsError
from oapl.remote.waiting import within
from tests.support.publishing import export
from tests.support.tables import LargestTable

if TYPE_CHECKING:
    from learner.trainer import Trainer
    from oapl.config import RunConfig

DEADLINE_S = 600.0
LIMITS = {"micro_batch_tokens": 64, "row_tokens": 40}
SEED = 186
"""Of groups that make five micro-batches, one of two rows; on two ranks 4 and 6 rollouts in 2 and 3
micro-batches, and a dummy."""


@contextmanager
def running(config: RunConfig) -> Iterator[Trainer]:
    """The one rank of a run, in this process."""
    from learner import trainer as trainers

    trainer = trainers.build(config)
    try:
        yield trainer
    finally:
        trainer.close()


def run(out: Path, world_size: int, calls: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Start the ranks, make the calls one after the other, end the ranks.

    Args:
        out: Where the ranks' logs go.
        world_size: How many ranks.
        calls: Method of `Rank`, then its arguments after the port.

    Returns:
        Per call what each rank answered.
    """
    return asyncio.run(_run(out, world_size, calls))


async def _run(out: Path, world_size: int, calls: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    from deploy.processes import launch, roles
    from oapl.config import RunConfig
    from tests.support.clusters import free_ports

    config = RunConfig(
        run={"dir": str(out), "name": f"{world_size}-ranks"}, learner={"num_ranks": world_size}
    )
    config.folder.mkdir(exist_ok=True)
    launcher = launch.connect(config)
    try:
        with patch.dict(roles.BUILDERS, trainer="tests.support.ranks:build"):
            ranks = [process.handle for process in await launcher.start_ranks()]
        answers = []
        for method, *arguments in calls:
            (port,) = free_ports(1)
            together = asyncio.gather(*(getattr(r, method)(port, *arguments) for r in ranks))
            answers.append(await within(DEADLINE_S, together, f"the ranks' {method}{arguments}"))
        return answers
    finally:
        await launcher.close()


def build(config: Any, *, rank: int, world_size: int, master_address: str, master_port: int) -> Any:
    """In place of `learner.trainer.build`."""
    everything_sharded().__enter__()
    return Rank(rank, world_size)


class Rank:
    """Builds trainers one after the other, each of which joins the others' on the given port."""

    def __init__(self, rank: int, world_size: int) -> None:
        self._rank = rank
        self._world_size = world_size

    def first_step(self, port: int, config: Any) -> dict[str, Any]:
        """Metrics, gradient and parameters of one step; tensors are rank 0's.

        In fp16 that is the first step whose loss scale fits.
        """
        with self._trainer(port, config) as trainer:
            found: dict[str, Any] = {"metrics": trainer.update(self._share(0))}
            while found["metrics"]["faults/skipped_steps"]:
                found["metrics"] = trainer.update(self._share(0))
            tensors = {"gradients": gradients(trainer), "parameters": weights(trainer)}
        return found | (tensors if self._rank == 0 else {})

    def iteration(self, port: int, config: Any) -> dict[str, Any]:
        """Rank 0's parameters after an iteration of `grpo_groups`, and the metrics of its steps."""
        from oapl.batching import shard

        with self._trainer(port, config) as trainer:
            batches = [
                shard([group], step=0, num_ranks=self._world_size, mini_batch=i, **LIMITS)[
                    self._rank
                ]
                for i, group in enumerate(grpo_groups())
            ]
            trainer.prepare(batches)
            passes = config.learner.updates_per_batch
            metrics = [trainer.update(batch) for batch in batches * passes]
            found = weights(trainer)
        return {"metrics": metrics, "parameters": found if self._rank == 0 else None}

    def valued(self, port: int, config: Any, iterations: int) -> Any:
        """Rank 0's walk of iterations of `tests.support.walks`; None on the others."""
        from oapl.batching import shard
        from tests.support import walks

        def batches_of(step: int) -> list[Any]:
            return [
                shard(part, step=step, num_ranks=self._world_size, mini_batch=i, **LIMITS)[
                    self._rank
                ]
                for i, part in enumerate(walks.parts_of(config))
            ]

        with self._trainer(port, config) as trainer:
            found = walks.walk(trainer, config, batches_of, iterations)
        return found if self._rank == 0 else None

    def copy(self, port: int, config: Any) -> dict[str, int]:
        """Bytes of a frozen policy here: by which memory grew, of its tensors, of the weights.

        The last are of the whole policy, whatever part of it this rank holds.
        """
        from tests.support.measured import resident

        with self._trainer(port, config) as trainer:
            before = resident("VmRSS")
            trainer._frozen.copy("reference")
            grown = resident("VmRSS") - before
            tensors = trainer._frozen.state()["reference"]
            weights = [
                getattr(p, "ds_numel", p.numel()) * p.element_size()
                for p in trainer.engine.module.parameters()
            ]
        held = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        return {"grown": grown, "tensors": held, "weights": sum(weights)}

    def logits(self, port: int, config: Any, vocab_size: int) -> dict[str, Any]:
        """One step's chunks of logits, the most rows of them, and rank 0's gradient."""
        from oapl import logprobs

        chunks = []
        original = logprobs._logits

        def counted(hidden: Any, *others: Any) -> Any:
            chunks.append(len(hidden))
            return original(hidden, *others)

        with (
            self._trainer(port, config) as trainer,
            patch.object(logprobs, "_logits", counted),
            LargestTable(vocab_size) as table,
        ):
            trainer.update(self._share(0))
            found = gradients(trainer)
        return {
            "chunks": chunks,
            "rows": table.rows,
            "gradients": found if self._rank == 0 else None,
        }

    def visit(self, port: int, config: Any, out: Path) -> dict[str, Any]:
        """A trainer's life: a step, a skipped one, saved and loaded, a failed export, an export."""
        with self._trainer(port, config) as trainer:
            stage, found = config.learner.zero_stage, {}
            trainer.update(self._share(0))
            before = weights(trainer)
            found["skipped"] = trainer.update(self._share(1, broken=True))["faults/skipped_steps"]
            found["moved_by_skipped"] = distance(before, weights(trainer))
            trainer.save(out / f"checkpoint-{stage}")
            trainer.update(self._share(2))
            after = weights(trainer)
            trainer.load(out / f"checkpoint-{stage}")
            found["moved_by_load"] = distance(before, weights(trainer))
            trainer.update(self._share(2))
            found["differs_after_resume"] = distance(after, weights(trainer))
            if self._rank == 0:
                sender, trainer.publisher.sender = trainer.publisher.sender, FailingSender()
            try:
                export(trainer, 3)
            except WeightsError as error:
                found["failed_export"] = str(error)
            if self._rank == 0:
                trainer.publisher.sender = sender
            published = export(trainer, 3)
            found["specs"] = len(published.specs) if published else 0
            trainer.save_model(out / f"model-{stage}")
            if published:
                np.savez(
                    out / f"probe-{stage}.npz",
                    ids=np.concatenate(published.probe_ids),
                    logprobs=np.concatenate(published.probe_logprobs.get(0)),
                    lengths=[len(ids) for ids in published.probe_ids],
                )
        return found

    def broken(self, port: int, config: Any) -> None:
        """Rank 0 fails between two steps, and the others are in the next one's collectives."""
        with self._trainer(port, config) as trainer:
            trainer.update(self._share(0))
            if self._rank == 0:
                raise ValueError("rank 0 is broken")
            trainer.update(self._share(1))

    def partly(self, port: int, config: Any, uses: Sequence[Sequence[bool]]) -> dict[str, Any]:
        """A walk of `partly_used`; `uses` are the steps of each rank."""
        from learner import zero_engine
        from tests.support.partly_used import walk

        zero_engine.join(
            config,
            rank=self._rank,
            world_size=self._world_size,
            master_address="127.0.0.1",
            master_port=port,
        )
        with _leaving(zero_engine.leave):
            try:
                return walk(config, uses[self._rank])
            except InputError as error:
                return {"refused": str(error)}

    @contextmanager
    def _trainer(self, port: int, config: Any) -> Iterator[Any]:
        from learner import trainer as trainers

        trainer = trainers.build(
            config, rank=self._rank, world_size=self._world_size, master_port=port
        )
        with _leaving(trainer.close):
            yield trainer

    def _share(self, step: int, broken: bool = False) -> Any:
        from oapl.batching import shard

        groups = groups_to_train(broken)
        return shard(groups, step=step, num_ranks=self._world_size, **LIMITS)[self._rank]


@contextmanager
def _leaving(together: Callable[[], None]) -> Iterator[None]:
    """Leave the others at the end together with them; at once, and alone, where this rank failed:
    they are in a collective that it will not join, which else lasts until its deadline."""
    from learner import zero_engine

    try:
        yield
    except BaseException:
        zero_engine.leave(awaits_others=False)
        raise
    together()


def grpo_groups(objective: Mapping[str, Any] | None = None) -> list[Any]:
    """Two mini-batches of a group each."""
    from oapl.objectives.base import build
    from tests.support.makers import make_groups

    built = build(objective or {"name": "grpo"})
    return make_groups(built, num_groups=3, temperature=0.8, seed=SEED)[:2]


def grpo_config(model: Path, **learner: Any) -> Any:
    """Two mini-batches, twice, at a rate that makes ratios leave the clip's bounds."""
    config = config_of(model, mini_batches=2, updates_per_batch=2, **learner)
    return replace(config, objective={"name": "grpo", "importance": "token"})


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
        sync={"transport": "local", "timeout_s": 600},
    )


@contextmanager
def everything_sharded() -> Iterator[None]:
    """Stage 3 shards small parameters too, which it would otherwise keep whole on every rank, and
    gathers a few at a time."""
    from learner import export, zero_engine

    original, chunk_bytes = zero_engine.settings, export.CHUNK_BYTES

    def sharding(config: Any, optimizer: Any) -> dict[str, Any]:
        found = original(config, optimizer)
        if config.learner.zero_stage == 3:
            found["zero_optimization"] |= {"stage3_param_persistence_threshold": 0}
        return found

    zero_engine.settings, export.CHUNK_BYTES = sharding, 2**17
    try:
        yield
    finally:
        zero_engine.settings, export.CHUNK_BYTES = original, chunk_bytes


def gradients(trainer: Any) -> dict[str, torch.Tensor]:
    """The gradient of the first update, float32 by name: Adam's first moment is a tenth of it."""
    found = moments(trainer.engine, trainer.engine.module.lm)
    return {name: moment / 0.1 for name, moment in found.items()}


def moments(engine: Any, module: Any) -> dict[str, torch.Tensor]:
    """Adam's first moments, float32 by name of a parameter of `module`, which `engine` steps."""
    from deepspeed.utils import safe_get_full_optimizer_state

    found = {}
    optimizer = engine.inner.optimizer
    masters = _masters(optimizer)
    for name, parameter in module.named_parameters():
        if hasattr(parameter, "_hp_mapping") or hasattr(parameter, "ds_id"):
            moment = safe_get_full_optimizer_state(parameter, "exp_avg")
        else:  # stage 0, of bf16 with masters
            moment = optimizer.state[masters.get(id(parameter), parameter)]["exp_avg"]
        found[name] = moment.detach().float().clone()
    return found


def _masters(optimizer: Any) -> dict[int, Any]:
    """Of stage 0 in bf16: each parameter's fp32 copy, by the parameter's id."""
    if type(optimizer).__name__ != "FP16_UnfusedOptimizer":
        return {}
    groups = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
    return {
        id(p): copy for halves, copies in groups for p, copy in zip(halves, copies, strict=True)
    }


def groups_to_train(broken: bool = False) -> list[Any]:
    """Three groups of ten rollouts in all; `broken`: one inference log-prob is NaN."""
    from oapl.objectives.base import build
    from tests.support.makers import make_groups

    groups = make_groups(build({"name": "oapl"}), temperature=0.8, seed=SEED)
    if broken:
        scored = groups[0].scored
        first = scored.group.rollouts[0]
        rollout = replace(first, inference_logprobs=first.inference_logprobs * np.float32("nan"))
        group = replace(scored.group, rollouts=(rollout, *scored.group.rollouts[1:]))
        groups[0] = replace(groups[0], scored=replace(scored, group=group))
    return groups


class FailingSender:
    """Fails on rank 0 alone."""

    transport = "local"

    def begin(self, version: int, specs: Any, is_aside: bool = False) -> None: ...

    def put(self, number: int, content: np.ndarray) -> Any:
        raise WeightsError(f"failed at chunk {number}")

    def close(self) -> None: ...


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    from learner.export import gathered

    return {name: tensor.clone() for name, tensor in gathered(trainer.engine.module.lm)}


def critic_weights(trainer: Any) -> dict[str, torch.Tensor]:
    from learner.export import gathered

    return {name: tensor.clone() for name, tensor in gathered(trainer.critic.module)}


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    return max(float((a[name] - b[name]).abs().max()) for name in a)
