"""Landlock by system call: the calling process reads some paths and touches nothing else.

Linux 5.13 and later, without privileges; Docker's and Kubernetes' default profiles allow it.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on x86_64 and aarch64
VERSION_FLAG, RULE_PATH_BENEATH, SET_NO_NEW_PRIVS = 1, 1, 38
WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
TCP_BIND_AND_CONNECT, SCOPE_SOCKETS_AND_SIGNALS = 0b11, 0b11
_FS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # access rights known to each ABI; 16 from ABI 5 on


def abi() -> int:
    """Landlock's ABI on this kernel; 0 where there is none."""
    return max(_libc().syscall(CREATE_RULESET, None, 0, VERSION_FLAG), 0)


def no_new_privileges() -> None:
    """Exec can no longer gain privileges; both Landlock and seccomp ask for this first.

    Raises:
        OSError: The kernel refused.
    """
    _done(_libc().prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")


def restrict(readable: Iterable[str], writable: Iterable[str] = ()) -> bool:
    """Deny this process all file access but reading beneath `readable`, and TCP from ABI 4 on.

    Args:
        readable: Files and folders.
        writable: Files that may be written too.

    Returns:
        False where the kernel has no Landlock; nothing is restricted then.

    Raises:
        OSError: Landlock is there but refused.
    """
    version = abi()
    if not version:
        return False
    no_new_privileges()
    rights = (1 << _FS_BITS.get(version, 16)) - 1
    attributes = struct.pack("=Q", rights)
    if version >= 4:
        attributes += struct.pack("=Q", TCP_BIND_AND_CONNECT)
    if version >= 6:
        attributes += struct.pack("=Q", SCOPE_SOCKETS_AND_SIGNALS)
    ruleset = _libc().syscall(CREATE_RULESET, attributes, len(attributes), 0)
    _done(ruleset, "landlock_create_ruleset")
    for path in readable:
        _allow(ruleset, path, READ_FILE)
    for path in writable:
        _allow(ruleset, path, (READ_FILE | WRITE_FILE | TRUNCATE) & rights)
    _done(_libc().syscall(RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)
    return True


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    rule = struct.pack("=Qi", rights | (READ_DIR if is_folder else 0), descriptor)
    _done(_libc().syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0), "landlock_add_rule")
    os.close(descriptor)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _done(result: int, call: str) -> None:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
