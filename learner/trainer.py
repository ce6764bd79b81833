"""One rank of the learner: forward, objective, backward, step; export, save and load.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learner import export, probing, zero_engine
from learner.checkpoints import shards
from learner.loss_scale import LossScale
from learner.measures import Measures
from learner.models.policy import load_policy
from learner.schedule import learning_rate
from oapl.config import RunConfig
from oapl.errors import DivergedError
from oapl.interfaces import Objective, WeightSender
from oapl.objectives.base import build as build_objective
from oapl.records import (
    Batch,
    LossInputs,
    LossOutputs,
    Metrics,
    MicroBatch,
    Sent,
    WeightsVersion,
)
from oapl.remote.promises import Resolved
from oapl.weights.base import TRANSPORTS, Chunk, layout, send_chunk


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
    """A trainer in this process, which enters the process group of the ranks.

    Args:
        config: The run's.
        rank, world_size: This rank, and how many there are.
        master_address, master_port: Where rank 0 listens; unused with one rank.
        objective: Default: the one that `config.objective` names.
        sender: Where exports go; default: rank 0 makes one of `sync.transport`.
    """
    # What a user may have got wrong comes first: a rank that has joined has others waiting for it.
    os.environ.update(zero_engine.environment(config))
    objective = objective or build_objective(config.objective)
    if sender is None and rank == 0:
        transport = TRANSPORTS.load(config.sync.transport, "sync.transport")
        sender = transport.build_sender(config)
    policy = load_policy(config)
    zero_engine.join(
        config,
        rank=rank,
        world_size=world_size,
        master_address=master_address,
        master_port=master_port,
    )
    return Trainer(
        config,
        engine=zero_engine.ZeroEngine(config, policy),
        objective=objective,
        sender=sender,
    )


@dataclass(frozen=True, slots=True)
class _Publication:
    """What was announced last."""

    version: int
    chunks: tuple[Chunk, ...]
    parameters: tuple[torch.nn.Parameter, ...]
    probe_ids: tuple[np.ndarray, ...]

    def part(self, number: int) -> tuple[int, Chunk, tuple[torch.nn.Parameter, ...]]:
        """Version, chunk and its parameters."""
        first = sum(len(chunk.specs) for chunk in self.chunks[:number])
        chunk = self.chunks[number]
        return self.version, chunk, self.parameters[first : first + len(chunk.specs)]


class Trainer:
    """See `oapl.interfaces.Trainer`.

    Attributes:
        engine: The policy under DeepSpeed.
        sender: Where exports go; None on ranks other than 0.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        engine: zero_engine.ZeroEngine,
        objective: Objective,
        sender: WeightSender | None,
    ) -> None:
        self._config = config
        self.engine = engine
        self._objective = objective
        self.sender = sender
        self._rank = torch.distributed.get_rank()
        self._skipped_in_a_row = 0
        self._last_batch: Batch | None = None
        self._publication = _Publication(-1, (), (), ())
        self._buffer = np.empty(0, dtype=np.uint8)

    def update(self, batch: Batch) -> Metrics:
        """One learner step.

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
        for index, micro_batch in enumerate(batch.micro_batches):
            outputs = self._loss(batch, micro_batch, is_last=index == last)
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
        self._count_skip(batch.step, is_applied, metrics["loss/total"])
        return metrics

    def announce(self, version: int) -> WeightsVersion | None:
        """Say what the parameters will be published as: nothing is read of them yet.

        Returns:
            The publication, its chunks and scores still to come; None on ranks other than 0.

        Raises:
            WeightsError: The transport cannot begin (on rank 0).
        """
        specs, parameters = export.to_publish(self.engine.module.lm, self._config.model.dtype)
        self._publication = _Publication(
            version, layout(specs), parameters, self._choose_probe(version)
        )
        if self.sender is None or self._rank != 0:
            return None
        self.sender.begin(version, specs)
        return WeightsVersion(
            version=version,
            specs=specs,
            transport=self.sender.transport,
            probe_ids=self._publication.probe_ids,
            chunks=(),
            probe_logprobs=Resolved(()),
        )

    def send_chunk(self, number: int) -> Sent | None:
        """Cast one chunk of what was announced to the engines' dtype, and send it.

        Returns:
            Its ticket; None on ranks other than 0, which only take part in the gathering.

        Raises:
            WeightsError: A parameter is not finite, or the transport failed (on rank 0).
        """
        version, chunk, parameters = self._publication.part(number)
        if self.sender is None or self._rank != 0:
            export.read(parameters, chunk, None)
            return None
        if self._buffer.nbytes < chunk.num_bytes:  # fresh pages cost more than casting
            self._buffer = np.empty(chunk.num_bytes, dtype=np.uint8)
        content = self._buffer[: chunk.num_bytes]
        export.read(parameters, chunk, content)
        return send_chunk(self.sender, version, number, chunk, content)

    def score_probe(self) -> tuple[np.ndarray, ...]:
        """ln pi of the sequences that were announced, by all ranks alike: stage 3 gathers in each
        forward pass.

        Returns:
            Per sequence float32 [T - 1]: of tokens 1 to T - 1.
        """
        token_ids = self._publication.probe_ids
        logprobs = [np.empty(0, dtype=np.float32)] * len(token_ids)
        with self.engine.evaluating():
            packed = probing.packed(token_ids, self._config.learner.micro_batch_tokens)
            for micro_batch in packed:
                scores, _ = self._forward(
                    micro_batch, temperature=1.0, with_entropy=False, is_last=False
                )
                found = scores.cpu().numpy()
                owner = micro_batch.rollout_index[micro_batch.response_mask]
                for rollout, number in enumerate(micro_batch.group_index):
                    logprobs[number] = found[owner == rollout]
        return tuple(logprobs)

    def save(self, path: Path) -> None:
        """Everything of this process that affects the next step, into the folder `path`."""
        scale = self.engine.loss_scale
        state = {
            "skipped_in_a_row": self._skipped_in_a_row,
            "loss_scale": None if scale is None else asdict(scale),
        }
        shards.save(self.engine.inner, Path(path), state, self._shape())

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            CheckpointError: It is damaged, or of another number of ranks, stage or precision.
        """
        state = shards.load(self.engine.inner, Path(path), self._shape())
        self._skipped_in_a_row = state["skipped_in_a_row"]
        if self.engine.loss_scale is not None:
            self.engine.loss_scale = LossScale(**state["loss_scale"])

    def save_model(self, path: Path) -> None:
        """Hugging Face safetensors, configuration and tokenizer, complete or not at all."""
        export.save_model(
            self.engine.module.lm, Path(path), self._config, is_writer=self._rank == 0
        )
        torch.distributed.barrier()

    def stats(self) -> Metrics:
        """Largest memory so far: of the device, or of the process on a CPU."""
        if self.engine.device.type != "cpu":
            peak = torch.get_device_module(self.engine.device).max_memory_allocated()
        else:
            peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {"perf/peak_memory_bytes": float(peak)}

    def close(self) -> None:
        """Leave the process group."""
        self.engine.destroy()
        zero_engine.leave()

    def _loss(self, batch: Batch, micro_batch: MicroBatch, *, is_last: bool) -> LossOutputs:
        """Forward pass and objective; a dummy's loss is 0 times its log-probs."""
        logprobs, entropy = self._forward(
            micro_batch,
            temperature=batch.temperature,
            with_entropy="entropy" in self._objective.needs and not micro_batch.is_dummy,
            is_last=is_last,
        )
        if micro_batch.is_dummy:
            return LossOutputs(loss=logprobs.sum() * 0.0, metrics={})
        outputs = self._objective.loss(self._inputs(batch, micro_batch, logprobs, entropy))
        # An infinite loss may have a finite gradient on some parameters: NaN reaches all of them.
        sound = torch.where(outputs.loss.detach().isfinite(), 1.0, math.nan)
        return LossOutputs(loss=outputs.loss * sound, metrics=outputs.metrics)

    def _forward(
        self, micro_batch: MicroBatch, *, temperature: float, with_entropy: bool, is_last: bool
    ) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = self.engine.forward(
            self._tensor(micro_batch.token_ids),
            self._tensor(micro_batch.positions),
            self._tensor(micro_batch.response_mask),
            temperature=temperature,
            with_entropy=with_entropy,
            is_last=is_last,
        )
        return outputs

    def _inputs(
        self, batch: Batch, micro_batch: MicroBatch, logprobs: Tensor, entropy: Tensor
    ) -> LossInputs:
        chosen = micro_batch.response_mask  # row by row, as the policy answers
        return LossInputs(
            step=batch.step,
            logprobs=logprobs,
            inference_logprobs=self._tensor(micro_batch.inference_logprobs[chosen]),
            rollout_index=self._tensor(micro_batch.rollout_index[chosen]),
            credit=self._tensor(micro_batch.credit),
            reward=self._tensor(micro_batch.reward),
            lag=self._tensor(micro_batch.lag),
            global_rollouts=batch.global_rollouts,
            global_tokens=batch.global_tokens,
            entropy=entropy if "entropy" in self._objective.needs else None,
        )

    def _choose_probe(self, version: int) -> tuple[np.ndarray, ...]:
        """Rank 0's choice, on all ranks."""
        chosen = [
            probing.sequences(
                self._last_batch,
                self._config.sync.probe_sequences,
                vocab_size=self.engine.module.lm.config.vocab_size,
                version=version,
            )
        ]
        torch.distributed.broadcast_object_list(chosen, src=0)
        return tuple(chosen[0])

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
