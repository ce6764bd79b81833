"""The system calls that a program under test may make, as a seccomp program: an allow-list.

What is not listed answers EPERM, as a library that merely tries something expects; what only an
attack calls (`_FATAL`) kills the process on the spot with SIGSYS, so that it is seen. There is no
fork, no exec, no socket but a connected pair, no signal to any process but the own one.

The list is a search tree over call numbers: the kernel walks it for each number when it is
installed, which a program of 150 comparisons in a row makes three times as dear. The numbers of
aarch64 were compared with the kernel's headers; they have not been run.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping

from reward_server.sandbox import bpf
from reward_server.sandbox.bpf import (
    ALLOW,
    AND,
    ARCHITECTURES,
    ARGUMENT_0,
    ARGUMENT_1,
    ERRNO,
    JUMP_ANY_BIT,
    JUMP_EQUAL,
    JUMP_GREATER_EQUAL,
    KILL_PROCESS,
    LOAD,
    RETURN,
    step,
)

Numbers = Mapping[str, tuple[int | None, int | None]]  # of x86_64, of aarch64

_PLAIN: Numbers = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66),
    "pread64": (17, 67), "pwrite64": (18, 68), "close": (3, 57), "close_range": (436, 436),
    "fstat": (5, 80), "stat": (4, None), "lstat": (6, None), "newfstatat": (262, 79),
    "statx": (332, 291), "lseek": (8, 62), "access": (21, None), "faccessat": (269, 48),
    "faccessat2": (439, 439), "getcwd": (79, 17), "readlink": (89, None),
    "readlinkat": (267, 78), "getdents64": (217, 61), "pipe": (22, None), "pipe2": (293, 59),
    "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "select": (23, None),
    "pselect6": (270, 72), "poll": (7, None), "ppoll": (271, 73), "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22),
    "epoll_pwait2": (441, 441), "eventfd2": (290, 19), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233), "brk": (12, 214),
    "msync": (26, 227), "mincore": (27, 232), "membarrier": (324, 283),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132), "restart_syscall": (219, 128), "pause": (34, None),
    "alarm": (37, None), "setitimer": (38, 103), "getitimer": (36, 102), "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "gettimeofday": (96, 169), "time": (201, None), "times": (100, 153), "getrusage": (98, 165),
    "sysinfo": (99, 179), "uname": (63, 160), "getcpu": (309, 168), "getpid": (39, 172),
    "getppid": (110, 173), "gettid": (186, 178), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getpgrp": (111, None), "getpgid": (121, 155),
    "getsid": (124, 156), "getrlimit": (97, 163), "setrlimit": (160, 164), "futex": (202, 98),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "set_tid_address": (218, 96),
    "rseq": (334, 293), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "getrandom": (318, 278), "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211),
    "recvmsg": (47, 212), "getsockname": (51, 204), "getsockopt": (55, 209),
    "setsockopt": (54, 208), "shutdown": (48, 210), "exit": (60, 93), "exit_group": (231, 94),
}  # fmt: skip
_OPENS: Numbers = {"open": (2, None), "openat": (257, 56)}
_FATAL: Numbers = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "process_madvise": (440, 440), "kcmp": (312, 272), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "move_mount": (429, 429),
    "open_tree": (428, 428), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "open_by_handle_at": (304, 265), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "sethostname": (170, 161),
    "setdomainname": (171, 162), "iopl": (172, None), "ioperm": (173, None),
    "seccomp": (317, 277), "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445), "landlock_restrict_self": (446, 446), "syslog": (103, 116),
    "acct": (163, 89), "quotactl": (179, 60), "modify_ldt": (154, None),
}  # fmt: skip
_LOOKED_AT: Numbers = {
    "fcntl": (72, 25), "ioctl": (16, 29), "prctl": (157, 167), "prlimit64": (302, 261),
    "socketpair": (53, 199), "kill": (62, 129), "tgkill": (234, 131), "clone": (56, 220),
    "clone3": (435, 435),
}  # fmt: skip

CLONE_THREAD = 0x10000
# Duplicate, close-on-exec, status flags, pipe size. Not F_SETOWN and F_SETSIG, which make the
# kernel signal a process of the same user.
_FCNTL = (0, 1, 2, 3, 4, 1030, 1032)
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, window, FIONREAD, FIONBIO...
_PRCTL = (15, 16)  # the thread's name
_UNIX, _STREAM, _TYPE_MASK = 1, 1, 0xF
_PID = 0x7E57_91D0  # stands for the process id, until `of_process` puts it in


def program(*, opens: bool = True) -> bytes:
    """Make the filter, for `of_process`.

    Args:
        opens: Files may be opened; False where nothing else would say which.

    Raises:
        OSError: There is no table for this machine.
    """
    machine = bpf.machine()
    if machine is None:
        raise OSError("no table of system calls for this machine (x86_64 and aarch64 have one)")
    column = list(ARCHITECTURES).index(machine)
    leaves: dict[int, list[bytes]] = {}
    for table, answer in (
        (_PLAIN, [step(RETURN, ALLOW)]),
        (_OPENS, [step(RETURN, ALLOW if opens else ERRNO | errno.EACCES)]),
        (_FATAL, [step(RETURN, KILL_PROCESS)]),
    ):
        leaves |= {n: answer for row in table.values() if (n := row[column]) is not None}
    for name, row in _LOOKED_AT.items():
        number = row[column]
        assert number is not None
        leaves[number] = _look(name)
    kill = step(RETURN, KILL_PROCESS)
    return b"".join([*bpf.head(machine, kill), *_tree(_intervals(leaves))])


def of_process(program: bytes, pid: int) -> bytes:
    """Make the filter of one process: `kill` and `tgkill` reach that process and no other.

    Args:
        program: What `program` made.
        pid: The process.
    """
    return program.replace(struct.pack("=I", _PID), struct.pack("=I", pid))


def _look(name: str) -> list[bytes]:
    """Instructions that decide by the arguments of a call."""
    if name == "clone3":  # its flags lie in memory; the C library falls back to clone
        return [step(RETURN, ERRNO | errno.ENOSYS)]
    if name == "clone":
        return [step(LOAD, ARGUMENT_0), step(JUMP_ANY_BIT, CLONE_THREAD, no=1), *_allow_or_deny()]
    if name == "socketpair":  # a datagram socket could still be sent to any address
        return [
            step(LOAD, ARGUMENT_0),
            step(JUMP_EQUAL, _UNIX, no=4),
            step(LOAD, ARGUMENT_1),
            step(AND, _TYPE_MASK),
            step(JUMP_EQUAL, _STREAM, no=1),
            *_allow_or_deny(),
        ]
    argument, values = {
        "fcntl": (ARGUMENT_1, _FCNTL),
        "ioctl": (ARGUMENT_1, _IOCTL),
        "prctl": (ARGUMENT_0, _PRCTL),
        "prlimit64": (ARGUMENT_0, (0, _PID)),
        "kill": (ARGUMENT_0, (_PID,)),
        "tgkill": (ARGUMENT_0, (_PID,)),
    }[name]
    tests = [
        step(JUMP_EQUAL, value, yes=len(values) - 1 - i, no=0 if i + 1 < len(values) else 1)
        for i, value in enumerate(values)
    ]
    return [step(LOAD, argument), *tests, *_allow_or_deny()]


def _allow_or_deny() -> list[bytes]:
    return [step(RETURN, ALLOW), step(RETURN, ERRNO | errno.EPERM)]


def _intervals(leaves: Mapping[int, list[bytes]]) -> list[tuple[int, list[bytes]]]:
    """Every call number up to the next start does the same: (start, instructions)."""
    deny = [step(RETURN, ERRNO | errno.EPERM)]
    found: list[tuple[int, list[bytes]]] = [(0, deny)]
    for number in sorted({edge for n in leaves for edge in (n, n + 1)}):
        answer = leaves.get(number, deny)
        if found[-1][0] == number:
            found[-1] = (number, answer)
        elif found[-1][1] != answer:
            found.append((number, answer))
    return found


def _tree(intervals: list[tuple[int, list[bytes]]]) -> list[bytes]:
    if len(intervals) == 1:
        return intervals[0][1]
    middle = len(intervals) // 2
    low, high = _tree(intervals[:middle]), _tree(intervals[middle:])
    assert len(low) < 256, "a jump of BPF skips at most 255 instructions"
    return [step(JUMP_GREATER_EQUAL, intervals[middle][0], yes=len(low)), *low, *high]
