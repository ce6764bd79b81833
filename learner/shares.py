"""Where under DeepSpeed a parameter lies on this rank: what AdamW steps of it, at each ZeRO stage.

No other file knows how DeepSpeed 0.19.8 lays parameters into flat tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive elements of a parameter, flattened.

    Attributes:
        start: The first one's number.
        length: How many; 0 where nothing of the parameter lies here.
    """

    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Share:
    """What this rank has of a parameter.

    Attributes:
        owner: The tensor in which AdamW steps it: its moments are kept under that.
        place: Where in `owner` it lies; at stages 1 to 3 `owner` is flat and holds others too.
        stretch: What of the parameter that is, flattened, without padding.
    """

    owner: Tensor
    place: slice
    stretch: Stretch

    def of(self, tensor: Tensor) -> Tensor:
        """This rank's part of `owner`, or of a moment that is laid out as that; a view."""
        return tensor.detach() if self.place == slice(None) else tensor.detach()[self.place]

    def flat(self, tensor: Tensor) -> Tensor:
        """The same, flattened and without padding; a view [stretch.length]."""
        return self.of(tensor).view(-1)[: self.stretch.length]


def share_of(optimizer: Any, parameter: Any) -> Share:
    """Find what AdamW steps of a parameter here.

    Args:
        optimizer: DeepSpeed's.
        parameter: Of the model, and trained.
    """
    stretch = stretch_of(parameter)
    if hasattr(parameter, "ds_id"):  # stage 3
        group, start, length = optimizer.grad_position[optimizer.get_param_id(parameter)]
        owner = optimizer.fp32_partitioned_groups_flat[group]
        return Share(owner, slice(start, start + length), stretch)
    if hasattr(parameter, "_hp_mapping"):  # stages 1 and 2
        mapping = parameter._hp_mapping  # None where it lies on other ranks
        address = mapping and mapping.get_hp_fragment_address()
        owner = optimizer.param_groups[mapping.param_group_index if mapping else 0]["params"][0]
        start = address.start if address else 0
        return Share(owner, slice(start, start + stretch.length), stretch)
    if hasattr(optimizer, "fp32_groups"):  # stage 0 in bf16
        groups = zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True)
        pairs = (pair for group in groups for pair in zip(*group, strict=True))
        owner = next(copy for half, copy in pairs if half is parameter)
        return Share(owner, slice(None), stretch)
    return Share(parameter, slice(None), stretch)


def stretch_of(parameter: Any) -> Stretch:
    """What of a parameter AdamW steps on this rank, at stage 0 all of it."""
    if hasattr(parameter, "ds_id"):
        return slot_stretch(parameter)
    if hasattr(parameter, "_hp_mapping"):
        mapping = parameter._hp_mapping
        if mapping is None:
            return Stretch(0, 0)
        address = mapping.lp_fragment_address
        return Stretch(address.start, address.numel)
    return Stretch(0, parameter.numel())


def slot_stretch(parameter: Any) -> Stretch:
    """What of a parameter the model itself holds on this rank: its partition at stage 3, else all.

    The last partitions of a parameter may be padded, or padding alone.
    """
    if not hasattr(parameter, "ds_id"):
        return Stretch(0, parameter.numel())
    size = int(parameter.ds_tensor.ds_numel)
    start = torch.distributed.get_rank() * size
    return Stretch(start, max(0, min(size, int(parameter.ds_numel) - start)))


def slots(module: nn.Module) -> list[Any]:
    """What holds this rank's weights: the parameters, or their partitions at stage 3, where small
    parameters stay gathered from one pass to the next and are let go of here."""
    for parameter in module.parameters():
        ungather(parameter)
    return [getattr(one, "ds_tensor", one) for one in module.parameters()]


def ungather(parameter: Any) -> None:
    """Leave this rank its partition alone; elsewhere than at stage 3 nothing happens."""
    if hasattr(parameter, "ds_tensor") and parameter.ds_status.name == "AVAILABLE":
        parameter.partition()


def numel_of(parameter: Any) -> int:
    """Elements of the whole parameter, sharded or not."""
    return int(getattr(parameter, "ds_numel", parameter.numel()))
