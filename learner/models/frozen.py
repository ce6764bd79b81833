"""Frozen policies: named copies of the policy's weights, scored in the policy's own place.

Invariants: a copy is the weights of this rank and nothing else (all of them at ZeRO 0 to 2, its
partition at 3), in the learner's precision; the policy's own weights are back after a copy was in
place, whatever happened; all ranks make the same calls. In place of a copy nothing is trained: it
is for passes without a gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from learner.shares import slots


class FrozenPolicies:
    """The copies that a rank holds; none is made before it is asked for.

    Args:
        module: Whose weights are copied, and stand aside; sharded or not.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._copies: dict[str, list[Tensor]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the copies there are."""
        return tuple(self._copies)

    def copy(self, name: str) -> None:
        """Take the present weights under `name`, in place of an older copy of that name."""
        held = [slot.data for slot in slots(self._module)]
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
        """Let the module be the copy `name`."""
        mine = slots(self._module)
        own = [slot.data for slot in mine]
        try:
            for slot, copy in zip(mine, self._copies[name], strict=True):
                slot.data = copy
            yield
        finally:
            slots(self._module)  # are let go of, if a pass has gathered any
            for slot, tensor in zip(mine, own, strict=True):
                slot.data = tensor

    def state(self) -> dict[str, list[Tensor]]:
        """The copies, for a checkpoint."""
        return self._copies

    def restore(self, state: dict[str, list[Tensor]]) -> None:
        """Take over what `state` gave, of a run of the same shape, and nothing else."""
        self._copies = {}
        self.add(state)

    def add(self, state: dict[str, list[Tensor]]) -> None:
        """Take over what `state` gave, in place of older copies of these names."""
        devices = [slot.device for slot in slots(self._module)]
        for name, copies in state.items():
            pairs = zip(copies, devices, strict=True)
            self._copies[name] = [tensor.to(device) for tensor, device in pairs]
