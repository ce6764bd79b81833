"""Starts the processes of a run, on Ray or in this process, behind one small interface.

Environment variables come from the device, engine and DeepSpeed files, so that they stand before
torch or vLLM is imported. On Ray every process writes its own log file under the run folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from deploy.handles import AsyncHost, LocalHandle, RayHandle, SyncHost
from oapl import plugins
from oapl.config import RunConfig
from oapl.devices.base import Role, engine_name
from oapl.devices.base import load as load_device
from oapl.errors import InputError, OaplError
from oapl.waiting import within

START_TIMEOUT_S = 300.0
CALL_GRACE_S = 60.0
"""What a call of replay may take beyond the longest deadline that is handed to it."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
BUILDERS: dict[Role, str] = {
    "replay": "deploy.program:build_replay",
    "reward": "reward_server.server:build",
    "worker": "actors.worker:build",
    "trainer": "learner.trainer:build",
}


@dataclass(slots=True)
class Process:
    """A running object: its handle, the operating system's process id, and the Ray actor if any."""

    name: str
    handle: Any
    pid: int
    actor: Any = None


class Processes(Protocol):
    async def start(self, role: Role, name: str, **kwargs: Any) -> Process: ...

    async def kill(self, process: Process) -> None: ...

    async def close(self) -> None: ...


def connect(config: RunConfig) -> Processes:
    """The launcher that `cluster.mode` names."""
    return RayProcesses(config) if config.cluster.mode == "ray" else LocalProcesses(config)


def environment(config: RunConfig, role: Role) -> dict[str, str]:
    """Variables for a process of this role, of its device and of the library inside it."""
    variables = dict(load_device(config).environment(config, role))
    if role == "worker":
        engine = plugins.load("actors.engines", engine_name(config), "rollout.engine")
        variables |= engine.environment(config)
    if role == "trainer":
        variables |= plugins.resolve("learner.deepspeed:environment")(config)
    return variables


class LocalProcesses:
    """Everything in this process; for a first look, a debugger and tests."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._started: list[Process] = []
        self._building = asyncio.Lock()  # transformers makes models under process-wide switches
        for role in ("worker", "trainer"):
            for key, value in environment(config, role).items():  # type: ignore[arg-type]
                os.environ.setdefault(key, value)

    async def start(self, role: Role, name: str, **kwargs: Any) -> Process:
        thread = ThreadPoolExecutor(1, thread_name_prefix=name)
        build = plugins.resolve(BUILDERS[role])
        loop = asyncio.get_running_loop()
        async with self._building:
            target = await loop.run_in_executor(thread, lambda: build(self._config, **kwargs))
        process = Process(name, LocalHandle(target, thread), os.getpid(), None)
        self._started.append(process)
        return process

    async def kill(self, process: Process) -> None:
        with contextlib.suppress(AttributeError):
            await process.handle.close()
        if process in self._started:
            self._started.remove(process)

    async def close(self) -> None:
        for process in reversed(self._started.copy()):
            await self.kill(process)


class RayProcesses:
    """Ray actors, on a cluster that is joined or started here."""

    def __init__(self, config: RunConfig) -> None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._config = config
        self._started: list[Process] = []
        running = sys.modules.get("ray")
        self._own = running is None or not running.is_initialized()
        if not self._own:
            self._ray: Any = running
        elif config.cluster.address:
            self._ray = _connect_ray(config.cluster.address)
        else:
            self._ray = start_local_ray(num_cpus=max(os.cpu_count() or 1, 2))

    async def start(self, role: Role, name: str, **kwargs: Any) -> Process:
        host = SyncHost if role == "trainer" else AsyncHost
        options: dict[str, Any] = load_device(self._config).resources(self._config, role)
        options["runtime_env"] = {"env_vars": environment(self._config, role)}
        if role == "reward":  # its state is nothing but counters: Ray restarts it where it was
            options["max_restarts"] = self._config.cluster.max_restarts
        log = str(self._config.folder / "logs" / f"{name}.log")
        actor = (
            self._ray.remote(host)
            .options(**options)
            .remote(BUILDERS[role], self._config, log, kwargs)
        )
        try:
            pid = await within(START_TIMEOUT_S, actor.start.remote(), f"{name} to start")
        except Exception as error:  # noqa: BLE001  raised again, without Ray's wrapping
            self._ray.kill(actor)
            cause = getattr(error, "cause", None)
            raise (cause if isinstance(cause, OaplError) else error) from None
        limit_s = self._config.sync.timeout_s + CALL_GRACE_S if role == "replay" else None
        process = Process(name, RayHandle(actor, name, limit_s), pid, actor)
        self._started.append(process)
        self._write_pids()
        return process

    def _write_pids(self) -> None:
        """For a person who looks for the process to inspect or to end."""
        pids = {process.name: process.pid for process in self._started}
        (self._config.folder / "processes.json").write_text(json.dumps(pids, indent=1) + "\n")

    async def kill(self, process: Process) -> None:
        self._ray.kill(process.actor)
        if process in self._started:
            self._started.remove(process)

    async def close(self) -> None:
        for process in self._started.copy():
            await self.kill(process)
        if self._own:
            self._ray.shutdown()


def start_local_ray(num_cpus: int, object_store_bytes: int = 512 * 2**20) -> Any:
    """A cluster of this machine alone, all of whose servers listen on the loopback interface.

    Returns:
        The `ray` module.
    """
    # Ray's own switch for desktops; it is read when ray is first imported.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    ray.init(
        address="local",
        num_cpus=num_cpus,
        include_dashboard=False,
        object_store_memory=object_store_bytes,
        _node_ip_address="127.0.0.1",
        **QUIET,
    )
    return ray


def _connect_ray(address: str) -> Any:
    import ray

    try:
        ray.init(address=address, **QUIET)
    except ConnectionError as error:
        raise InputError(
            f"cluster.address = {address!r}: no Ray cluster answers there; start one with "
            "`ray start --head`, or leave cluster.address empty"
        ) from error
    return ray
