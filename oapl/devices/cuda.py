"""NVIDIA GPUs: NCCL between ranks, Ray's `GPU` resource. Not run yet: no GPU was at hand.

Ray gives each process its own cards and hides the others, so a process counts them from 0. NCCL
refuses two ranks on one card; an engine and a rank may share one, and weights then travel through
the host.
"""

from __future__ import annotations

from typing import Any

from oapl.config import RunConfig
from oapl.devices.base import HELPER_CPUS, Role, num_devices, threads

TORCH_DEVICE = "cuda"
COLLECTIVE_BACKEND = "nccl"
ENGINE = "vllm_async"
HAS_CARDS = True


def resources(config: RunConfig, role: Role) -> dict[str, Any]:
    """What a Ray actor of this role asks for."""
    if not (cards := num_devices(config, role)):
        return {"num_cpus": HELPER_CPUS}
    return {"num_cpus": 1, "num_gpus": cards}


def environment(config: RunConfig, role: Role) -> dict[str, str]:
    """Variables that must stand before torch is imported in a process of this role."""
    variables = threads(config, role)
    if role == "trainer":  # packed micro-batches differ in size, which fragments fixed segments
        variables["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"
    return variables
