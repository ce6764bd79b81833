"""What the device files share: what each declares, the roles of processes, and how devices are
shared out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from oapl.config import RunConfig
from oapl.config.kinds import Kind
from oapl.config.objective import has_engines

Role = Literal["replay", "reward", "worker", "trainer"]

HELPER_CPUS = 0.05
"""Of a process that mostly waits. How many threads really run is set by `environment`."""


class DeviceFile(Protocol):
    """A file of `oapl/devices/`, or a module of the user's own; imports its library late."""

    TORCH_DEVICE: Annotated[str, "torch's name of the device", 'TORCH_DEVICE = "cpu"']
    COLLECTIVE_BACKEND: Annotated[
        str, "torch.distributed's backend between ranks", 'COLLECTIVE_BACKEND = "gloo"'
    ]
    ENGINE: Annotated[str, "the engine that suits it, a file of actors/engines", 'ENGINE = "..."']
    HAS_CARDS: Annotated[
        bool, "whether there are cards that processes may share", "HAS_CARDS = True"
    ]

    def resources(self, config: RunConfig, role: Role) -> Mapping[str, Any]:
        """What a Ray actor of this role asks for.

        Args:
            config: The run, for how devices are shared out.
            role: What the process does.

        Returns:
            Options of `ray.remote`: `num_cpus`, `num_gpus`, `resources`.
        """

    def environment(self, config: RunConfig, role: Role) -> Mapping[str, str]:
        """Variables that must stand before torch is imported in a process of this role.

        Args:
            config: The run, for the number of threads.
            role: What the process does.
        """


DEVICES: Kind[DeviceFile] = Kind("oapl.devices", DeviceFile)


def load(config: RunConfig) -> DeviceFile:
    """Load the device file that `cluster.device` names."""
    return DEVICES.load(config.cluster.device, "cluster.device")


def engine_name(config: RunConfig) -> str:
    """Name the file of actors/engines that `rollout.engine` asks for, or that suits the device."""
    name = config.rollout.engine
    return load(config).ENGINE if name == "auto" else name


def num_devices(config: RunConfig, role: Role) -> float:
    """Count the devices that a process asks for, where there are any to share out.

    Args:
        config: The run.
        role: What the process does; replay and reward servers ask for none.

    Returns:
        Fractions where processes share a device.
    """
    if role == "worker":
        return config.cluster.devices_per_engine or float(config.rollout.tensor_parallel_size)
    return config.cluster.devices_per_rank or 1.0 if role == "trainer" else 0.0


def num_held(config: RunConfig) -> float:
    """Count the devices that engines and learner hold together: cards, or threads without them."""
    engines = config.rollout.num_engines if has_engines(config) else 0
    ranks = config.learner.num_ranks
    if load(config).HAS_CARDS:
        return engines * num_devices(config, "worker") + ranks * num_devices(config, "trainer")
    cluster = config.cluster
    return float(engines * cluster.engine_threads + ranks * cluster.learner_threads)


def threads(config: RunConfig, role: Role) -> dict[str, str]:
    """Make the variables that set the CPU threads of a process.

    Args:
        config: The run.
        role: What the process does; replay and reward servers get one thread.
    """
    count = {
        "worker": config.cluster.engine_threads,
        "trainer": config.cluster.learner_threads,
    }.get(role, 1)
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count)}
