"""What the two sandboxes hold on this machine, found by trying."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from deploy.doctor.finding import Finding, Level
from oapl.errors import first_line
from reward_server.sandbox import measure

AREA = "services"
PROBE = "from reward_server.sandbox.probe import probe; r = probe(); print(r.level); print(r)"
PROBE_TIMEOUT_S = 60.0


def look() -> Iterator[Finding]:
    """Try the sandbox in which rewards evaluate text, and the one in which they run programs."""
    yield _reward_sandbox()
    yield _program_sandbox()


def _reward_sandbox() -> Finding:
    """In a process of its own: the probe forks, which wants a single thread."""
    try:
        answer = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S
        )
        level, _, text = answer.stdout.strip().partition("\n")
        found = text.removeprefix("reward sandbox: ") or first_line(RuntimeError(answer.stderr))
    except subprocess.TimeoutExpired:
        level, found = "none", f"the probe did not answer within {PROBE_TIMEOUT_S:.0f} s"
    is_jailed = level not in ("", "none")
    return Finding(
        area=AREA,
        name="reward sandbox",
        found=found,
        level="ok" if is_jailed else "note",
        remedy=""
        if is_jailed
        else "verifiers that evaluate text are refused here: use Linux 5.13 or newer with Landlock "
        "and seccomp (in a container: let the syscalls through)",
    )


def _program_sandbox() -> Finding:
    """The level that holds against attack; `reward.min_level` refuses runs by it."""
    report = measure.strongest()
    better = "apt-get install bubblewrap, and allow user namespaces where this is a container"
    remedy = {
        "namespaces": "",
        "landlock": f"good enough for most; for namespaces around programs as well: {better}",
        "seccomp": f"{better}, or use Linux 5.13 or newer; until then the code verifier runs only "
        'with reward.min_level = "seccomp", and programs import only common modules',
        "none": f"the code verifier is refused here: {better}, or use Linux 5.13 or newer",
    }[report.level]
    found = str(report).removeprefix("program sandbox: ")
    level: Level = "note" if remedy else "ok"
    return Finding(area=AREA, name="program sandbox", found=found, level=level, remedy=remedy)
