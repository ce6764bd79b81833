"""One DeepSpeed rank: the configuration, the process group, backward and step.

No other file knows DeepSpeed's keys. Invariants: one gradient is the sum over all micro-batches of
all ranks of their `loss`, whatever the ZeRO stage; a gradient that is not finite changes nothing on
any rank; no op is ever compiled. What made each line necessary was found with DeepSpeed 0.19.8:
its clipping is 1.0 unless it is written out; in fp32 its stage 0 applies NaN gradients and has no
gradient norm; in bf16 its stage 0 steps the optimizer once while it is built; its stage 3, and
whatever it offloads, adds to or repeats the last gradient of a parameter that a step reaches late
or never; the one boundary that suits all other stages is a single `step` after any number of
`backward` calls (`managed_gradient_accumulation` off); its own fp16 does not run on CPUs, and its
`torch_autocast` clips the *scaled* gradient. fp16 is therefore the policy's own autocast over fp32
weights on every device, with a loss scale of ours that ZeRO is told of: it then divides before it
measures and clips. Several engines live in one process (policy and critic): nothing here is shared
between them, not even a loss scale.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import warnings
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from learner.loss_scale import LossScale
from learner.unused import Unused
from oapl.config import RunConfig
from oapl.config.sections import AdamSection
from oapl.devices.base import load as load_device
from oapl.errors import OaplError, first_line

NOT_MET = (torch.distributed.DistNetworkError, torch.distributed.DistStoreError)
"""What torch raises where ranks do not find each other."""


def environment(config: RunConfig) -> dict[str, str]:
    """List the variables that must stand before DeepSpeed is imported."""
    return {"DS_ACCELERATOR": config.cluster.device}


def settings(config: RunConfig, optimizer: AdamSection) -> dict[str, Any]:
    """Translate a run's settings into DeepSpeed's.

    Args:
        config: The run's.
        optimizer: The engine's.
    """
    zero: dict[str, Any] = {"stage": config.learner.zero_stage}
    if config.learner.zero_stage == 3:
        # Its memory-efficient linear replaces torch.nn.functional.linear in the whole process.
        zero |= {"memory_efficient_linear": False}
    if config.learner.offload != "none":
        host = {"device": "cpu", "pin_memory": config.cluster.device != "cpu"}
        zero |= {"offload_optimizer": host}
        if config.learner.offload == "all":
            zero |= {"offload_param": host}
    is_bf16 = config.learner.precision == "bf16"
    accumulate = {"grad_accum_dtype": "fp32"} if is_bf16 and config.learner.zero_stage else {}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": _is_stepped_by_hand(config),
        "gradient_clipping": optimizer.clip_norm,
        "zero_optimization": zero,
        "zero_force_ds_cpu_optimizer": False,  # theirs would be compiled; torch's is fused as well
        "bf16": {"enabled": is_bf16},
        "data_types": accumulate,  # a sum of a hundred micro-batches in bf16 adds 1.5 % of error
        "steps_per_print": 10**9,
    }


def _is_stepped_by_hand(config: RunConfig) -> bool:
    return config.learner.zero_stage == 0 and config.learner.precision != "bf16"


def join(
    config: RunConfig, *, rank: int, world_size: int, master_address: str, master_port: int
) -> None:
    """Enter the process group of the ranks.

    A collective that waits longer than `sync.timeout_s` for a rank raises there.

    Args:
        config: The run's.
        rank, world_size: This rank, and how many there are.
        master_address, master_port: Where rank 0 listens; unused with one rank.

    Raises:
        OaplError: The others cannot be met there.
    """
    variables = {
        "RANK": rank,
        "WORLD_SIZE": world_size,
        "LOCAL_RANK": rank % max(torch.accelerator.device_count(), 1),
        "MASTER_ADDR": master_address,
        "MASTER_PORT": master_port,
    }
    os.environ.update({key: str(value) for key, value in variables.items()})
    if world_size == 1 and torch.distributed.is_initialized():
        return  # an engine in this process has made the same group of one
    timeout = timedelta(seconds=config.sync.timeout_s)
    try:
        torch.distributed.init_process_group(
            load_device(config).COLLECTIVE_BACKEND,
            rank=rank,
            world_size=world_size,
            timeout=timeout,
            store=_store(rank, world_size, master_address, master_port, timeout),
        )
    except (*NOT_MET, OSError) as error:
        raise OaplError(
            f"learner rank {rank} cannot meet the others at {master_address}:{master_port} "
            f"({first_line(error)}); if another process took that port meanwhile, start "
            "again; between nodes, a firewall must let it through"
        ) from error


def _store(
    rank: int, world_size: int, address: str, port: int, timeout: timedelta
) -> torch.distributed.Store:
    """Where the ranks meet; that of rank 0 listens at its address alone, torch's own at all."""
    if world_size == 1:
        return torch.distributed.HashStore()  # needs no port
    listening = {}
    if rank == 0:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family)
        listening = {"master_listen_fd": listener.detach()}
    return torch.distributed.TCPStore(
        address, port, world_size, is_master=rank == 0, timeout=timeout, **listening
    )


def leave(*, awaits_others: bool = True) -> None:
    """Leave the process group; once more is harmless.

    Args:
        awaits_others: Leave when the other ranks do. A rank that failed does not: they are in a
            collective that it will never join, and are to hear of it.
    """
    if not torch.distributed.is_initialized():
        return
    if awaits_others:
        with contextlib.suppress(RuntimeError):  # a rank that died cannot come to the barrier
            torch.distributed.barrier()
    import deepspeed

    deepspeed.comm.destroy_process_group()


class ZeroEngine:
    """A module under DeepSpeed, with AdamW.

    Args:
        config: The run's.
        module: What is trained.
        optimizer: AdamW's settings but for the rate, which each step brings.

    Attributes:
        inner: DeepSpeed's own engine, for checkpoints.
        adam: The optimizer that it steps.
        module: The module, whose parameters may be sharded (stage 3).
        device: Where its inputs belong.
        loss_scale: Of fp16; None elsewhere. Its owner changes it between steps.
    """

    def __init__(self, config: RunConfig, module: nn.Module, optimizer: AdamSection) -> None:
        deepspeed = _import_deepspeed()
        adam = torch.optim.AdamW(
            module.parameters(),
            lr=0.0,  # until `step` gives one: whatever is stepped while it is built stays as it is
            betas=optimizer.betas,
            eps=optimizer.eps,
            weight_decay=optimizer.weight_decay,
            fused=config.learner.offload != "none",  # its state is on the CPU then
        )
        self.inner, *_ = deepspeed.initialize(
            model=module,
            optimizer=adam,
            config=settings(config, optimizer),
            dist_init_required=False,
        )
        self.adam = adam
        adam.state.clear()  # no moments, and no step counted, before the first
        self._unused = Unused(self.inner, adam)
        self.module: Any = self.inner.module
        self.device: torch.device = self.inner.device
        self._world_size = torch.distributed.get_world_size()
        self._is_stepped_by_hand = _is_stepped_by_hand(config)
        self.loss_scale = LossScale() if config.learner.precision == "fp16" else None

    def forward(self, *args: Any, is_last: bool = False, **kwargs: Any) -> Any:
        """Call the module.

        Args:
            args, kwargs: The module's own.
            is_last: Of the micro-batches of this step.
        """
        if self._is_stepped_by_hand:
            self.inner.set_gradient_accumulation_boundary(is_last)
        return self.inner(*args, **kwargs)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one micro-batch's loss, a tensor [].

        DeepSpeed means over ranks, the loss sums over them.
        """
        loss = loss * self._world_size
        if self.loss_scale is not None:
            if self._is_stepped_by_hand:
                loss = loss * self.loss_scale.value
            else:
                self.inner.optimizer.override_loss_scale(self.loss_scale.value)
        self.inner.backward(loss, scale_wrt_gas=False)

    def step(self, lr: float) -> float:
        """Apply the gradient, unless it is not finite, and forget it.

        A parameter that no backward pass reached on any rank stays as it is.

        Args:
            lr: The rate of this step.

        Returns:
            Its global norm before clipping and without the loss scale; inf when it was not finite
            and nothing changed.
        """
        for group in self.inner.optimizer.param_groups:
            group["lr"] = lr
        with self._unused.held():
            if self._is_stepped_by_hand:
                return self._step_by_hand()
            self.inner.step()
        self._forget_gradients()
        is_applied = self.inner.was_step_applied()
        return float(self.inner.get_global_grad_norm()) if is_applied else math.inf

    def _step_by_hand(self) -> float:
        gradients = [p.grad for p in self.module.parameters() if p.grad is not None]
        if self.loss_scale is not None:
            torch._foreach_div_(gradients, self.loss_scale.value)
        norm = float(nn.utils.get_total_norm(gradients))  # of means: equal on all ranks
        if not math.isfinite(norm):
            self.inner.zero_grad()
            return math.inf
        self.inner.step()
        return norm

    def _forget_gradients(self) -> None:
        """Where ZeRO keeps a gradient, a NaN too, until the parameter has another."""
        optimizer = self.inner.optimizer
        kept = list(getattr(optimizer, "accumulated_grads_in_cpu", {}).values())  # offloaded
        if self.inner.zero_optimization_stage() == 3:
            kept.append(optimizer.grad_partitions_flat_buffer)
        for gradient in kept:
            gradient.zero_()

    def reset_optimizer(self) -> None:
        """Forget AdamW's moments and its count of steps."""
        for state in self.adam.state.values():
            for value in state.values():
                value.zero_()

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to evaluation mode, without gradients."""
        self.inner.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.inner.train()

    def destroy(self) -> None:
        """Remove DeepSpeed's hooks."""
        if torch.distributed.is_initialized():  # an engine here may have ended the group of one
            self.inner.destroy()


def _import_deepspeed() -> Any:
    import deepspeed

    # Built (by gcc, for a minute) when the backend is first used; a killed build blocks later ones.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(torch|deepspeed)\.")
    return deepspeed
