"""What a fork of the zygote does: lock itself up, run one program, say how it ended.

Descriptors: 0 standard input, 1 standard output, 2 nothing, 3 the program (JSON), 4 the report, and
5, for calls, the channel to whoever calls. A program is run in one of four modes:

* `script`: as `__main__`, from standard input to standard output;
* `function`: defined, then called once; the value goes into the report;
* `serve`: defined, then called as often as the channel asks;
* `harness`: tests, not a model's text; what they call lies beyond the channel, in a `serve`.

The report is JSON and is believed by nobody: a program may write into it whatever it likes. It says
why something failed, or carries a value that is compared elsewhere.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from reward_server.sandbox import allowed, bpf, execute, harness, report

PROGRAM = 3
SET_PARENT_DEATH_SIGNAL = 1
STACK_BYTES = 120 * 2**20  # the room that the kernel left below the stack when Python started
_LIBC = ctypes.CDLL(None)
MODES: Mapping[str, Callable[[Mapping[str, Any]], NoReturn]] = {
    "script": execute.script,
    "function": execute.function,
    "serve": execute.serve,
    "harness": harness.harness,
}


@dataclass(frozen=True, slots=True)
class Confinement:
    """What a fork is held to.

    Attributes:
        filter: The seccomp program; empty for none.
        limits: Resource to its soft and hard limit.
    """

    filter: bytes
    limits: Sequence[tuple[int, tuple[int, int]]]


def become(descriptors: list[int], parent: int, confinement: Confinement) -> NoReturn:
    """Turn this fork into the program. Never returns.

    Args:
        descriptors: Input, output, the program, the report and, for calls, the channel.
        parent: Process id of the zygote, whose death ends this process.
        confinement: What this process is held to.
    """
    try:
        _rearrange(descriptors)
        _LIBC.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        for name, limit in confinement.limits:
            resource.setrlimit(name, limit)
        if confinement.filter and not bpf.install(
            allowed.of_process(confinement.filter, os.getpid())
        ):
            os._exit(1)
        size = os.fstat(PROGRAM).st_size
        program = json.loads(os.pread(PROGRAM, size, 0))
        os.close(PROGRAM)
        MODES[program["mode"]](program)
    finally:
        os._exit(1)


def _rearrange(descriptors: list[int]) -> None:
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in descriptors]
    for target, descriptor in zip(
        (0, 1, PROGRAM, report.REPORT, report.CHANNEL), high, strict=False
    ):
        os.dup2(descriptor, target)
    os.closerange(3 + len(descriptors) - 2, 1024)


def limits(memory_bytes: int, num_tasks: int, cpu_s: int) -> list[tuple[int, tuple[int, int]]]:
    """Give the limits of a program, none above what this process has itself.

    Args:
        memory_bytes: Most address space.
        num_tasks: Most threads of this user; 0 where the kernel would count others' too.
        cpu_s: Processor time, behind the deadline.

    Returns:
        Resource and its soft and hard limit.
    """
    wanted = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if num_tasks:
        wanted[resource.RLIMIT_NPROC] = num_tasks
    found = [
        (name, (most, most)) for name, value in wanted.items() for most in [_most(name, value)]
    ]
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)  # programs raise it themselves
    return [*found, (resource.RLIMIT_STACK, (_most(resource.RLIMIT_STACK, STACK_BYTES), hard))]


def _most(name: int, value: int) -> int:
    _, hard = resource.getrlimit(name)
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
