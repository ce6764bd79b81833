"""The processes of a run as Ray actors, each with a log file of its own in the run folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from actors.data.tokenizer import load_model_config
from deploy.processes import kept_ray, keys, ray_cluster, roles, stacks
from deploy.processes.base import Process
from deploy.processes.handles import AsyncHost, RayHandle, SyncHost, death
from deploy.processes.kept_ray import Kept
from deploy.processes.nodes import Demand, Node, has, unmet, words
from deploy.processes.ray_cluster import start_local_ray
from deploy.sizing.publication import store_bytes
from deploy.sizing.shape import shape_of
from oapl.config import RunConfig
from oapl.devices.base import Role
from oapl.errors import DeadlineError, HeadError, InputError, NodeError, OaplError, RankError
from oapl.interfaces import Trainer
from oapl.remote.waiting import in_thread_of_its_own, within
from oapl.whole_files import written_aside

CALL_GRACE_S = 60.0
"""What a call of replay may take beyond the longest deadline that is handed to it."""
LOOPBACK = "127.0.0.1"
FAREWELL_S = 5.0
"""For the head of a cluster to answer at the end of a run, that went wrong or not."""
LOOK_S = 1.0
"""Between two looks at a cluster's nodes: nobody announces one."""
PIDS_FILE = "processes.json"


class RayProcesses:
    """Starts Ray actors, on a cluster that is joined or started here.

    Args:
        config: The run.
        asked: What it will start; refused before anything is, where the cluster can never hold it.
        patience_s: As of `connect`.

    Raises:
        InputError: See `connect`.
    """

    def __init__(self, config: RunConfig, asked: Sequence[Demand], patience_s: float = 0.0) -> None:
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        self._config = config
        self._started: list[Process[Any]] = []
        self._pids: dict[str, int | None] = {}
        self._trouble: OaplError | None = None
        self._ranks: Any = None  # their placement group
        where = config.ray_address
        self._kept = kept_ray.current()
        self._own = self._kept is not None or not ray_cluster.is_running()
        self._has_own_servers = self._own and not where
        self._ray: Any = self._connect(where)
        try:
            if self._has_own_servers and (lost := ray_cluster.lost_server(self._ray)):
                raise lost  # since the stage before
            self._find_room(asked, patience_s, is_joined=bool(where) and self._own)
        except (HeadError, NodeError) as error:
            self._abandon(error)
            raise
        except BaseException:
            self._leave()
            raise

    def _connect(self, where: str) -> Any:
        """Join, start, or take what is there already."""
        if not self._own:
            import ray

            return ray
        config, found = self._config, self._kept or Kept()
        needed = 0 if where else _store_bytes(config)
        if found.ray is None or found.store_bytes < needed:
            found.end()
            if where:
                found.ray = ray_cluster.join(where, config.cluster.start_timeout_s)
            else:
                found.ray = start_local_ray(
                    num_cpus=max(os.cpu_count() or 1, 2),
                    object_store_bytes=needed,
                    timeout_s=config.cluster.start_timeout_s,
                )
            found.store_bytes = needed
        return found.ray

    def _find_room(self, asked: Sequence[Demand], patience_s: float, *, is_joined: bool) -> None:
        """Wait, not longer than that, for nodes that hold what is asked for and are as they must
        be; a node that has died is among the living for as long as Ray does not know."""
        deadline = time.monotonic() + patience_s
        while True:
            nodes = self._await_nodes(asked, deadline)
            try:
                return self._check(asked, nodes, is_joined=is_joined)
            except InputError:
                still = {node.id for node in ray_cluster.living_nodes(self._ray)}
                if time.monotonic() >= deadline or still.issuperset(node.id for node in nodes):
                    raise

    def _await_nodes(self, asked: Sequence[Demand], deadline: float) -> list[Node]:
        while unmet(asked, nodes := ray_cluster.living_nodes(self._ray), {}):
            if time.monotonic() >= deadline:
                break
            time.sleep(LOOK_S)
        return nodes

    def _check(self, asked: Sequence[Demand], nodes: Sequence[Node], *, is_joined: bool) -> None:
        if lines := unmet(asked, nodes, ray_cluster.free_resources(self._ray)):
            raise InputError("\n".join(lines))
        if is_joined:
            useful = [node for node in nodes if node.total.get("CPU")]
            ray_cluster.check_nodes(self._ray, useful, self._config.folder)

    async def start(self, role: Role, name: str, **kwargs: Any) -> Process[Any]:
        """Start an actor where there is room for it; see `Processes.start`."""
        options = roles.options(self._config, role)
        if role == "reward":  # its state is nothing but counters, and what it holds is asked again
            options |= {"max_restarts": -1, "scheduling_strategy": "SPREAD"}
        actor = self._create(role, name, options, kwargs)
        return await self._begin(role, name, actor, {})

    async def start_ranks(self) -> list[Process[Trainer]]:
        """Start the ranks in one placement group: on one node if it holds them, else on few.

        Ranks of a node are consecutive; rank 0's node chooses the port at which all meet.

        Raises:
            DeadlineError: They got no place within `cluster.start_timeout_s`.
            RankError: One died meanwhile.
        """
        bundles = await self._place_ranks()
        world = len(bundles)
        actors = []
        for rank, strategy in enumerate(bundles):
            options = {**roles.options(self._config, "trainer"), "scheduling_strategy": strategy}
            place = {"rank": rank, "world_size": world}
            actors.append(self._create("trainer", f"trainer-{rank}", options, place))
        places = await asyncio.gather(*(self._place_of(*one) for one in enumerate(actors)))
        address, port = places[0]
        if len({address for address, _ in places}) == 1:
            address = LOOPBACK
        meeting = {"master_address": address, "master_port": port}
        starts = [
            self._begin("trainer", f"trainer-{rank}", actor, meeting)
            for rank, actor in enumerate(actors)
        ]
        return list(await asyncio.gather(*starts))

    async def _place_of(self, rank: int, actor: Any) -> tuple[str, int]:
        name, limit_s = f"trainer-{rank}", self._config.cluster.start_timeout_s
        try:
            place: tuple[str, int]
            place = await within(limit_s, actor.place.remote(), f"the address of {name}")
        except self._ray.exceptions.RayActorError as error:
            _tell_of_early_death("trainer", name, error)
        return place

    async def _place_ranks(self) -> list[Any]:
        """Scheduling strategies, one per rank."""
        from ray.util.placement_group import placement_group, placement_group_table
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        self._free_ranks()
        world = self._config.learner.num_ranks
        each = roles.amounts(self._config, "trainer")
        self._ranks = placement_group([each] * world, strategy="PACK")
        limit_s = self._config.cluster.start_timeout_s
        if not await asyncio.to_thread(self._ranks.wait, limit_s):
            raise DeadlineError(
                f"waited {limit_s:g} s (cluster.start_timeout_s) for the place of {world} learner "
                f"ranks of {words(each)}; {self._there()}"
            )
        node_of = placement_group_table(self._ranks)["bundles_to_node_id"]
        first = node_of[0]
        order = sorted(node_of, key=lambda bundle: (node_of[bundle] != first, node_of[bundle]))
        return [
            PlacementGroupSchedulingStrategy(self._ranks, placement_group_bundle_index=bundle)
            for bundle in order
        ]

    def _create(
        self, role: Role, name: str, options: Mapping[str, Any], kwargs: Mapping[str, Any]
    ) -> Any:
        host = SyncHost if role == "trainer" else AsyncHost
        runtime = {"env_vars": roles.environment(self._config, role)}
        log = str(self._config.folder / "logs" / f"{name}.log")
        remote = self._ray.remote(host).options(**options, runtime_env=runtime)
        build, own = (
            roles.BUILDERS_ALONE.get(role, roles.BUILDERS[role]),
            keys.of(self._config, role),
        )
        folder = "" if ray_cluster.is_job() else os.getcwd()  # of a job each node has a copy
        return remote.remote(build, self._config, log, kwargs, own, folder)

    async def _begin(
        self, role: Role, name: str, actor: Any, late: Mapping[str, Any]
    ) -> Process[Any]:
        """Build the object inside its actor; the actor is killed when that fails."""
        limit_s = self._config.cluster.start_timeout_s
        try:
            pid = await within(limit_s, actor.start.remote(**late), f"{name} to start")
        except BaseException as error:
            self._ray.kill(actor)
            if isinstance(error, DeadlineError):
                raise DeadlineError(
                    f"{error} (cluster.start_timeout_s); it asks for "
                    f"{words(roles.amounts(self._config, role))}; {self._there()}"
                ) from None
            cause = getattr(error, "cause", None)
            if isinstance(cause, OaplError):
                raise cause from None
            if isinstance(error, self._ray.exceptions.RayActorError):
                _tell_of_early_death(role, name, error)
            raise
        limit = self._config.sync.timeout_s + CALL_GRACE_S if role == "replay" else None
        process = Process(name, RayHandle(actor, name, limit), pid, actor)
        self._started.append(process)
        self._note_pid(process, pid)
        return process

    def _there(self) -> str:
        nodes = ray_cluster.living_nodes(self._ray)
        return has(nodes, ray_cluster.free_resources(self._ray))

    def _note_pid(self, process: Process[Any], pid: int | None) -> None:
        """For a person who looks for the process to inspect or to end; None of one that is gone."""
        if self._pids.get(process.name) == pid:
            return
        self._pids[process.name] = pid
        there = {name: found for name, found in self._pids.items() if found is not None}
        with contextlib.suppress(OSError), written_aside(self._config.folder / PIDS_FILE) as part:
            part.write_text(json.dumps(there, indent=1) + "\n")  # a full disk stops what matters

    async def ping(self, process: Process[Any]) -> int:
        """Ask the actor for its process id, and note it; see `Processes.ping`."""
        pid: int = await process.actor.ping.remote()
        self._note_pid(process, pid)
        return pid

    async def replace(self, process: Process[Any]) -> None:
        """Kill the process; Ray starts the actor again. See `Processes.replace`."""
        self._ray.kill(process.actor, no_restart=False)

    async def trouble(self, patience_s: float = 0.0) -> OaplError | None:
        """See `Processes.trouble`; the head of a cluster that is not our own may come back."""
        if self._trouble is None and self._has_own_servers:
            self._trouble = ray_cluster.lost_server(self._ray)
        elif self._trouble is None:
            limit_s = patience_s or ray_cluster.HEAD_SILENCE_S
            self._trouble = await ray_cluster.lost_head(self._ray, limit_s)
        return self._trouble

    async def write_stacks(self, path: Path, why: str) -> None:
        """See `Processes.write_stacks`.

        Args:
            path: The file.
            why: For its head.
        """
        there = [replace(one, pid=self._pids.get(one.name) or one.pid) for one in self._started]
        await stacks.write(path, why, there)

    async def kill(self, process: Process[Any]) -> None:
        """Kill the actor."""
        self._ray.kill(process.actor)
        if process in self._started:
            self._started.remove(process)
            self._note_pid(process, None)

    async def close(self) -> None:
        """Kill every actor, and leave the cluster, which ends if it was started here."""
        if trouble := await self.trouble(FAREWELL_S):
            await in_thread_of_its_own(partial(self._abandon, trouble))
            return
        for process in self._started.copy():
            await self.kill(process)
        self._free_ranks()
        await in_thread_of_its_own(self._leave)

    def _abandon(self, trouble: OaplError) -> None:
        """Part of the cluster answers no more: end what was started here, as far as one can."""
        self._started.clear()
        if self._kept is not None:
            self._kept.ray = None
            self._kept = None
        if isinstance(trouble, HeadError):
            ray_cluster.leave_headless(self._ray)
        else:
            self._leave()

    def _free_ranks(self) -> None:
        """Give the place of ranks that are gone back to the cluster."""
        from ray.util.placement_group import remove_placement_group

        if self._ranks is not None:
            remove_placement_group(self._ranks)
            self._ranks = None

    def _leave(self) -> None:
        if self._own and self._kept is None:
            self._ray.shutdown()


def _store_bytes(config: RunConfig) -> int:
    shape = shape_of(load_model_config(config.model.path, config.model.trust_remote_code))
    return store_bytes(config, shape)


def _tell_of_early_death(role: Role, name: str, error: Exception) -> NoReturn:
    """A process was killed while it started; ranks can only be started again together."""
    died = death(name, error, "while it was being started")
    died.__cause__ = error
    if role != "trainer":
        raise died
    raise RankError(f"learner rank {died}") from died
