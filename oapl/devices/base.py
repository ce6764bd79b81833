"""What the device files share: the roles of processes, and how devices are shared out."""

from __future__ import annotations

from types import ModuleType
from typing import Literal

from oapl.config import RunConfig, plugins

Role = Literal["replay", "reward", "worker", "trainer"]

HELPER_CPUS = 0.05
"""Of a process that mostly waits. How many threads really run is set by `environment`."""


def load(config: RunConfig) -> ModuleType:
    """The device file that `cluster.device` names."""
    return plugins.load("oapl.devices", config.cluster.device, "cluster.device")


def engine_name(config: RunConfig) -> str:
    """The file of actors/engines that `rollout.engine` names, or that suits the device."""
    name = config.rollout.engine
    return str(load(config).ENGINE) if name == "auto" else name


def num_devices(config: RunConfig, role: Role) -> float:
    """Devices that a process of this role asks for, where there are any to share out."""
    if role == "worker":
        return config.cluster.devices_per_engine or float(config.rollout.tensor_parallel_size)
    return config.cluster.devices_per_rank or 1.0 if role == "trainer" else 0.0


def threads(config: RunConfig, role: Role) -> dict[str, str]:
    """Variables that set the CPU threads of a process."""
    count = {
        "worker": config.cluster.engine_threads,
        "trainer": config.cluster.learner_threads,
    }.get(role, 1)
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
