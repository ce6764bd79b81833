"""The updates of one engine: all micro-batches' gradients, a step, and what becomes of bad ones.

Invariants: a loss or gradient that is not finite changes nothing, on any rank; it is counted, and
too many in a row end the run, but for an fp16 gradient that a lower loss scale will hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from learner.loss_scale import LossScale
from learner.measures import Measures
from learner.zero_engine import ZeroEngine
from oapl.errors import DivergedError
from oapl.records import Batch, LossOutputs, Metrics, State

Losses = Callable[[int, bool], LossOutputs]
"""Of a micro-batch's index, and whether it is the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """What an engine's updates are called.

    Attributes:
        section: Of its settings.
        loss, skipped, norm, scale: Metrics: the batch's loss; 1 where the update was skipped; the
            gradient's norm before clipping, where it was not; the factor of the loss, in fp16.
    """

    section: str
    loss: str
    skipped: str
    norm: str
    scale: str


POLICY = Names(
    section="optimizer",
    loss="loss/total",
    skipped="faults/skipped_steps",
    norm="policy/grad_norm",
    scale="policy/loss_scale",
)
CRITIC = Names(
    section="critic",
    loss="critic/loss",
    skipped="critic/skipped",
    norm="critic/grad_norm",
    scale="critic/loss_scale",
)


class Updates:
    """Steps an engine.

    Args:
        engine: What is updated.
        names: Of what is told of it.
        most: Updates in a row of which the last must not be skipped.
    """

    def __init__(self, engine: ZeroEngine, names: Names, most: int) -> None:
        self._engine = engine
        self._names = names
        self._most = most
        self._skipped_in_a_row = 0

    def make(self, batch: Batch, losses: Losses, lr: float, measures: Measures) -> Metrics:
        """Make one update. All ranks make equal calls.

        Args:
            batch: This rank's share; dummies take part and are not measured.
            losses: Makes a forward pass and the loss of it.
            lr: The rate.
            measures: Takes the loss, and what the losses report.

        Returns:
            Whether it was skipped, the gradient's norm and the loss scale; the same on all ranks.
        """
        names, last = self._names, len(batch.micro_batches) - 1
        for index, micro_batch in enumerate(batch.micro_batches):
            outputs = losses(index, index == last)
            # An infinite loss may have a finite gradient on some parameters: NaN reaches all.
            sound = torch.where(outputs.loss.detach().isfinite(), 1.0, math.nan)
            loss = outputs.loss * sound
            self._engine.backward(loss)
            if not micro_batch.is_dummy:
                measures.add(outputs.metrics)
                measures.add_to_total(names.loss, loss)
                for term, value in outputs.terms.items():
                    measures.add_to_total(f"loss/{term}", value)
        norm = self._engine.step(lr)
        found: Metrics = {names.skipped: float(not math.isfinite(norm))}
        if self._engine.loss_scale is not None:
            found[names.scale] = self._engine.loss_scale.value
        if math.isfinite(norm):
            found[names.norm] = norm
        return found

    def count(self, step: int, metrics: Metrics) -> None:
        """Count the update as made or skipped, and move the loss scale.

        Args:
            step: Learner steps made before it.
            metrics: What `make` returned, and the global batch's loss.

        Raises:
            DivergedError: Too many were skipped one after the other.
        """
        names, scale = self._names, self._engine.loss_scale
        if not metrics[names.skipped]:
            self._skipped_in_a_row = 0
            if scale is not None:
                scale.held()
            return
        if scale is not None and math.isfinite(metrics[names.loss]) and scale.overflowed():
            return  # not the run's fault, and mended
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row >= self._most:
            whose = "the critic's" if names is CRITIC else "the"
            raise DivergedError(
                f"step {step}: {whose} loss or gradient was not finite {self._skipped_in_a_row} "
                "times in a row, so the run has diverged; go on from an earlier checkpoint with a "
                f"lower {names.section}.lr or {names.section}.clip_norm"
            )

    def state(self) -> State:
        """What decides the next update beside DeepSpeed's own, as JSON holds it."""
        scale = self._engine.loss_scale
        return {
            "skipped_in_a_row": self._skipped_in_a_row,
            "loss_scale": None if scale is None else asdict(scale),
        }

    def restore(self, state: State) -> None:
        """Go on from what `state` gave."""
        self._skipped_in_a_row = state["skipped_in_a_row"]
        if self._engine.loss_scale is not None:
            self._engine.loss_scale = LossScale(**state["loss_scale"])
