"""A small jail for worker processes that hand a model's text to an evaluating scorer.

`enter()` locks up the calling process for good: no new privileges; Landlock, so that it reads
nothing but Python's own files and writes nothing; TCP denied; seccomp, so that it starts no
process, opens no socket and signals nobody else; no core dumps, no file growth. It is built from
system calls by ctypes and needs neither root nor a namespace. `probe()` tries it out in a child
and says what really held: level `landlock+seccomp`, `landlock`, or `none`.

What it does not cover: a payload can still burn its processor share until the deadline, read the
worker's own memory (the reference answer of the rollout at hand included), and forge the reward of
this and of later answers in the same worker; expected outputs of programming problems must
therefore never enter such a process. Without seccomp, UDP, fork and (Landlock ABI < 6) signals
stay open. The kernel itself is not shielded: this is no virtual machine.
"""

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
