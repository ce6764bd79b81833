"""Ascend NPUs: HCCL between ranks, Ray's `NPU` resource. Not run yet: no NPU was at hand.

torch_npu registers itself when torch is imported (`torch.backends` entry point). Ray gives each
process its own cards and hides the others (`ASCEND_RT_VISIBLE_DEVICES`); with
RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES=1 it would not, and all processes would take card
0, so that variable is put back to its default here.
"""

from __future__ import annotations

from typing import Any

from oapl.config import RunConfig
from oapl.devices.base import HELPER_CPUS, Role, num_devices, threads

TORCH_DEVICE = "npu"
COLLECTIVE_BACKEND = "hccl"
ENGINE = "vllm_async"
HAS_CARDS = True

HCCL_WAIT_S = 120, 7200
"""Shortest and longest HCCL_CONNECT_TIMEOUT that HCCL takes."""


def resources(config: RunConfig, role: Role) -> dict[str, Any]:
    """What a Ray actor of this role asks for."""
    if not (cards := num_devices(config, role)):
        return {"num_cpus": HELPER_CPUS}
    return {"num_cpus": 1, "resources": {"NPU": cards}}


def environment(config: RunConfig, role: Role) -> dict[str, str]:
    """Variables that must stand before torch is imported in a process of this role."""
    shortest, longest = HCCL_WAIT_S
    variables = threads(config, role) | {
        "RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES": "0",
        "HCCL_CONNECT_TIMEOUT": str(int(min(max(config.sync.timeout_s, shortest), longest))),
    }
    if role == "worker":
        # With weights in the NZ layout vllm-ascend refuses to take in new ones.
        variables["VLLM_ASCEND_ENABLE_NZ"] = "0"
    if role == "trainer":  # packed micro-batches differ in size, which fragments fixed segments
        variables["PYTORCH_NPU_ALLOC_CONF"] = "expandable_segments:True"
    return variables
