"""A seccomp filter, written as BPF by hand: no processes, no sockets, no signals to others.

Denied calls answer EPERM; clone3 answers ENOSYS, so that the C library falls back to clone, where
threads can be told from processes. The table of aarch64 has not been run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from reward_server.sandbox import landlock

SET_SECCOMP, MODE_FILTER = 22, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT_0 = 0, 4, 16  # offsets into struct seccomp_data
CLONE_THREAD = 0x10000
X32_BIT = 0x40000000

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
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
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    landlock.no_new_privileges()
    program = b"".join(_program(machine))
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.prctl(SET_SECCOMP, MODE_FILTER, header, 0, 0) == 0


def _program(machine: str) -> list[bytes]:
    """The filter: each test is followed by the return it guards, so that all jumps are short."""
    deny = _step(RETURN, ERRNO | errno.EPERM)
    lines = [
        _step(LOAD, ARCHITECTURE),
        _step(JUMP_EQUAL, _ARCHITECTURES[machine], yes=1),
        deny,
        _step(LOAD, NUMBER),
        _step(JUMP_GREATER_EQUAL, X32_BIT, no=1),
        deny,
        _step(JUMP_EQUAL, _CLONE3, no=1),
        _step(RETURN, ERRNO | errno.ENOSYS),
    ]
    for number in (*_DENIED[machine], *_COMMON):
        lines += [_step(JUMP_EQUAL, number, no=1), deny]
    lines += [
        _step(JUMP_EQUAL, _CLONE[machine], no=4),
        _step(LOAD, ARGUMENT_0),
        _step(JUMP_ANY_BIT, CLONE_THREAD, yes=1),
        deny,
        _step(RETURN, ALLOW),
    ]
    for number in _SIGNALS[machine]:
        lines += [
            _step(JUMP_EQUAL, number, no=4),
            _step(LOAD, ARGUMENT_0),
            _step(JUMP_EQUAL, os.getpid(), yes=1),
            deny,
            _step(RETURN, ALLOW),
        ]
    return [*lines, _step(RETURN, ALLOW)]


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
