"""A verifier that does to its own process whatever the prompt's reference says."""

import ctypes
import os
import re
import signal
import time

from oapl.config.fields import section
from oapl.records import Prompt, Rollout, Verdict
from reward_server.verifiers.base import GIB, Limits, Traits


@section
class Config:
    jailed: bool = False
    start: str = ""
    deadline_s: float = 0.0
    workers: int = 0
    first_s: float = 0.0


def limits(config: Config) -> Limits:
    return Limits(
        is_jailed=config.jailed,
        memory_bytes=GIB,
        deadline_s=config.deadline_s,
        workers=config.workers,
        first_s=config.first_s,
    )


class Hostile:
    def __init__(self, start: str) -> None:
        self._start = start
        self._kept: list[bytearray] = []

    def start(self, level: str) -> None:
        if self._start == "raise":
            raise ImportError("no module named nonsense")
        if self._start == "exit":
            os._exit(7)

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        kind, argument = prompt.reference["do"], prompt.reference.get("argument")
        if kind == "loop":
            while True:
                pass
        elif kind == "c_hang":
            re.match(r"(a+)+$", "a" * 60 + "b")
        elif kind == "no_signals":
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
            time.sleep(1000)
        elif kind == "segfault":
            ctypes.string_at(0)
        elif kind == "exit":
            os._exit(3)
        elif kind == "sys_exit":
            raise SystemExit(3)
        elif kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif kind == "memory":
            return Verdict(kind="accepted", reward=float(len(bytearray(8 * GIB))))
        elif kind == "raise":
            raise KeyError("column")
        elif kind == "garbage":
            os.write(int(_sockets()[0]), b"\xff" * 64)
        elif kind == "nan":
            return Verdict(kind="accepted", reward=float("nan"))
        elif kind == "eval":
            return Verdict(kind="accepted", reward=1.0, detail=str(eval(argument)))
        elif kind == "pid":
            return Verdict(kind="accepted", reward=1.0, detail=str(os.getpid()))
        elif kind == "slow":
            time.sleep(float(argument))
        elif kind == "wait":  # says that it has begun
            open(f"{argument}.begun", "w").close()
            while not os.path.exists(argument):
                time.sleep(0.01)
        elif kind == "leak":
            self._kept.append(bytearray(int(argument)))
        elif kind == "parts":
            return Verdict(kind="accepted", reward=1.0, parts=eval(argument))
        elif kind == "kind":
            return Verdict(kind=argument, reward=0.0)
        return Verdict(kind="accepted", reward=float(rollout.text))


def _sockets() -> list[str]:
    folder = "/proc/self/fd"
    found = []
    for name in os.listdir(folder):
        try:
            if os.readlink(f"{folder}/{name}").startswith("socket:"):
                found.append(name)
        except FileNotFoundError:
            continue
    return found


def build(config: Config) -> Hostile:
    return Hostile(config.start)


DECLARES = Traits(runs_programs=False, limits=limits, start=Hostile.start)
