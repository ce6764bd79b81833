"""CPU: gloo between ranks, fractional cores for Ray, one OpenMP thread unless told otherwise."""

from __future__ import annotations

import os
from typing import Any

from oapl.config import RunConfig
from oapl.config.objective import has_engines
from oapl.devices.base import HELPER_CPUS, Role, threads

TORCH_DEVICE = "cpu"
COLLECTIVE_BACKEND = "gloo"
ENGINE = "vllm_inprocess"
HAS_CARDS = False
"""Nothing to share out: `cluster.devices_per_*` and tensor parallelism over cards mean nothing."""
KERNELS_KEPT = 32
"""Matrix products in bf16 that a learner rank keeps compiled; a micro-batch uses about twenty.

oneDNN compiles one for each shape it meets and keeps 1,024, torch keeps as many descriptions of
them. Micro-batches have ever new shapes: a rank kept some 10 MB for each, strewn over its heap, so
that the room of freed activations between them was lost too, and grew with every step.
"""


def resources(config: RunConfig, role: Role) -> dict[str, Any]:
    """See `oapl.devices.base.DeviceFile`.

    Fractions, because a laptop has two cores and the actors take turns; how many threads really
    run is set by `environment`.

    Args:
        config: Is not read: the fractions are the same for every run.
        role: What the process does; workers and trainers are the ones that compute.
    """
    return {"num_cpus": {"worker": 0.4, "trainer": 0.4}.get(role, HELPER_CPUS)}


def environment(config: RunConfig, role: Role) -> dict[str, str]:
    """See `oapl.devices.base.DeviceFile`."""
    variables = threads(config, role)
    if role == "trainer":
        variables["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = str(KERNELS_KEPT)
        variables["LRU_CACHE_CAPACITY"] = "1"  # of torch's descriptions, quickly made anew
    if role == "trainer" and _is_crowded(config):
        # Threads that spin while they wait for one another take the very cores they wait for: two
        # ranks of two threads on two cores took 5 to 22 times as long as two of one thread, and
        # 1.3 times with this. On free cores spinning is faster (0.5M parameters: 1.8 times).
        variables["OMP_WAIT_POLICY"] = "PASSIVE"
    return variables


def _is_crowded(config: RunConfig) -> bool:
    """More threads than this machine has cores, and several to a rank."""
    cluster = config.cluster
    ranks = config.learner.num_ranks * cluster.learner_threads
    engines = config.rollout.num_engines * cluster.engine_threads if has_engines(config) else 0
    return cluster.learner_threads > 1 and ranks + engines > (os.cpu_count() or 1)
