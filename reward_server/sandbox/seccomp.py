"""A seccomp filter, written as BPF by hand: no processes, no sockets, no signals to others.

Denied calls answer EPERM; clone3 answers ENOSYS, so that the C library falls back to clone, where
threads can be told from processes. The table of aarch64 has not been run.
"""

from __future__ import annotations

import errno
import os

from reward_server.sandbox import bpf, landlock
from reward_server.sandbox.bpf import (
    ALLOW,
    ARGUMENT_0,
    ERRNO,
    JUMP_ANY_BIT,
    JUMP_EQUAL,
    LOAD,
    RETURN,
    step,
)

CLONE_THREAD = 0x10000

_COMMON = (424, 425, 426, 427, 434, 438)  # pidfd_send_signal, io_uring_*, pidfd_open, pidfd_getfd
_DENIED = {
    # socket, ptrace, fork, vfork, execve, execveat, tkill, rt_sigqueueinfo, rt_tgsigqueueinfo,
    # process_vm_readv, process_vm_writev, mount, umount2, pivot_root, chroot, unshare, setns, bpf,
    # memfd_create, shmget, msgget, semget, mq_open, add_key, request_key, keyctl, perf_event_open,
    # userfaultfd, open_by_handle_at, init_module, finit_module, kexec_load, reboot, settimeofday,
    # clock_settime
    "x86_64": (41, 101, 57, 58, 59, 322, 200, 129, 297, 310, 311, 165, 166, 155, 161, 272, 308, 321,
               319, 29, 68, 64, 240, 248, 249, 250, 298, 323, 304, 175, 313, 246, 169, 164, 227),
    "aarch64": (198, 117, 221, 281, 130, 138, 240, 270, 271, 40, 39, 41, 51, 97, 268, 280, 279, 194,
                186, 190, 180, 217, 218, 219, 241, 282, 265, 105, 273, 104, 142, 170, 112),
}  # fmt: skip
_CLONE, _CLONE3 = {"x86_64": 56, "aarch64": 220}, 435
_SIGNALS = {"x86_64": (62, 234), "aarch64": (129, 131)}  # kill, tgkill


def restrict() -> bool:
    """Install the filter in this process.

    Returns:
        False where the machine has no table or the kernel no seccomp.
    """
    machine = bpf.machine()
    landlock.no_new_privileges()
    return machine is not None and bpf.install(b"".join(_program(machine)))


def _program(machine: str) -> list[bytes]:
    """The filter: each test is followed by the return it guards, so that all jumps are short."""
    deny = step(RETURN, ERRNO | errno.EPERM)
    lines = [
        *bpf.head(machine, deny),
        step(JUMP_EQUAL, _CLONE3, no=1),
        step(RETURN, ERRNO | errno.ENOSYS),
    ]
    for number in (*_DENIED[machine], *_COMMON):
        lines += [step(JUMP_EQUAL, number, no=1), deny]
    lines += [
        step(JUMP_EQUAL, _CLONE[machine], no=4),
        step(LOAD, ARGUMENT_0),
        step(JUMP_ANY_BIT, CLONE_THREAD, yes=1),
        deny,
        step(RETURN, ALLOW),
    ]
    for number in _SIGNALS[machine]:
        lines += [
            step(JUMP_EQUAL, number, no=4),
            step(LOAD, ARGUMENT_0),
            step(JUMP_EQUAL, os.getpid(), yes=1),
            deny,
            step(RETURN, ALLOW),
        ]
    return [*lines, step(RETURN, ALLOW)]
