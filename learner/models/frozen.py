"""Frozen policies: named copies of the policy's weights, scored in the policy's own place.

Invariants: a copy is the weights of this rank and nothing else (all of them at ZeRO 0 to 2, its
partition at 3), in the learner's precision; while a copy is in place nothing is trained, and the
policy's own weights are back afterwards, whatever happened; all ranks make the same calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from learner.zero_engine import ZeroEngine


class FrozenPolicies:
    """The copies that a rank holds; none is made before it is asked for.

    Args:
        engine: Whose weights are copied, and stand aside.
    """

    def __init__(self, engine: ZeroEngine) -> None:
        self._engine = engine
        self._copies: dict[str, list[Tensor]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the copies there are."""
        return tuple(self._copies)

    def copy(self, name: str) -> None:
        """Take the present weights under `name`, in place of an older copy of that name."""
        held = [slot.data for slot in self._slots()]
        copies = self._copies.get(name)
        if copies is None:
            self._copies[name] = [tensor.clone() for tensor in held]
        else:
            torch._foreach_copy_(copies, held)

    def drop(self, name: str) -> None:
        """Forget a copy."""
        del self._copies[name]

    @contextmanager
    def in_place(self, name: str) -> Iterator[None]:
        """Score as the copy `name`: without gradients, in evaluation mode."""
        slots = self._slots()
        own = [slot.data for slot in slots]
        with self._engine.evaluating():
            try:
                for slot, copy in zip(slots, self._copies[name], strict=True):
                    slot.data = copy
                yield
            finally:
                self._release()
                for slot, tensor in zip(slots, own, strict=True):
                    slot.data = tensor

    def state(self) -> dict[str, list[Tensor]]:
        """The copies, for a checkpoint."""
        return self._copies

    def restore(self, state: dict[str, list[Tensor]]) -> None:
        """Take over what `state` gave, of a run of the same shape."""
        devices = [slot.device for slot in self._slots()]
        self._copies = {
            name: [tensor.to(device) for tensor, device in zip(copies, devices, strict=True)]
            for name, copies in state.items()
        }

    def _slots(self) -> list[Any]:
        """What holds this rank's weights: the parameters, or their partitions at stage 3."""
        self._release()
        parameters = list(self._engine.module.parameters())
        return [getattr(parameter, "ds_tensor", parameter) for parameter in parameters]

    def _release(self) -> None:
        """At stage 3 small parameters stay gathered from one pass to the next."""
        for parameter in self._engine.module.parameters():
            if hasattr(parameter, "ds_tensor") and parameter.ds_status.name == "AVAILABLE":
                parameter.partition()
