"""How long a publication takes by each transport, from bytes and rates.

Inside hosts all transports do the same once: gather, cast, copy, digest, load, probe; hosts work
side by side. Between hosts `object_store` hands chunks from node to node, whoever has them giving
them on: as often one after the other as the number of nodes can be doubled. `collective` is one
broadcast, each chunk passed on while the next one comes. `disk` writes once, and each node reads.
"""

from __future__ import annotations

import math

from oapl.planning.rates import Rates
from oapl.planning.task import Task

TRANSPORTS = ("object_store", "collective", "disk")


def seconds(task: Task, rates: Rates, transport: str) -> float:
    """Count the seconds of one publication to all engines.

    Args:
        task: For its bytes and hosts.
        rates: Of hosts, network and disk.
        transport: Of `TRANSPORTS`; another, as `local`, stays inside the host.
    """
    size = task.publication_bytes
    inside = size / rates.host_bytes_per_s.value
    is_alone = task.held <= task.devices_per_node
    if transport == "disk":
        return inside + size * (1 + task.engine_nodes) / rates.disk_bytes_per_s.value
    if is_alone or transport == "local":
        return inside
    hops = math.ceil(math.log2(task.engine_nodes + 1)) if transport == "object_store" else 1
    return inside + hops * size / rates.network_bytes_per_s.value
