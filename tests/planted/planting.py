"""A copy of the tree with one bug in it, and what the named test says of it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.planted.bugs import Bug

ROOT = Path(__file__).parents[2]
COPIED = ("oapl", "actors", "learner", "reward_server", "deploy", "tests")
FILES = ("pyproject.toml",)
TIMEOUT_S = 180.0
CAUGHT, MISSED, BROKEN, HUNG = "caught", "missed", "broken", "hung"
"""The test failed; it passed; it did not run, or fails without the bug too; it never ended."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a bug.

    Attributes:
        what, file, test: As of the bug.
        outcome: `CAUGHT`, or one of the others.
        said: The first line of the failure.
        seconds: That the test took, imports included.
        digest: Of bug, file and test, as they were: others are tried anew.
    """

    what: str
    file: str
    test: str
    outcome: str
    said: str
    seconds: float
    digest: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def copy(place: Path) -> None:
    """Copy what unit tests need."""
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "cells")
        shutil.copytree(ROOT / name, place / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, place / name)


def digest(bug: Bug) -> str:
    """Of all that decides what becomes of a bug, but for the files that both use."""
    made = hashlib.sha256(repr(bug).encode())
    for file in (bug.file, bug.test.partition("::")[0]):
        made.update((ROOT / file).read_bytes())
    return made.hexdigest()


def plant(bug: Bug, text: str) -> str:
    """The file's text with the bug in it.

    Raises:
        ValueError: The text to be replaced does not stand there once.
    """
    if (count := text.count(bug.old)) != 1:
        raise ValueError(f"{bug.file} has {bug.old!r} {count} times, not once: {bug.what}")
    return text.replace(bug.old, bug.new)


def attempt(bug: Bug, place: Path) -> Outcome:
    """Run the named test with the bug and, where it fails, without it."""
    file, started = place / bug.file, time.monotonic()
    sound = file.read_text()
    file.write_text(plant(bug, sound))
    try:
        outcome, said = _verdict(*_run(bug, place))
    except subprocess.TimeoutExpired:
        outcome, said = HUNG, f"the test had not ended after {TIMEOUT_S:.0f} s"
    finally:
        file.write_text(sound)
    seconds = time.monotonic() - started
    return Outcome(bug.what, bug.file, bug.test, outcome, said, round(seconds, 1), digest(bug))


def failing(bugs: list[Bug], place: Path) -> list[str]:
    """Names of the tests that fail without any bug."""
    code, text = _pytest(sorted({bug.test for bug in bugs}), place, len(bugs) * TIMEOUT_S)
    if code not in (0, 1):
        raise RuntimeError(f"the tests do not run without a bug:\n{text[:2000]}")
    return re.findall(r"^FAILED (\S+)", text, re.M)


def _run(bug: Bug, place: Path) -> tuple[int, str]:
    return _pytest([bug.test], place, TIMEOUT_S)


def _pytest(tests: list[str], place: Path, timeout_s: float) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["--timeout=60", "-q", "--tb=line", "-rf", *tests]
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
    made = subprocess.run(
        command,
        cwd=place,
        env=environment,
        timeout=timeout_s,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return made.returncode, made.stdout


def _verdict(code: int, text: str) -> tuple[str, str]:
    lines = re.findall(r"^FAILED .*?(?: - (.*))?$", text, re.M)
    if code == 1 and lines:
        return CAUGHT, lines[0][:160] or "failed"
    if code == 0:
        return MISSED, "the test passed"
    return BROKEN, (text.strip().splitlines() or ["nothing"])[-1][:160]
