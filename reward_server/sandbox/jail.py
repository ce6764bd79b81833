"""Limits of worker processes, and the jail: all of it at once, for good."""

from __future__ import annotations

import os
import resource
import sys

from reward_server.sandbox import landlock, seccomp

LEVELS = ("none", "landlock", "landlock+seccomp")


def enter(memory_bytes: int = 0) -> None:
    """Jail this process, as far as the kernel lets it. There is no way back."""
    limit(memory_bytes)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    _no_processes()
    _silence()
    landlock.restrict(readable())
    seccomp.restrict()


def limit(memory_bytes: int = 0) -> None:
    """The limits of every worker, jailed or not: no core dumps, and so much address space."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard != resource.RLIM_INFINITY:
            memory_bytes = min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def readable() -> list[str]:
    """What a jailed process may read: Python, its packages, shared libraries, time zones."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    packages = [p for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")]
    own = [os.path.join(root, name) for name in ("oapl", "reward_server")]
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache"]
    devices = ["/dev/null", "/dev/urandom", "/dev/zero"]
    return [sys.prefix, sys.base_prefix, *packages, *own, *system, *devices]


def _no_processes() -> None:
    """Not enforced for root; seccomp is."""
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _silence() -> None:
    """Standard streams lead nowhere: a payload must not write into the server's log."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
