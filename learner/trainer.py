"""One rank of the learner: it updates policy and critic, saves and loads them; a publisher sends.

Invariants: every method is called on all ranks together, and every rank makes the same collective
calls whatever its own numbers are; the gradient is that of the whole global batch; a loss or
gradient that is not finite skips the update on all ranks, is counted, and is still a learner step;
a critic has an engine of its own and is never published.
Written without Ray: a synchronous class, which collectives want on one thread.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from learner import export, trial, zero_engine
from learner.checkpoints import shards
from learner.checkpoints.contents import CRITIC
from learner.measures import Measures
from learner.models.critic import load_critic
from learner.models.frozen import FrozenPolicies
from learner.models.policy import load_policy
from learner.preparation import REFERENCE, Preparation
from learner.publisher import Publisher
from learner.step import Step
from learner.utilisation import Utilisation
from oapl.config import RunConfig
from oapl.interfaces import Objective, Stateful, WeightSender
from oapl.objectives.base import build as build_objective
from oapl.records import Batch, Metrics, Sent, TokenScores, WeightsVersion
from oapl.remote.background import Background
from oapl.weights.base import TRANSPORTS

PATIENCE = 0.9
"""Of the time that whoever asks waits for an answer: one that comes later is taken for a hang."""


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
    critic = load_critic(config) if "values" in objective.declares.needs else None
    if rank == 0:
        export.try_out(policy.lm, config)
    zero_engine.join(
        config,
        rank=rank,
        world_size=world_size,
        master_address=master_address,
        master_port=master_port,
    )
    engine = zero_engine.ZeroEngine(config, policy, config.optimizer)
    with engine.evaluating():
        trial.check(config, engine.module, engine.device)
    return Trainer(
        config,
        engine=engine,
        critic=None if critic is None else zero_engine.ZeroEngine(config, critic, config.critic),
        objective=objective,
        publisher=Publisher(config, engine=engine, sender=sender),
    )


class Trainer:
    """One rank; `oapl.interfaces.Trainer` says what the learner asks of it.

    Attributes:
        engine: The policy under DeepSpeed.
        critic: The critic under DeepSpeed; None where the objective needs no values.
        publisher: What sends the policy of this engine.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        engine: zero_engine.ZeroEngine,
        objective: Objective,
        publisher: Publisher,
        critic: zero_engine.ZeroEngine | None = None,
    ) -> None:
        self._config = config
        self.engine = engine
        self.critic = critic
        self._objective = objective
        self._needs = objective.declares.needs
        self.publisher = publisher
        self._last_batch: Batch | None = None
        self._writing: Background | None = None
        self._utilisation = Utilisation(config, engine.module.lm, engine.device)
        self._frozen = FrozenPolicies(engine.module)
        self._preparation = Preparation(
            config, engine=engine, frozen=self._frozen, objective=objective, critic=critic
        )
        self._step = Step(
            config,
            engine=engine,
            critic=critic,
            objective=objective,
            preparation=self._preparation,
        )

    def prepare(self, batches: Sequence[Batch]) -> Metrics:
        """Score the tokens of an iteration before its first update; see `Preparation.compute`.

        Args:
            batches: This rank's share of each mini-batch, packed as its updates will be.
        """
        started = time.perf_counter()
        found = self._preparation.compute(batches)
        return {"time/prepare_s": time.perf_counter() - started, **found}

    def reset_reference(self, *, keeps_optimizer: bool = False) -> None:
        """Make the present policy the reference, and begin with fresh moments where so set."""
        self._preparation.reset_reference()
        if self._config.reference.reset_optimizer and not keeps_optimizer:
            self.engine.reset_optimizer()

    def update(self, batch: Batch) -> Metrics:
        """Make one learner step: an update of the policy, and of the critic where there is one.

        Args:
            batch: This rank's share.

        Returns:
            Metrics of the global batch, the same on every rank. `faults/skipped_steps` is 1.0 when
            the policy's update was skipped for a non-finite loss or gradient, else 0.0, and so is
            `critic/skipped` for the critic's; an fp16 gradient that overflowed also lowers
            `policy/loss_scale` for the next step. In the first `critic.warmup_steps` the policy is
            left alone: its rate is 0, and nothing else is told of it.

        Raises:
            DivergedError: `learner.max_skipped_in_a_row` were skipped one after the other.
        """
        started = time.perf_counter()
        measures = Measures()
        operations = torch.tensor(self._utilisation.operations(batch), dtype=torch.float64)
        measures.add_to_total("operations", operations)
        for micro_batch in batch.micro_batches:
            if not micro_batch.is_dummy:
                measures.add_to_total("tokens", torch.tensor(micro_batch.num_tokens))
        found = self._step.make(batch, measures)
        self._last_batch = batch
        metrics = measures.reduced()
        seconds = time.perf_counter() - started
        needed = metrics.pop("operations")
        ranks = torch.distributed.get_world_size()
        metrics |= {
            **found,
            **_sign(metrics),
            "time/forward_backward_s": seconds,
            "perf/tokens_per_s": metrics.pop("tokens") / seconds,
            **self.stats(),
        }
        if "loss/total" in metrics:  # the policy made a pass
            metrics |= self._utilisation.share(needed, seconds, ranks)
        if "state" in self._needs:
            self._stateful.observe(metrics)
        self._step.count(batch.step, metrics)
        return metrics

    def kept_scores(self) -> list[TokenScores]:
        """Give the log-probs of the last update, of the groups that its batch keeps."""
        assert self._last_batch is not None, "asked for after an update"
        return self._step.kept_scores(self._last_batch)

    def save(self, path: Path, beside: bool = False) -> None:
        """Write all of this process that affects the next step into the folder `path`.

        Args:
            path: The folder.
            beside: Return as soon as all is copied, and write it beside what follows; digests are
                then the caller's, once `saved`.
        """
        state = {
            "updates": self._step.state(),
            "objective": self._stateful.state() if "state" in self._needs else {},
        }
        snapshot = shards.take(self._engines(), state, self._shape(), self._frozen)
        if beside:
            copy = snapshot.copied()
            self._writing = Background(lambda: copy.write(Path(path)))
        else:
            shards.save(snapshot, Path(path))

    def saved(self, waits: bool = False) -> bool:
        """Tell whether what is written beside has been; raises what went wrong with that.

        Args:
            waits: Until it is, for at most `PATIENCE` of `sync.timeout_s`.
        """
        writing = self._writing
        patience_s = PATIENCE * self._config.sync.timeout_s if waits else 0.0
        if writing is None or not writing.is_over(patience_s):
            return writing is None
        self._writing = None
        writing.check()
        return True

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            CheckpointError: It is damaged, or of another precision, or one of the two has a critic.
        """
        state = shards.load(self._engines(), Path(path), self._shape(), self._frozen)
        self._step.restore(state["updates"])
        if "state" in self._needs:
            self._stateful.restore(state["objective"])

    def take_over(self, path: Path, keeps: Collection[str]) -> None:
        """Begin with the weights that another stage ended with, and with more of what it had.

        Args:
            path: What `save` wrote at its end.
            keeps: `optimizer` (the critic and the objective's own state too) and `reference`.

        Raises:
            CheckpointError: As of `load`.
        """
        only = (REFERENCE,) if "reference" in keeps else ()
        engines = self._engines() if "optimizer" in keeps else {shards.POLICY: self.engine}
        state = shards.load(engines, Path(path), self._shape(), self._frozen, only=only)
        if not only and REFERENCE in self._frozen.names:
            self._preparation.reset_reference()
        if "optimizer" not in keeps:
            self.engine.reset_optimizer()
        elif "state" in self._needs and state["objective"]:
            self._stateful.restore(state["objective"])

    def save_model(self, path: Path) -> None:
        """Write safetensors, configuration and tokenizer; `path` appears whole or not at all."""
        is_writer = torch.distributed.get_rank() == 0
        export.save_model(self.engine.module.lm, Path(path), self._config, is_writer=is_writer)
        torch.distributed.barrier()

    def announce(self, version: int, is_aside: bool = False) -> WeightsVersion | None:
        """See `Publisher.announce`; the probe is of the last batch.

        Args:
            version: Learner steps made.
            is_aside: Nothing is sampled under it that is trained on.
        """
        if not is_aside:
            self._preparation.published(version)
        return self.publisher.announce(version, self._last_batch, is_aside)

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
        for engine in (self.engine, self.critic):
            if engine is not None:
                engine.destroy()
        zero_engine.leave()

    @property
    def _stateful(self) -> Stateful:
        return cast(Stateful, self._objective)

    def _engines(self) -> dict[str, zero_engine.ZeroEngine]:
        """What is saved and loaded, by tag."""
        critic = {} if self.critic is None else {CRITIC: self.critic}
        return {shards.POLICY: self.engine, **critic}

    def _shape(self) -> dict[str, Any]:
        return {
            "learner.num_ranks": torch.distributed.get_world_size(),
            "learner.zero_stage": self._config.learner.zero_stage,
            "learner.precision": self._config.learner.precision,
            CRITIC: self.critic is not None,
        }


def _sign(metrics: Metrics) -> Metrics:
    """Of the policy's own term where an objective tells it, else of the whole loss."""
    loss = metrics.get("loss/policy", metrics.get("loss/total"))
    return {} if loss is None else {"loss/sign": float(np.sign(loss))}
