"""The zygote: a warm Python inside the jail, which forks one process per program.

It runs no program itself and never holds one: source and input arrive as descriptors and are handed
on unread. One thread, no environment, nothing but its control socket; other processes cannot read
its memory. When the socket closes it ends, and with it everything that it started.

Messages (JSON): in `{"run": n}` with descriptors, and `{"kill": n}`; out `{"ready": ...}` once,
then `{"done": n, "status": wait status, "rss_kib": ..., "cpu_s": ...}` for each run.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from reward_server.sandbox import allowed, child, execute, landlock, streams

MAX_DESCRIPTORS = 5
SET_DUMPABLE, NEW_USER_NAMESPACE = 4, 0x10000000
CAPABILITY_VERSION_3 = 0x20080522

COMMON = (
    "array", "bisect", "collections", "contextlib", "copy", "dataclasses", "datetime", "decimal",
    "enum", "fractions", "functools", "heapq", "io", "itertools", "json", "math", "operator",
    "queue", "random", "re", "statistics", "string", "struct", "textwrap", "threading", "time",
    "types", "typing",
)  # fmt: skip
REST = (  # imported beforehand only where a program can open no file
    "abc", "argparse", "ast", "asyncio", "base64", "binascii", "calendar", "cmath", "codecs",
    "concurrent.futures.thread", "contextvars", "difflib", "fileinput", "getpass", "glob",
    "graphlib", "hashlib", "hmac", "inspect", "locale", "logging", "mmap", "numbers", "os.path",
    "pathlib", "pickle", "platform", "pprint", "reprlib", "secrets", "selectors", "shlex", "signal",
    "socket", "stat", "subprocess", "tempfile", "timeit", "tokenize", "traceback", "unicodedata",
    "unittest", "uuid", "warnings", "weakref", "zlib",
)  # fmt: skip


class Zygote:
    """Forks, kills and reaps.

    Args:
        control: Socket to the trusted side.
        confinement: What each fork is held to.
    """

    def __init__(self, control: socket.socket, confinement: child.Confinement) -> None:
        self._control = control
        self._confinement = confinement
        self._runs: dict[int, tuple[int, int]] = {}  # pidfd to run and process id
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)

    def serve(self) -> None:
        """Fork, kill and reap as told, until the control socket closes."""
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._runs:
                    self._reap(descriptor)
                elif not self._heed():
                    return

    def _heed(self) -> bool:
        text, descriptors, _, _ = socket.recv_fds(self._control, 4096, MAX_DESCRIPTORS)
        if not text:
            return False
        message = json.loads(text)
        if "run" in message:
            self._run(message["run"], list(descriptors))
        else:
            for pidfd, (number, _) in self._runs.items():
                if number == message["kill"]:
                    with suppress(ProcessLookupError):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return True

    def _run(self, number: int, descriptors: list[int]) -> None:
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            child.become(descriptors, parent, self._confinement)
        pidfd = os.pidfd_open(pid)
        self._runs[pidfd] = number, pid
        self._poll.register(pidfd, select.POLLIN)
        for descriptor in descriptors:
            os.close(descriptor)

    def _reap(self, pidfd: int) -> None:
        number, pid = self._runs.pop(pidfd)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        _, status, usage = os.wait4(pid, 0)
        say(
            self._control,
            {
                "done": number,
                "status": status,
                "rss_kib": usage.ru_maxrss,
                "cpu_s": usage.ru_utime + usage.ru_stime,
            },
        )


def say(control: socket.socket, message: dict[str, Any]) -> None:
    """Send a message to the trusted side.

    Args:
        control: The zygote's end of the socket.
        message: What is to be said, as JSON.
    """
    control.send(json.dumps(message).encode())


def lock_up(settings: dict[str, Any]) -> child.Confinement:
    """Lock this process up as far as it can still fork; the rest is done in each fork."""
    libc = ctypes.CDLL(None, use_errno=True)
    landlock.no_new_privileges()
    libc.prctl(SET_DUMPABLE, 0, 0, 0, 0)
    is_counted = _drop_user(libc, settings["user"])
    if settings["landlock"]:
        landlock.restrict(settings["readable"], ["/dev/null"])
    opens = settings["seccomp"] != "closed"
    filter = allowed.program(opens=opens) if settings["seccomp"] else b""
    if not settings["memory_bytes"]:
        return child.Confinement(filter, [])
    num_tasks = settings["num_tasks"] if is_counted else 0
    return child.Confinement(
        filter, child.limits(settings["memory_bytes"], num_tasks, settings["cpu_s"])
    )


def _drop_user(libc: ctypes.CDLL, user: int) -> bool:
    """Become `user` (0: stay), in a user namespace of its own, without capabilities.

    Returns:
        Whether the kernel now counts this user's tasks apart from everybody else's.
    """
    if user and os.geteuid() == 0 and _is_open_to_others(os.path.dirname(os.__file__)):
        with suppress(PermissionError):  # a root without its capabilities
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        libc.prctl(SET_DUMPABLE, 0, 0, 0, 0)
    is_alone = bool(user) and libc.unshare(NEW_USER_NAMESPACE) == 0
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    return is_alone and os.getuid() != 0


def _is_open_to_others(path: str) -> bool:
    """Whether any user may reach the folder: one under a closed home is lost with root."""
    while path != "/":
        if not os.stat(path).st_mode & 0o001:
            return False
        path = os.path.dirname(path)
    return True


def _prepare(modules: Sequence[str]) -> None:
    """Import what programs use, and put back what `-S` leaves out."""
    for name in modules:
        with suppress(ImportError):
            importlib.import_module(name)
    quitter = importlib.import_module("_sitebuiltins").Quitter
    builtins.exit, builtins.quit = quitter("exit", "EOF"), quitter("quit", "EOF")
    sys.set_int_max_str_digits(0)
    streams.prepare()
    execute.prepare()
    os.environ.clear()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> None:
    """Run the zygote; its settings are JSON in the first argument."""
    settings = json.loads(sys.argv[1])
    control = socket.socket(fileno=settings["control"])
    control.set_inheritable(False)
    try:
        sys.path[:] = [path for path in sys.path if path != settings["root"]] + settings["path"]
        _prepare(COMMON + (REST if settings["seccomp"] == "closed" else ()))
        for name in settings["packages"]:
            importlib.import_module(name)
        confinement = lock_up(settings)
    except (OSError, ImportError) as error:
        say(control, {"failed": f"{type(error).__name__}: {error}"})
        return
    gc.collect()
    gc.freeze()
    os.dup2(0, 2)  # what started us heard our complaints; programs have nobody to complain to
    say(control, {"ready": os.getpid()})
    with suppress(ConnectionError):
        Zygote(control, confinement).serve()
