"""The sandbox for programs: a short part of the attacks (all: `make attacks`), and its own life."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from reward_server.sandbox import bubblewrap, landlock, measure
from reward_server.sandbox.levels import LAYERS_OF_LEVEL
from reward_server.sandbox.runner import SILENCE_S, Sandbox, SandboxError
from tests.attacks import catalogue, trial
from tests.support.judging import is_gone

SLOW = {"prints after its deadline"}
ENOUGH_S = 60.0
"""For what ends by itself, on a machine however slow."""
LEVELS = ["namespaces", "landlock", "seccomp"]


def _is_here(level: str) -> str:
    if level == "namespaces" and bubblewrap.find() is None:
        return "there is no bwrap"
    if level == "landlock" and not landlock.abi():
        return "this kernel has no Landlock"
    return ""


@pytest.fixture(scope="module", params=LEVELS)
def level(request):
    if why := _is_here(request.param):
        pytest.skip(why)
    try:
        with trial.sandbox(LAYERS_OF_LEVEL[request.param]):
            pass
    except SandboxError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture(scope="module")
def box(level):
    with trial.sandbox(LAYERS_OF_LEVEL[level]) as made:
        yield made


def run(box: Sandbox, source: str, stdin: bytes = b"", seconds: float = ENOUGH_S):
    deadline = time.monotonic() + seconds
    return box.script(source, stdin, deadline=deadline, max_output=10_000)


def test_attacks_on_the_machine_are_stopped(level, box):
    """Those that end at once; the others wait for their deadline."""
    with trial.world() as world:
        through = {
            attack.what: how
            for attack in catalogue.attacks()
            if trial.applies(attack, level) and not attack.is_endless
            if (how := trial.succeeds(attack, box, world))
        }
    assert not through


def test_forged_verdicts_pay_nothing():
    with trial.verifier(measure.strongest().level, ENOUGH_S) as judge:
        paid = [
            forgery.what
            for forgery in catalogue.forgeries()
            if forgery.what not in SLOW and trial.reward_of(forgery, judge)
        ]
    assert not paid


def test_odd_but_correct_programs_are_accepted(level):
    with trial.verifier(level, ENOUGH_S) as judge:
        refused = {
            odd.what: trial.verdict_on(odd, judge)
            for odd in catalogue.correct()
            if trial.applies(odd, level)
        }
    assert not {what: v for what, v in refused.items() if v.kind != "accepted"}


def test_an_attack_that_nothing_stops_is_seen():
    """Without layers the same trial must report what gets through; else it proves nothing."""
    attacks = {attack.what: attack for attack in catalogue.attacks()}
    with trial.world() as world, trial.sandbox(LAYERS_OF_LEVEL["none"]) as open_box:
        for what in ("reads a file of the server", "connects to a server", "deletes a file"):
            assert trial.succeeds(attacks[what], open_box, world), what
    assert {"read a secret", "write a file", "fork"} <= {
        name for name, is_through in measure.attack("none").items() if is_through
    }


def test_a_program_that_does_not_end_is_killed_at_its_deadline_and_the_zygote_lives_on(box):
    run(box, "")
    before = box.num_starts
    ending = run(box, "while True: pass", seconds=0.3)
    assert (ending.is_late, ending.status) == (True, -signal.SIGKILL)
    assert run(box, "print(1)").output == b"1\n"
    assert box.num_starts == before


def test_a_zygote_that_was_killed_is_started_again(box):
    run(box, "")
    before, zygote = box.num_starts, _zygote(box.pid)
    os.kill(box.pid, signal.SIGKILL)
    assert is_gone(zygote, ENOUGH_S)  # it lives on for a moment, and could still run a program
    with pytest.raises(SandboxError):
        run(box, "print(1)")
    assert run(box, "print(1)").output == b"1\n"
    assert box.num_starts == before + 1


def test_a_stopped_zygote_costs_one_second_of_patience(box):
    run(box, "")
    before, zygote = box.num_starts, _zygote(box.pid)
    os.kill(zygote, signal.SIGSTOP)
    started = time.monotonic()
    assert run(box, "print(1)", seconds=0.2).is_late
    assert 0.2 + SILENCE_S <= time.monotonic() - started < ENOUGH_S
    assert is_gone(zygote, ENOUGH_S)
    assert run(box, "print(1)").output == b"1\n"
    assert box.num_starts == before + 1


def test_closing_the_sandbox_ends_all_that_is_in_it(level):
    made = Sandbox(LAYERS_OF_LEVEL[level])
    made.start()
    zygote = _zygote(made.pid)
    made.close()
    assert is_gone(zygote, ENOUGH_S)


HOLDER = """
import sys, threading, time
from reward_server.sandbox.levels import LAYERS_OF_LEVEL
from reward_server.sandbox.runner import Sandbox
box = Sandbox(LAYERS_OF_LEVEL[sys.argv[1]])
box.start()
print(box.pid, flush=True)
box.script("while True: pass", b"", deadline=time.monotonic() + 600, max_output=100)
"""


def test_killing_whoever_holds_the_sandbox_ends_its_programs(level):
    command = [sys.executable, "-c", HOLDER, level]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        jail = int(holder.stdout.readline())
        program = _program_of(_zygote(jail))
        holder.kill()
        assert is_gone(program, ENOUGH_S)
        assert is_gone(jail, ENOUGH_S)


def _zygote(jail: int) -> int:
    """The zygote of a jail that is warm: behind bubblewrap's two processes, where there are any."""
    pid = jail
    while Path(f"/proc/{pid}/comm").read_text().strip() == "bwrap":
        (pid,) = _children(pid)
    return pid


def _program_of(zygote: int) -> int:
    """The program that a zygote runs, once it has been forked."""
    deadline = time.monotonic() + ENOUGH_S
    while not (found := _children(zygote)):
        assert time.monotonic() < deadline, f"the zygote {zygote} runs no program"
        time.sleep(0.01)
    return found[0]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
