"""The command that starts a jail, and what must be seen inside it."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from reward_server.sandbox import bubblewrap
from reward_server.sandbox.levels import Layers

MIB = 2**20
FIRST_USER, NUM_USERS = 40_000, 20_000  # one per slot: the kernel counts a user's tasks together
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAIN = "import sys; sys.path.insert(0, {!r}); from reward_server.sandbox.zygote import main; main()"
ENVIRONMENT = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Of the jail's first moments; a zygote has one thread, and programs have no environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What each program may use.

    Attributes:
        memory_bytes: Address space. Threads with stacks of 128 MiB are usual in contests.
        num_tasks: Threads, where the kernel can count them apart.
        cpu_s: Processor time; only a second line behind the deadline.
    """

    memory_bytes: int = 1024 * MIB
    num_tasks: int = 64
    cpu_s: int = 60


def command(layers: Layers, bounds: Bounds, packages: Sequence[str], control: int) -> list[str]:
    """Make the command line of a jail.

    Args:
        layers: What stands between its programs and the machine.
        bounds: What each program may use.
        packages: What programs may import besides the standard library.
        control: Descriptor of the socket over which the zygote is told what to run.

    Raises:
        FileNotFoundError: There is no bubblewrap.
    """
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    found = [path for name in packages for path in locate(name)]
    readable = [*_readable(python), *found]
    settings = {
        "root": ROOT,
        "control": control,
        "packages": list(packages),
        "path": sorted({os.path.dirname(path) for path in found}),
        "landlock": layers.landlock,
        "readable": [*readable, *bubblewrap.DEVICES],
        "seccomp": layers.seccomp,
        "user": FIRST_USER + os.getpid() % NUM_USERS if layers.user else 0,
        "memory_bytes": bounds.memory_bytes if layers.limits else 0,
        "num_tasks": bounds.num_tasks,
        "cpu_s": bounds.cpu_s,
    }
    # As -I, but for the hash seed: a verdict must not depend on the order of a set.
    line = [python, "-s", "-S", "-P", "-B", "-X", "utf8", "-c", MAIN.format(ROOT)]
    line.append(json.dumps(settings))
    if not layers.namespaces:
        return line
    program = bubblewrap.find()
    if program is None:
        raise FileNotFoundError("there is no bwrap")
    return bubblewrap.wrapped(program, line, readable)


def locate(package: str) -> list[str]:
    """Files and folders that make up a package; empty where it is not installed."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    if not folders:
        return [spec.origin] if spec.origin and os.path.isfile(spec.origin) else []
    libraries = f"{folders[0]}.libs"  # where wheels keep shared libraries
    return [folders[0], libraries] if os.path.isdir(libraries) else [folders[0]]


def _readable(python: str) -> list[str]:
    """What a jail must see to run Python."""
    prefix = sys.base_prefix
    own = [os.path.join(ROOT, "reward_server", name) for name in ("__init__.py", "sandbox")]
    if prefix == "/usr":
        return [*bubblewrap.SYSTEM, python, *own]
    return [*bubblewrap.SYSTEM, prefix, python, *own]
