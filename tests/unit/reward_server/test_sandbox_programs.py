"""The sandbox for programs: a short part of the attacks (all: `make attacks`), and its own life."""

import os
import signal
import subprocess
import sys
import time

import pytest

from reward_server.sandbox import bubblewrap, landlock, measure
from reward_server.sandbox.levels import OF_LEVEL
from reward_server.sandbox.runner import Sandbox, SandboxError
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
        with trial.sandbox(OF_LEVEL[request.param]):
            pass
    except SandboxError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture(scope="module")
def box(level):
    with trial.sandbox(OF_LEVEL[level]) as made:
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
    with trial.world() as world, trial.sandbox(OF_LEVEL["none"]) as open_box:
        for what in ("reads a file of the server", "connects to a server", "deletes a file"):
            assert trial.succeeds(attacks[what], open_box, world), what
    assert {"read a secret", "write a file", "fork"} <= {
        name for name, is_through in measure.attack("none").items() if is_through
    }


def test_a_program_that_does_not_end_is_killed_at_its_deadline(box):
    ending = run(box, "while True: pass", seconds=0.3)
    assert ending.is_late
    assert ending.status == -signal.SIGKILL
    assert run(box, "print(1)").output == b"1\n"


def test_a_zygote_that_was_killed_is_started_again(box):
    run(box, "")
    before, zygote = box.num_starts, _innermost(box.pid)
    os.kill(box.pid, signal.SIGKILL)
    assert is_gone(zygote, ENOUGH_S)
    with pytest.raises(SandboxError):
        run(box, "print(1)")
    assert run(box, "print(1)").output == b"1\n"
    assert box.num_starts == before + 1


def test_a_stopped_zygote_costs_one_second_of_patience(box):
    run(box, "")
    victim = _innermost(box.pid)
    os.kill(victim, signal.SIGSTOP)
    assert run(box, "print(1)", seconds=0.2).is_late
    assert is_gone(victim, ENOUGH_S)
    assert run(box, "print(1)").output == b"1\n"


def test_closing_the_sandbox_ends_all_that_is_in_it(level):
    made = Sandbox(OF_LEVEL[level])
    made.start()
    inner = _innermost(made.pid)
    made.close()
    assert is_gone(inner, ENOUGH_S)


HOLDER = """
import sys, threading, time
from reward_server.sandbox.levels import OF_LEVEL
from reward_server.sandbox.runner import Sandbox
box = Sandbox(OF_LEVEL[sys.argv[1]])
box.start()
print(box.pid, flush=True)
box.script("while True: pass", b"", deadline=time.monotonic() + 600, max_output=100)
"""


def test_killing_whoever_holds_the_sandbox_ends_its_programs(level):
    command = [sys.executable, "-c", HOLDER, level]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        jail = int(holder.stdout.readline())
        time.sleep(0.3)  # until the program runs
        program = _innermost(jail)
        assert program != jail
        holder.kill()
        assert is_gone(program, ENOUGH_S)
        assert is_gone(jail, ENOUGH_S)


def _innermost(pid: int) -> int:
    """The last in the line of first children: the zygote, or the program that it runs."""
    while True:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            children = file.read().split()
        if not children:
            return pid
        pid = int(children[0])
