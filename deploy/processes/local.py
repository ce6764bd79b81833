"""All of a run in this process: for a first look, a debugger and tests."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from deploy.processes import roles, stacks
from deploy.processes.base import Process
from deploy.processes.handles import LocalHandle
from oapl.config import RunConfig, plugins
from oapl.devices.base import Role
from oapl.errors import OaplError
from oapl.interfaces import Trainer
from oapl.remote.waiting import within


class LocalProcesses:
    """Runs everything in this process; for a first look, a debugger and tests."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._started: list[Process[Any]] = []
        self._building = asyncio.Lock()  # transformers makes models under process-wide switches
        for role in ("worker", "trainer"):
            for key, value in roles.environment(config, role).items():  # type: ignore[arg-type]
                os.environ.setdefault(key, value)

    async def start(self, role: Role, name: str, **kwargs: Any) -> Process[Any]:
        """Build the object here, on a thread of its own; see `Processes.start`."""
        thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        build = plugins.resolve(roles.BUILDERS[role])
        loop = asyncio.get_running_loop()
        async with self._building:
            target = await loop.run_in_executor(thread, lambda: build(self._config, **kwargs))
        process = Process(name, LocalHandle(target, thread), os.getpid(), None)
        self._started.append(process)
        return process

    async def start_ranks(self) -> list[Process[Trainer]]:
        """Build the ranks one after the other; see `Processes.start_ranks`."""
        world = self._config.learner.num_ranks
        return [
            await self.start("trainer", f"trainer-{rank}", rank=rank, world_size=world)
            for rank in range(world)
        ]

    async def ping(self, process: Process[Any]) -> int:
        """Return: who asks is there."""
        return os.getpid()

    async def replace(self, process: Process[Any]) -> None:
        """Do nothing: it has no process of its own."""

    async def trouble(self, patience_s: float = 0.0) -> OaplError | None:
        """Know of none."""
        return None

    async def write_stacks(self, path: Path, why: str) -> None:
        """Write where this process stands.

        Args:
            path: The file.
            why: For its head.
        """
        await stacks.write(path, why, ())

    async def kill(self, process: Process[Any]) -> None:
        """Close the object, if it can be."""
        limit_s = self._config.sync.timeout_s
        if close := getattr(process.handle, "close", None):
            await within(limit_s, close(), f"{process.name} to close")
        if process in self._started:
            self._started.remove(process)

    async def close(self) -> None:
        """Close every object, the last one first."""
        for process in reversed(self._started.copy()):
            await self.kill(process)
