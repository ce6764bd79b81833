"""CPU: gloo between ranks, fractional cores for Ray, one OpenMP thread unless told otherwise."""

from __future__ import annotations

from typing import Literal

from oapl.config import RunConfig

Role = Literal["replay", "reward", "worker", "trainer"]

TORCH_DEVICE = "cpu"
COLLECTIVE_BACKEND = "gloo"


def resources(role: Role) -> dict[str, float]:
    """What a Ray actor of this role asks for.

    Fractions, because a laptop has two cores and the actors take turns; how many threads really
    run is set by `environment`.
    """
    return {"num_cpus": {"worker": 0.4, "trainer": 0.4}.get(role, 0.05)}


def environment(config: RunConfig, role: Role) -> dict[str, str]:
    """Variables that must stand before torch is imported in a process of this role."""
    threads = {
        "worker": config.cluster.engine_threads,
        "trainer": config.cluster.learner_threads,
    }.get(role, 1)
    return {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
