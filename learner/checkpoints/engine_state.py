"""Weights and AdamW's state of one engine, by name: a checkpoint that any number of ranks at any
ZeRO stage goes on from.

Invariants: what is kept of a weight is what AdamW steps, in float32 wherever there is such a
master, so that the weights which the model computes with are made of it, bit for bit; buffers are
kept as they are. Parameters that are not trained are `model.path`'s, and not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from learner.checkpoints.by_name import Pieces, key_of
from learner.models.frozen import FrozenPolicies
from learner.shares import Share, Stretch, numel_of, share_of, slot_stretch, ungather

WEIGHT, BUFFER, SET = "weight", "buffer", "set."
MOMENTS = ("exp_avg", "exp_avg_sq")
STEP = "step"

Kept = dict[str, tuple[Tensor, int]]


def kept(inner: Any, adam: torch.optim.Optimizer, frozen: FrozenPolicies | None = None) -> Kept:
    """List what this rank is to write: views of it, which hold until it changes.

    Args:
        inner: DeepSpeed's engine.
        adam: The optimizer that it steps.
        frozen: Copies of the policy, where the engine is the policy's.

    Returns:
        As `by_name.write` takes it.
    """
    is_first, found = torch.distributed.get_rank() == 0, Kept()
    is_sharded = inner.zero_optimization_stage() > 0
    for name, parameter in _trained(inner.module):
        share = share_of(inner.optimizer, parameter)
        if share.stretch.length and (is_sharded or is_first):
            found |= _of_a_parameter(name, share, adam.state.get(share.owner, {}))
    if is_first:
        found |= {key_of(BUFFER, n): (b.reshape(-1), 0) for n, b in _buffers(inner.module).items()}
    if frozen is not None and (is_first or inner.zero_optimization_stage() == 3):
        found |= _of_frozen(inner.module, frozen)
    return found


def copied(kept: Kept) -> Kept:
    """The same in host memory of its own."""
    return {key: (tensor.to("cpu", copy=True), start) for key, (tensor, start) in kept.items()}


def steps_of(inner: Any, adam: torch.optim.Optimizer) -> dict[str, float]:
    """AdamW's count of steps, of each parameter that has moments here."""
    found = {}
    for name, parameter in _trained(inner.module):
        share = share_of(inner.optimizer, parameter)
        state = adam.state.get(share.owner, {})
        if share.stretch.length and STEP in state:
            found[name] = float(state[STEP])
    return found


def put_back(inner: Any, adam: torch.optim.Optimizer, pieces: Pieces) -> None:
    """Set weights, moments and buffers to what was kept; every rank does so for itself.

    Raises:
        CheckpointError: The model has other parameters.
    """
    pieces.demand(WEIGHT, {name: numel_of(p) for name, p in _trained(inner.module)})
    stepped: set[int] = set()
    for name, parameter in _trained(inner.module):
        share = share_of(inner.optimizer, parameter)
        if share.stretch.length:
            share.flat(share.owner).copy_(pieces.read(key_of(WEIGHT, name), share.stretch))
            _put_moments(adam, share, name, pieces, stepped)
        _put_weights(parameter, share, pieces, name)
    for name, buffer in _buffers(inner.module).items():
        if pieces.has(key_of(BUFFER, name)):
            whole = pieces.read(key_of(BUFFER, name), Stretch(0, buffer.numel()))
            buffer.copy_(whole.view_as(buffer))


def sets(module: nn.Module, pieces: Pieces) -> dict[str, list[Tensor]]:
    """Read the copies of the policy, as `FrozenPolicies` holds them on this rank.

    Args:
        module: Whose weights they are copies of.
        pieces: What was kept.
    """
    kinds = [kind for kind in pieces.kinds() if kind.startswith(SET)]
    return {kind.removeprefix(SET): [*_slots_of(module, kind, pieces)] for kind in kinds}


def _slots_of(module: nn.Module, kind: str, pieces: Pieces) -> Any:
    for name, parameter in module.named_parameters():
        ungather(parameter)
        slot = getattr(parameter, "ds_tensor", parameter)
        stretch, key = slot_stretch(parameter), key_of(kind, name)
        dtype = pieces.dtype(key)
        found = torch.zeros(slot.shape, dtype=dtype)
        if stretch.length:
            found.view(-1)[: stretch.length] = pieces.read(key, stretch)
        yield found


def _of_a_parameter(name: str, share: Share, state: Mapping[str, Any]) -> Kept:
    tensors = {WEIGHT: share.owner, **{m: state[m] for m in MOMENTS if m in state}}
    return {
        key_of(kind, name): (share.flat(tensor), share.stretch.start)
        for kind, tensor in tensors.items()
    }


def _of_frozen(module: nn.Module, frozen: FrozenPolicies) -> Kept:
    found = Kept()
    named = [*module.named_parameters()]
    for kind, copies in frozen.state().items():
        for (name, parameter), copy in zip(named, copies, strict=True):
            stretch = slot_stretch(parameter)
            if stretch.length:
                flat = copy.detach().reshape(-1)[: stretch.length]
                found[key_of(SET + kind, name)] = (flat, stretch.start)
    return found


def _put_moments(
    adam: torch.optim.Optimizer,
    share: Share,
    name: str,
    pieces: Pieces,
    stepped: set[int],
) -> None:
    """Into the tensors that are there, which DeepSpeed may know; else into new ones."""
    owner, step = share.owner, pieces.steps.get(name)
    if step is None:  # it was kept before its first step
        state = adam.state.get(owner, {})
        for moment in (name for name in MOMENTS if name in state):
            share.flat(state[moment]).zero_()
        if STEP in state and id(owner) not in stepped:
            state[STEP].zero_()
        return
    if owner not in adam.state:
        adam.state[owner] = {m: torch.zeros_like(owner) for m in MOMENTS}
        on = owner.device if adam.defaults.get("fused") else "cpu"
        adam.state[owner][STEP] = torch.zeros((), dtype=torch.float32, device=on)
    state = adam.state[owner]
    if id(owner) not in stepped:
        stepped.add(id(owner))
        state[STEP].fill_(step)
    for moment in MOMENTS:
        share.flat(state[moment]).copy_(pieces.read(key_of(moment, name), share.stretch))


def _put_weights(parameter: Any, share: Share, pieces: Pieces, name: str) -> None:
    """What the model computes with, where that is not what AdamW steps."""
    ungather(parameter)
    slot = getattr(parameter, "ds_tensor", parameter)
    stretch = slot_stretch(parameter)
    if slot is share.owner or not stretch.length:
        return
    whole = pieces.read(key_of(WEIGHT, name), stretch)
    slot.data.view(-1)[: stretch.length].copy_(whole)


def _trained(module: nn.Module) -> list[tuple[str, Any]]:
    return [(name, p) for name, p in module.named_parameters() if p.requires_grad]


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    """Those that belong to the model's state; none of them is sharded."""
    persistent = module.state_dict(keep_vars=True)
    return {name: b.detach() for name, b in module.named_buffers() if name in persistent}
