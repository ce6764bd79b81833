"""One rank of the learner: it updates the policy, saves it and loads it; its publisher sends it.

Invariants: every method is called on all ranks together, and every rank makes the same collective
calls whatever its own numbers are; the gradient is that of the whole global batch; a loss or
gradient that is not finite skips the update on all ranks, is counted, and is still a learner step.
Written without Ray: a synchronous class, which collectives want on one thread.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from learner import export, trial, zero_engine
from learner.checkpoints import shards
from learner.forward import logprobs_of
from learner.loss_scale import LossScale
from learner.measures import Measures
from learner.models.frozen import FrozenPolicies
from learner.models.policy import load_policy
from learner.preparation import PROXIMAL, Preparation
from learner.publisher import Publisher
from learner.schedule import learning_rate
from oapl.config import RunConfig
from oapl.config.objective import kept_samplers, scored_before
from oapl.errors import DivergedError
from oapl.interfaces import Masking, Objective, Stateful, WeightSender
from oapl.objectives.base import build as build_objective
from oapl.records import (
    Batch,
    LossInputs,
    LossOutputs,
    Metrics,
    Sent,
    WeightsVersion,
)
from oapl.weights.base import TRANSPORTS


def build(
    config: RunConfig,
    *,
    rank: int = 0,
    world_size: int = 1,
    master_address: str = "127.0.0.1",
    master_port: int = 0,
    objective: Objective | None = None,
    sender: WeightSender | None = None,
) -> Trainer:
    """Make a trainer in this process, which enters the process group of the ranks.

    Args:
        config: The run's.
        rank, world_size: This rank, and how many there are.
        master_address, master_port: Where rank 0 listens; unused with one rank.
        objective: Default: the one that `config.objective` names.
        sender: Where the weights go; default: rank 0 makes one of `sync.transport`.

    Raises:
        InputError: The model's log-probs are not what the learner computes, or it could not be
            saved.
        OaplError: The ranks cannot meet.
    """
    # What a user may have got wrong comes first: a rank that has joined has others waiting for it.
    os.environ.update(zero_engine.environment(config))
    objective = objective or build_objective(config.objective)
    if sender is None and rank == 0:
        transport = TRANSPORTS.load(config.sync.transport, "sync.transport")
        sender = transport.build_sender(config)
    policy = load_policy(config)
    if rank == 0:
        export.try_out(policy.lm, config)
    zero_engine.join(
        config,
        rank=rank,
        world_size=world_size,
        master_address=master_address,
        master_port=master_port,
    )
    engine = zero_engine.ZeroEngine(config, policy)
    with engine.evaluating():
        trial.check(config, engine.module, engine.device)
    return Trainer(
        config,
        engine=engine,
        objective=objective,
        publisher=Publisher(config, engine=engine, sender=sender),
    )


class Trainer:
    """One rank; `oapl.interfaces.Trainer` says what the learner asks of it.

    Attributes:
        engine: The policy under DeepSpeed.
        publisher: What sends the policy of this engine.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        engine: zero_engine.ZeroEngine,
        objective: Objective,
        publisher: Publisher,
    ) -> None:
        self._config = config
        self.engine = engine
        self._objective = objective
        self._needs = objective.declares.needs
        self.publisher = publisher
        self._skipped_in_a_row = 0
        self._last_batch: Batch | None = None
        self._frozen = FrozenPolicies(engine.module)
        policies = scored_before(self._needs, config.steps_per_take)
        self._preparation = Preparation(engine, self._frozen, policies, kept_samplers(config))

    def prepare(self, batches: Sequence[Batch]) -> Metrics:
        """Score the tokens of an iteration before its first update; see `Preparation.compute`.

        Args:
            batches: This rank's share of each mini-batch, packed as its updates will be.
        """
        started = time.perf_counter()
        self._preparation.compute(batches)
        return {"time/prepare_s": time.perf_counter() - started}

    def reset_reference(self, *, keeps_optimizer: bool = False) -> None:
        """Make the present policy the reference, and begin with fresh moments where so set."""
        self._preparation.reset_reference()
        if self._config.reference.reset_optimizer and not keeps_optimizer:
            self.engine.reset_optimizer()

    def update(self, batch: Batch) -> Metrics:
        """Make one learner step.

        Args:
            batch: This rank's share.

        Returns:
            Metrics of the global batch, the same on every rank. `faults/skipped_steps` is 1.0 when
            the update was skipped for a non-finite loss or gradient, else 0.0; an fp16 gradient
            that overflowed also lowers `policy/loss_scale` for the next step.

        Raises:
            DivergedError: `learner.max_skipped_in_a_row` were skipped one after the other.
        """
        started = time.perf_counter()
        measures = Measures()
        last = len(batch.micro_batches) - 1
        counts = self._counts(batch)
        for index, micro_batch in enumerate(batch.micro_batches):
            outputs = self._loss(batch, index, counts, is_last=index == last)
            self.engine.backward(outputs.loss)
            if not micro_batch.is_dummy:
                measures.add(outputs.metrics)
                measures.add_to_total("loss/total", outputs.loss)
                measures.add_to_total("tokens", torch.tensor(micro_batch.num_tokens))
        lr = learning_rate(batch.step, self._config.run.max_steps, self._config.optimizer)
        norm = self.engine.step(lr)
        self._last_batch = batch
        is_applied = math.isfinite(norm)
        metrics = measures.reduced()
        seconds = time.perf_counter() - started
        if self.engine.loss_scale is not None:
            metrics["policy/loss_scale"] = self.engine.loss_scale.value
        metrics |= {
            "policy/lr": lr,
            "faults/skipped_steps": float(not is_applied),
            "time/forward_backward_s": seconds,
            "perf/tokens_per_s": metrics.pop("tokens") / seconds,
            **self.stats(),
        }
        if is_applied:
            metrics["policy/grad_norm"] = norm
        if "state" in self._needs:
            self._stateful.observe(metrics)
        self._count_skip(batch.step, is_applied, metrics["loss/total"])
        return metrics

    def save(self, path: Path) -> None:
        """Write all of this process that affects the next step into the folder `path`."""
        scale = self.engine.loss_scale
        state = {
            "skipped_in_a_row": self._skipped_in_a_row,
            "loss_scale": None if scale is None else asdict(scale),
            "objective": self._stateful.state() if "state" in self._needs else {},
        }
        shards.save(self.engine.inner, Path(path), state, self._shape(), self._frozen)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            CheckpointError: It is damaged, or of another number of ranks, stage or precision.
        """
        state = shards.load(self.engine.inner, Path(path), self._shape(), self._frozen)
        self._skipped_in_a_row = state["skipped_in_a_row"]
        if self.engine.loss_scale is not None:
            self.engine.loss_scale = LossScale(**state["loss_scale"])
        if "state" in self._needs:
            self._stateful.restore(state["objective"])

    def save_model(self, path: Path) -> None:
        """Write safetensors, configuration and tokenizer; `path` appears whole or not at all."""
        is_writer = torch.distributed.get_rank() == 0
        export.save_model(self.engine.module.lm, Path(path), self._config, is_writer=is_writer)
        torch.distributed.barrier()

    def announce(self, version: int) -> WeightsVersion | None:
        """See `Publisher.announce`; the probe is of the last batch."""
        self._preparation.published(version)
        return self.publisher.announce(version, self._last_batch)

    def send_chunk(self, number: int) -> Sent | None:
        """See `Publisher.send_chunk`."""
        return self.publisher.send_chunk(number)

    def score_probe(self) -> tuple[np.ndarray, ...]:
        """See `Publisher.score_probe`. Returns float32 [T - 1] per sequence."""
        return self.publisher.score_probe()

    def stats(self) -> Metrics:
        """Tell the largest memory so far, in bytes: of the device, or of the process on a CPU."""
        if self.engine.device.type != "cpu":
            peak = torch.get_device_module(self.engine.device).max_memory_allocated()
        else:
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"perf/peak_memory_bytes": float(peak)}

    def close(self) -> None:
        """Leave the process group."""
        self.engine.destroy()
        zero_engine.leave()

    @property
    def _stateful(self) -> Stateful:
        return cast(Stateful, self._objective)

    def _counts(self, batch: Batch) -> tuple[float, float]:
        """Rollouts and tokens in the denominators: all, or those that the objective keeps."""
        whole = float(batch.global_rollouts), float(batch.global_tokens)
        if "kept_counts" not in self._needs:
            return whole
        kept = torch.zeros(2, device=self.engine.device)
        for index, micro_batch in enumerate(batch.micro_batches):
            if not micro_batch.is_dummy:
                inputs = self._inputs(batch, index, whole)
                keeps = cast(Masking, self._objective).keeps(inputs)
                kept[0] += len(inputs.rollout_index[keeps].unique())
                kept[1] += keeps.sum()
        torch.distributed.all_reduce(kept)
        return float(kept[0]), float(kept[1])

    def _loss(
        self, batch: Batch, index: int, counts: tuple[float, float], *, is_last: bool
    ) -> LossOutputs:
        """Forward pass and objective; a dummy's loss is 0 times its log-probs."""
        micro_batch = batch.micro_batches[index]
        logprobs, entropy = logprobs_of(
            self.engine,
            micro_batch,
            temperature=batch.temperature,
            with_entropy="entropy" in self._needs and not micro_batch.is_dummy,
            entropy_gradient="entropy_gradient" in self._needs,
            is_last=is_last,
        )
        if micro_batch.is_dummy:
            return LossOutputs(loss=logprobs.sum() * 0.0, metrics={})
        inputs = self._inputs(batch, index, counts, logprobs, entropy)
        outputs = self._objective.loss(inputs)
        # An infinite loss may have a finite gradient on some parameters: NaN reaches all of them.
        sound = torch.where(outputs.loss.detach().isfinite(), 1.0, math.nan)
        return LossOutputs(loss=outputs.loss * sound, metrics=outputs.metrics)

    def _inputs(
        self,
        batch: Batch,
        index: int,
        counts: tuple[float, float],
        logprobs: Tensor | None = None,
        entropy: Tensor | None = None,
    ) -> LossInputs:
        """Before the forward pass the proximal policy's log-probs, or 0, stand for the policy's."""
        micro_batch = batch.micro_batches[index]
        chosen = micro_batch.response_mask  # row by row, as the policy answers
        recorded = self._tensor(micro_batch.inference_logprobs[chosen])
        prepared = self._preparation.of(batch, index)
        if logprobs is None:
            logprobs = prepared.get(PROXIMAL, torch.zeros_like(recorded))
        return LossInputs(
            step=batch.step,
            logprobs=logprobs,
            inference_logprobs=recorded,
            rollout_index=self._tensor(micro_batch.rollout_index[chosen]),
            credit=self._tensor(micro_batch.credit),
            reward=self._tensor(micro_batch.reward),
            lag=self._tensor(micro_batch.lag),
            is_truncated=self._tensor(micro_batch.is_truncated),
            is_history=self._tensor(micro_batch.is_history),
            iteration=batch.step // self._config.steps_per_take,
            global_rollouts=counts[0],
            global_tokens=counts[1],
            global_credit_std=batch.global_credit_std,
            entropy=entropy if "entropy" in self._needs else None,
            **{PROXIMAL: logprobs.detach(), **prepared},
        )

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, device=self.engine.device)

    def _count_skip(self, step: int, is_applied: bool, loss: float) -> None:
        scale = self.engine.loss_scale
        if is_applied:
            self._skipped_in_a_row = 0
            if scale is not None:
                scale.held()
            return
        if scale is not None and math.isfinite(loss) and scale.overflowed():
            return  # not the run's fault, and mended
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= self._config.learner.max_skipped_in_a_row:
            raise DivergedError(
                f"step {step}: the loss or gradient was not finite {self._skipped_in_a_row} times "
                f"in a row, so the run has diverged; go on from an earlier checkpoint with a lower "
                f"optimizer.lr or optimizer.clip_norm"
            )

    def _shape(self) -> dict[str, Any]:
        return {
            "learner.num_ranks": torch.distributed.get_world_size(),
            "learner.zero_stage": self._config.learner.zero_stage,
            "learner.precision": self._config.learner.precision,
        }
