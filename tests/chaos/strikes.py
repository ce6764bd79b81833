"""How faults are made: signals from outside, acts at a place inside; each shows that it fired."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from tests.chaos.chain import Chain
from tests.chaos.places import FAULTS, STAYING, Fired
from tests.chaos.records import Skipped, Strike, Struck
from tests.chaos.remains import below, is_alive
from tests.support.run_files import lines

Victim = Callable[[Chain], int]
KILL, STOP, TERM = signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM
INSIDE, OUTSIDE = "inside it, at that place", "a signal from outside"
SIGNALS = {KILL: "kill -9", STOP: "SIGSTOP for ever"}
FIRE_S = 240.0
"""For a run to come to a place: a period of a loaded machine."""
STATE_S = 10.0
NOTED_S = 30.0
"""For a process that was started again to be noted under its name."""
STOPPED, ENDED = "T", "ZX"
PAUSE_S = 20.0
MEMORY = Path("/sys/fs/cgroup/memory")
LEFT_BYTES = 2**20
"""For what a process allocates from then on; what it has stays where it is."""
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


# -- victims ---------------------------------------------------------------------------------------


def process(name: str) -> Victim:
    """A process by its name in `processes.json`, which may be late to tell of a successor."""

    def find(chain: Chain) -> int:
        chain.until(lambda: is_alive(chain.pid(name)), NOTED_S, f"living {name} in processes.json")
        return chain.pid(name)

    return find


def worker(chain: Chain) -> int:
    """A rollout worker, one of those that live."""
    chain.until(chain.workers, NOTED_S, "living worker in processes.json")
    return chain.random.choice(chain.workers())


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


# -- strikes ---------------------------------------------------------------------------------------


def signalled(victim: Victim, number: signal.Signals, *, stays: bool = False) -> Strike:
    """Send a signal to a process.

    Args:
        victim: Which.
        number: `KILL` or `STOP`.
        stays: It may be there afterwards.
    """

    def act(chain: Chain) -> Struck:
        pid = victim(chain)
        at = time.time()
        os.kill(pid, number)
        state = _await_state(pid, STOPPED if number == STOP else ENDED)
        victims = () if stays else (pid,)
        return Struck(evidence=f"process {pid} was {state}", at=at, victims=victims)

    return Strike(SIGNALS[number], OUTSIDE, act)


def paused(victim: Victim, seconds: float = PAUSE_S) -> Strike:
    """Stop a process, and let it go on."""

    def act(chain: Chain) -> Struck:
        pid = victim(chain)
        at = time.time()
        os.kill(pid, STOP)
        state = _await_state(pid, STOPPED)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        return Struck(evidence=f"process {pid} was {state} for {seconds:g} s", at=at)

    return Strike(f"SIGSTOP for {seconds:g} s", OUTSIDE, act)


def at_place(
    place: str, deed: str, *, most: int = 3, then: Callable[[Chain], object] | None = None
) -> Strike:
    """Strike at one of `tests.chaos.places`, at one of its next calls.

    Args:
        place: Where.
        deed: What is done there, one of `FAULTS`.
        most: The strike is at one of the next so many calls; the chain's chance says which.
        then: Makes the run come there, once the place is armed.
    """

    def act(chain: Chain) -> Struck:
        call = 1 if then is not None else chain.random.randint(1, most)
        chain.armoury.arm(place, deed, call)
        if then is not None:
            then(chain)
        fired = chain.armoury.fired(place, FIRE_S)
        evidence = f"call {call} of {place} in process {fired.pid}: {deed}"
        if deed in STAYING:
            evidence += f", {chain.armoury.done(place, FIRE_S)}"
        return Struck(evidence=evidence, at=fired.at, victims=_victims(deed, fired))

    return Strike(FAULTS[deed], INSIDE, act)


def _victims(deed: str, fired: Fired) -> tuple[int, ...]:
    return () if deed in STAYING else (fired.pid,)


def at_prompt(place: str, deed: str, prompt: str) -> Strike:
    """Strike at each call for a prompt that holds a word."""

    def act(chain: Chain) -> Struck:
        chain.armoury.arm(place, deed, prompt=prompt)
        fired = chain.armoury.fired(place, 2 * FIRE_S)
        return Struck(evidence=f"process {fired.pid} was struck by {prompt}", at=fired.at)

    return Strike(f"{FAULTS[deed]}, each time", INSIDE, act)


def over_memory(victim: Victim) -> Strike:
    """Put a process into a control group that has no memory left for it."""

    def act(chain: Chain) -> Struck:
        group = MEMORY / f"oapl-chaos-{os.getpid()}"
        try:
            group.mkdir()
            pid, at = victim(chain), time.time()
            (group / "cgroup.procs").write_text(str(pid))
            (group / "memory.limit_in_bytes").write_text(str(LEFT_BYTES))
        except OSError as error:
            with contextlib.suppress(OSError):
                group.rmdir()
            raise Skipped(f"no control group of memory can be written here: {error}") from error
        try:
            state = _await_state(pid, ENDED, FIRE_S)
            kills = (group / "memory.oom_control").read_text().split("oom_kill ")[-1].strip()
            fails = (group / "memory.failcnt").read_text().strip()
        finally:
            with contextlib.suppress(OSError):  # its threads may still be leaving
                group.rmdir()
        evidence = f"process {pid} was {state}; {fails} refusals of the group, {kills} kills"
        return Struck(evidence=evidence if int(fails) else "", at=at, victims=(pid,))

    return Strike("is over a memory limit", "a control group without memory left", act)


def with_clock(fault: str, shift: str) -> Strike:
    """Start the run with a wall clock that is wrong, and stop it again."""

    def act(chain: Chain) -> Struck:
        if not FAKETIME.exists():
            raise Skipped("libfaketime is not installed here (apt-get install libfaketime)")
        began, before = time.time(), chain.step
        chain.start(LD_PRELOAD=str(FAKETIME), FAKETIME=shift, FAKETIME_DONT_FAKE_MONOTONIC="1")
        chain.alive()
        told(TERM).act(chain)
        assert chain.end(FIRE_S) == 143, chain.output[-3000:]
        rows = [row for row in lines(chain.folder) if row["step"] > before]
        apart_s = rows[-1]["time/unix_s"] - began
        evidence = f"its last line of metrics was written {apart_s / 60:+.0f} min from now"
        return Struck(evidence=evidence if abs(apart_s) > 1800 else "", at=time.time())

    return Strike(fault, "libfaketime, for one start", act)


def told(*numbers: signal.Signals, group: bool = False, apart_s: float = 0.3) -> Strike:
    """Send signals to the command, or to its whole process group, one after the other."""
    names = ", ".join(number.name for number in numbers)

    def act(chain: Chain) -> Struck:
        if signal.SIGHUP in numbers and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            raise Skipped("`make chaos` was started by nohup, which its runs inherit")
        pid, at = driver(chain), time.time()
        for number in numbers:
            (os.killpg if group else os.kill)(pid, number)
            time.sleep(apart_s)
        return Struck(evidence=f"{names} sent to {'group' if group else 'process'} {pid}", at=at)

    fault = f"{numbers[0].name} twice" if len(numbers) > 1 else names
    return Strike(f"{fault} to the whole process group" if group else fault, OUTSIDE, act)


def in_phase(
    phase: str, number: signal.Signals, then: Callable[[Chain], object] | None = None
) -> Strike:
    """Send a signal to the command as soon as it says that it is in a phase.

    Args:
        phase: Of `status.json`.
        number: Of the signal.
        then: Makes the run come there.
    """

    def act(chain: Chain) -> Struck:
        if then is not None:
            then(chain)
        deadline = time.monotonic() + FIRE_S
        while chain.phase() != phase:
            assert time.monotonic() < deadline, f"no phase {phase} within {FIRE_S:g} s"
            time.sleep(0.005)
        os.kill(driver(chain), number)
        return Struck(evidence=f"{number.name} sent as the phase was {phase}", at=time.time())

    return Strike(number.name, OUTSIDE, act)


def started_with(fault: str, *overrides: str, lasts: bool = False) -> Strike:
    """Start a run that is down by another command.

    Args:
        fault: What is other, in words.
        overrides: It has more.
        lasts: So have all later ones.
    """

    def act(chain: Chain) -> Struck:
        at = time.time()
        chain.start(*overrides)
        if lasts:
            chain.lasting = (*chain.lasting, *overrides)
        return Struck(evidence=f"started with {' '.join(overrides)}", at=at)

    return Strike(fault, "in the command that goes on", act)


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
