"""Pieces of a seccomp program: instructions of classic BPF, and how a process takes one on."""

from __future__ import annotations

import ctypes
import platform
import struct

SET_SECCOMP, MODE_FILTER = 22, 2
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, AND = 0x20, 0x54
JUMP_EQUAL, JUMP_GREATER_EQUAL, JUMP_ANY_BIT, RETURN = 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENT_0, ARGUMENT_1 = 0, 4, 16, 24  # offsets into struct seccomp_data
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_BIT = 0x40000000
_LIBC = ctypes.CDLL(None)


def machine() -> str | None:
    """This machine's name if there is a table of system calls for it."""
    name = platform.machine()
    return name if name in ARCHITECTURES else None


def step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """Make one instruction.

    Args:
        code: The operation, one of those above.
        value: Its operand.
        yes: How many instructions a jump skips where its test holds.
        no: And where it does not.
    """
    return struct.pack("=HBBI", code, yes, no, value)


def head(machine: str, refusal: bytes) -> list[bytes]:
    """Begin a filter: the call's number is loaded, and means what the tables say.

    Args:
        machine: Whose table the filter holds.
        refusal: What meets a call of another architecture, whose numbers mean other calls.
    """
    return [
        step(LOAD, ARCHITECTURE),
        step(JUMP_EQUAL, ARCHITECTURES[machine], yes=1),
        refusal,
        step(LOAD, NUMBER),
        step(JUMP_GREATER_EQUAL, X32_BIT, no=1),
        refusal,
    ]


def install(program: bytes) -> bool:
    """Hold this process, and all it starts, to a program; False where the kernel refuses.

    It must have given up new privileges (`landlock.no_new_privileges`).
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    return _LIBC.prctl(SET_SECCOMP, MODE_FILTER, header, 0, 0) == 0
