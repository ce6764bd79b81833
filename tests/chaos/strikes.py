"""How faults are made: signals from outside, acts at a place inside; each shows that it fired."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.chain import Chain
from tests.chaos.records import Skipped, Struck
from tests.chaos.remains import below
from tests.support.run_files import lines

Victim = Callable[[Chain], int]
FIRE_S = 240.0
"""For a run to come to a place: a period of a loaded machine."""
STATE_S = 10.0
STOPPED, ENDED = "T", "ZX"
PAUSE_S = 20.0
MEMORY = Path("/sys/fs/cgroup/memory")
LEFT_BYTES = 2**20
"""For what a process allocates from then on; what it has stays where it is."""
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


def process(name: str) -> Victim:
    """A process by its name in `processes.json`."""
    return lambda chain: chain.pid(name)


def worker(chain: Chain) -> int:
    """The rollout worker."""
    return chain.worker()


def driver(chain: Chain) -> int:
    """The command itself."""
    assert chain.process is not None
    return chain.process.pid


def child(of: Victim, words: str, *, is_program: bool = False) -> Victim:
    """A process below another one.

    Args:
        of: The other one.
        words: Of its command.
        is_program: They are in the command's first word.
    """

    def find(chain: Chain) -> int:
        top, deadline = of(chain), time.monotonic() + STATE_S
        while time.monotonic() < deadline:
            for pid in below(top):
                command = _command(pid)
                if words in (command.partition(" ")[0] if is_program else command):
                    return pid
            time.sleep(0.1)
        raise AssertionError(f"no {words} below process {top}: {[*map(_command, below(top))]}")

    return find


def signalled(victim: Victim, number: int, *, stays: bool = False) -> Callable[[Chain], Struck]:
    """Send a signal to a process.

    Args:
        victim: Which.
        number: Of SIGKILL or SIGSTOP.
        stays: It may be there afterwards.
    """

    def strike(chain: Chain) -> Struck:
        pid = victim(chain)
        at = time.time()
        os.kill(pid, number)
        due = STOPPED if number == signal.SIGSTOP else ENDED
        evidence = f"process {pid} was {_await_state(pid, due)}"
        return Struck(evidence=evidence, at=at, victims=() if stays else (pid,))

    return strike


def paused(victim: Victim, seconds: float = PAUSE_S) -> Callable[[Chain], Struck]:
    """Stop a process, and let it go on."""

    def strike(chain: Chain) -> Struck:
        pid = victim(chain)
        at = time.time()
        os.kill(pid, signal.SIGSTOP)
        state = _await_state(pid, STOPPED)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        return Struck(evidence=f"process {pid} was {state} for {seconds:g} s", at=at)

    return strike


def at_place(
    place: str, act: str, *, most: int = 3, kills: int = 0, stays: bool = False
) -> Callable[[Chain], Struck]:
    """Strike at one of `tests.chaos.places`, at one of its next calls.

    Args:
        place: Where.
        act: What is done there.
        most: The strike is at one of the next so many calls; the chain's chance says which.
        kills: A signal for the process, once it was struck: it cannot end by itself.
        stays: The process may be there afterwards.
    """

    def strike(chain: Chain) -> Struck:
        call = chain.random.randint(1, most)
        chain.armoury.arm(place, act, call)
        fired = chain.armoury.fired(place, FIRE_S)
        if kills:
            os.kill(fired.pid, kills)
        evidence = f"call {call} of {place} in process {fired.pid}: {act}"
        return Struck(evidence=evidence, at=fired.at, victims=() if stays else (fired.pid,))

    return strike


def at_place_then(
    place: str, act: str, then: Callable[[Chain], object]
) -> Callable[[Chain], Struck]:
    """Arm a place, do what makes the run come there, and wait for the strike."""

    def strike(chain: Chain) -> Struck:
        chain.armoury.arm(place, act)
        then(chain)
        fired = chain.armoury.fired(place, FIRE_S)
        return Struck(
            evidence=f"{place} in process {fired.pid}: {act}", at=fired.at, victims=(fired.pid,)
        )

    return strike


def over_memory(victim: Victim) -> Callable[[Chain], Struck]:
    """Put a process into a control group that has no memory left for it."""

    def strike(chain: Chain) -> Struck:
        group = MEMORY / f"oapl-chaos-{os.getpid()}"
        try:
            group.mkdir()
            pid, at = victim(chain), time.time()
            (group / "cgroup.procs").write_text(str(pid))
            (group / "memory.limit_in_bytes").write_text(str(LEFT_BYTES))
        except OSError as error:
            raise Skipped(f"no control group of memory can be written here: {error}") from error
        try:
            state = _await_state(pid, ENDED, FIRE_S)
            kills = (group / "memory.oom_control").read_text().split("oom_kill ")[-1].strip()
            fails = (group / "memory.failcnt").read_text().strip()
        finally:
            group.rmdir()
        evidence = f"process {pid} was {state}; {fails} refusals of the group, {kills} kills"
        return Struck(evidence=evidence if int(fails) else "", at=at, victims=(pid,))

    return strike


def with_clock(shift: str) -> Callable[[Chain], Struck]:
    """Start the run with a wall clock that is wrong, and stop it again."""

    def strike(chain: Chain) -> Struck:
        if not FAKETIME.exists():
            raise Skipped("libfaketime is not installed here (apt-get install libfaketime)")
        began, before = time.time(), chain.step
        chain.start(LD_PRELOAD=str(FAKETIME), FAKETIME=shift, FAKETIME_DONT_FAKE_MONOTONIC="1")
        chain.alive()
        told(signal.SIGTERM)(chain)
        assert chain.end(FIRE_S) == 143, chain.output[-3000:]
        rows = [row for row in lines(chain.folder) if row["step"] > before]
        apart_s = rows[-1]["time/unix_s"] - began
        evidence = f"its last line of metrics was written {apart_s / 60:+.0f} min from now"
        return Struck(evidence=evidence if abs(apart_s) > 1800 else "", at=time.time())

    return strike


def told(*numbers: int, group: bool = False, apart_s: float = 0.3) -> Callable[[Chain], Struck]:
    """Send signals to the command, or to its whole process group, one after the other."""

    def strike(chain: Chain) -> Struck:
        pid, at = driver(chain), time.time()
        for number in numbers:
            (os.killpg if group else os.kill)(pid, number)
            time.sleep(apart_s)
        names = ", ".join(signal.Signals(number).name for number in numbers)
        return Struck(evidence=f"{names} sent to {'group' if group else 'process'} {pid}", at=at)

    return strike


def in_phase(phase: str, number: int) -> Callable[[Chain], Struck]:
    """Send a signal to the command as soon as it says that it is in a phase."""

    def strike(chain: Chain) -> Struck:
        deadline = time.monotonic() + FIRE_S
        while chain.phase() != phase:
            assert time.monotonic() < deadline, f"no phase {phase} within {FIRE_S:g} s"
            time.sleep(0.005)
        os.kill(driver(chain), number)
        name = signal.Signals(number).name
        return Struck(evidence=f"{name} sent as the phase was {phase}", at=time.time())

    return strike


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def _await_state(pid: int, due: str, seconds: float = STATE_S) -> str:
    """In words; of a process that is to have ended also that it is gone."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            state = "X"
        if state in due:
            return "stopped" if due == STOPPED else "ended"
        time.sleep(0.02)
    raise AssertionError(f"process {pid} is in state {state}, not in one of {due}")
