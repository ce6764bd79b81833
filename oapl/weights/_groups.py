"""A process group for one round of a broadcast, by its back end's name.

Beside the default group and of nobody's concern but its members'. `gloo` moves tensors between
main memories; `nccl`, and what a package registers with torch by name (`hccl`, of torch_npu), moves
them between devices. Run were gloo and a back end registered by a test: no card was at hand. What
NCCL and HCCL do when a member dies is therefore read, not seen: a wait on the host ends at its
deadline, but a communicator that is still being made with a peer that is gone may keep its thread.
"""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

HOSTS = "gloo"
"""The back end that ends in main memory."""
LOOPBACK = "127.0.0.1"
LENIENT = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0", "HCCL_ASYNC_ERROR_HANDLING": "0"}
"""For groups of devices: else a watchdog ends the process when a peer is gone, here the learner."""


def is_known(backend: str) -> bool:
    """Whether torch knows a back end of that name in this process."""
    from torch.distributed import Backend

    return backend in (HOSTS, "nccl") or backend.upper() in Backend._plugins


class Group:
    """Those of a round; of each, one group.

    Args:
        backend: Name of torch's back end; `is_known`.
        store: Where members meet, a prefix of this round alone.
        host: The store's; loopback keeps gloo there.
        rank: 0 is the sender.
        size: Members.
        timeout: Longest for one broadcast.

    Raises:
        RuntimeError: A member did not come, or there is no such device.
    """

    def __init__(
        self, backend: str, store: Store, host: str, *, rank: int, size: int, timeout: timedelta
    ) -> None:
        from torch.distributed import Backend

        self._timeout = timeout
        self._is_of_hosts = backend == HOSTS
        self.device = "cpu" if self._is_of_hosts else Backend.backend_capability[backend][0]
        if self._is_of_hosts:
            self._group = _gloo(store, host, rank, size, timeout)
        else:
            with _lenience:
                self._group = _of_devices(backend, store, rank, size, timeout)

    def pass_on(self, tensor: Tensor) -> None:
        """Send `tensor` [bytes] to all others, if this is rank 0; else fill it.

        Raises:
            RuntimeError: A peer is gone or silent.
        """
        from torch.distributed import BroadcastOptions

        options = BroadcastOptions()
        options.rootRank = 0
        # With a limit a wait lasts until the device is done; without, NCCL's would return at once.
        self._group.broadcast([tensor], options).wait(self._timeout)

    def leave(self) -> None:
        """End what the group holds. Gloo's sockets go with the last reference."""
        if not self._is_of_hosts:
            self._group.abort()


def _gloo(store: Store, host: str, rank: int, size: int, timeout: timedelta) -> Any:
    from torch.distributed import ProcessGroupGloo

    options = ProcessGroupGloo._Options()
    options._timeout = timeout
    options._devices = [
        ProcessGroupGloo.create_device(hostname=LOOPBACK)
        if host == LOOPBACK
        else ProcessGroupGloo.create_default_device()
    ]
    return ProcessGroupGloo(store, rank, size, options)


def _of_devices(backend: str, store: Store, rank: int, size: int, timeout: timedelta) -> Any:
    from torch import distributed

    if backend == "nccl":
        if not distributed.is_nccl_available():
            raise RuntimeError("this torch has no NCCL")
        nccl = distributed.ProcessGroupNCCL.Options()
        nccl._timeout = timeout
        return distributed.ProcessGroupNCCL(store, rank, size, nccl)
    plugin = distributed.Backend._plugins[backend.upper()]
    if not plugin.extended_api:
        return plugin.creator_fn(store, rank, size, timeout)
    options = distributed.distributed_c10d._DistributedBackendOptions()
    options.store = store
    options.group_rank = rank
    options.group_size = size
    options.timeout = timeout
    options.group_id = "weights"
    options.global_ranks_in_group = []
    return plugin.creator_fn(options, None)


class _Lenience:
    """`LENIENT` in the environment, which groups read while they are made, and only then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: dict[str, str | None] = {}
        self._holders = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = {name: os.environ.get(name) for name in LENIENT}
                os.environ.update(LENIENT)
            self._holders += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._holders -= 1
            for name, value in self._before.items() if self._holders == 0 else ():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


_lenience = _Lenience()
