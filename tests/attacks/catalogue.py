"""The programs in `programs/`: attacks by group, forgeries, and odd but correct programs.

A program follows a line `==== what it does`, in which a JSON object may say more.

An attack prints THROUGH, or leaves a trace outside, if it gets through. None does harm where it
succeeds, since layers are switched off to see what each is for: a module of Python is only opened
for writing, processes are only looked for. Its capitals stand for what the attacked side has
prepared: SECRET (a readable file), FOLDER (writable by all) with VICTIM in it, PORT and UDP
(listening), UNIX and ABSTRACT (sockets), PARENT (a process of the trusted side), ROOT (this
project), HOSTNAME.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
GROUPS = ("secrets", "writes", "network", "kernel", "resources")
CALL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def call(*args):
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    assert result >= 0, ctypes.get_errno()
    return result
"""
"""Stands before attacks that name an architecture: they make system calls by number."""

SQUARES: Mapping[str, Mapping[str, Any]] = {
    "calls": {
        "tests": [
            {"input": "7301", "output": "53304601", "testtype": "functional"},
            {"input": "9412", "output": "88585744", "testtype": "functional"},
        ],
        "fn_name": "square",
    },
    "check": {
        "tests": "def check(candidate):\n    assert candidate(7301) == 53304601\n"
        "    assert abs(candidate(9412) - 88585744) < 1\n",
        "entry_point": "square",
    },
    "printed": {
        "tests": {"inputs": ["7301\n", "9412\n"], "outputs": ["53304601\n", "88585744\n"]},
    },
}
"""The problem that forgeries pretend to solve, in three forms: to square a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A program and what it must not be able to do.

    Attributes:
        at_least: The weakest level that is to stop it.
        architecture: The machine whose system calls it makes by number; empty for any.
    """

    group: str
    what: str
    source: str
    at_least: str = "seccomp"
    architecture: str = ""

    @property
    def is_endless(self) -> bool:
        """It says nothing, but does not end: the trusted side's deadline and caps stop it."""
        return "THROUGH" not in self.source


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """A program that cannot square, and wants to be told it can; `tests`: a key of SQUARES."""

    what: str
    source: str
    tests: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """A correct program that a careless sandbox refuses; `at_least`: the weakest level for it."""

    what: str
    source: str
    stdin: str = "3 4\n"
    expected: str = "7\n"
    at_least: str = "seccomp"


def attacks() -> list[Attack]:
    """All attacks on the machine."""
    found = []
    for group in GROUPS:
        for entry in _read(group):
            if "architecture" in entry:
                entry["source"] = CALL + entry["source"]
            found.append(Attack(group=group, **entry))
    return found


def forgeries() -> list[Forgery]:
    """All attacks on the verdict."""
    return [Forgery(**entry) for entry in _read("forged")]


def correct() -> list[Odd]:
    """Odd but correct programs, two of which are long."""
    reads = "import sys; print(sum(map(int, sys.stdin.read().split())))"
    return [
        *(Odd(**entry) for entry in _read("correct")),
        Odd(what="reads much", source=reads, stdin="1 " * 300_000, expected="300000\n"),
        Odd(what="prints much", source="print('7\\n' * 200000)", expected="7\n" * 200_000),
    ]


def _read(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for block in (PROGRAMS / f"{name}.txt").read_text().split("==== ")[1:]:
        head, _, source = block.partition("\n")
        what, brace, more = head.partition("{")
        options = json.loads(brace + more) if brace else {}
        found.append({"what": what.strip(), "source": source.strip("\n") + "\n", **options})
    return found
