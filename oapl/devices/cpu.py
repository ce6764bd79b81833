"""CPU: gloo between ranks, fractional cores for Ray, one OpenMP thread unless told otherwise."""

from __future__ import annotations

from typing import Any

from oapl.config import RunConfig
from oapl.devices.base import HELPER_CPUS, Role, threads

TORCH_DEVICE = "cpu"
COLLECTIVE_BACKEND = "gloo"
ENGINE = "vllm_inprocess"
HAS_CARDS = False
"""Nothing to share out: `cluster.devices_per_*` and tensor parallelism over cards mean nothing."""


def resources(config: RunConfig, role: Role) -> dict[str, Any]:
    """What a Ray actor of this role asks for.

    Fractions, because a laptop has two cores and the actors take turns; how many threads really
    run is set by `environment`.
    """
    return {"num_cpus": {"worker": 0.4, "trainer": 0.4}.get(role, HELPER_CPUS)}


def environment(config: RunConfig, role: Role) -> dict[str, str]:
    """Variables that must stand before torch is imported in a process of this role."""
    return threads(config, role)
