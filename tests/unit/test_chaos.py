"""The cases of `make chaos`, without a run: what can be wrong with them before one is struck."""

import ast
import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.checks.settings import check
from oapl.config.toml import load_config
from tests.chaos import chain as chain_module
from tests.chaos import results, table
from tests.chaos.chain import Chain
from tests.chaos.places import NUMBERS, PLACES, SITE, Armoury
from tests.chaos.plans import APART, PLANS
from tests.chaos.records import Case, GoesOn, Plan, Row, Strike, Struck
from tests.chaos.remains import Remains
from tests.chaos.strikes import driver, signalled, told, worker
from tests.support.fake_run import CHECKPOINT
from tests.support.whole_runs import RECIPE

ROOT = Path(__file__).parents[2]


def test_each_case_has_a_name_of_its_own_and_says_what_is_read_where_a_run_ends_or_goes_back():
    cases = results.cases()
    assert not [name for name, n in Counter(case.name for case in cases).items() if n > 1]
    told = (GoesOn.BACK, GoesOn.ENDS, GoesOn.REFUSED, GoesOn.STOPS)
    scripts = {case.name for case in APART.cases}
    mute = [case.name for case in cases if case.goes_on in told and not case.reads]
    assert not {*mute} - scripts, "a script looks for its own"
    assert len(cases) >= 40


RUNS = [plan for plan in PLANS if isinstance(plan, Plan)]


@pytest.mark.parametrize("plan", RUNS, ids=lambda plan: plan.name)
def test_the_settings_of_each_run_can_work(plan, tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=tmp_path))
    chain = Chain(plan, tmp_path, seed=0)
    started: list[str] = []
    monkeypatch.setattr(chain, "start", lambda *overrides: started.extend(overrides))
    for case in (*plan.cases, *plan.last):
        if case.strike.act.__qualname__.startswith("started_with"):
            case.strike.act(chain)
            words = chain.words(*started)
            started.clear()
            if case.goes_on is GoesOn.ACCEPTED:
                check(load_config(recipe, words[words.index(str(recipe)) + 1 :]))
    words = chain.words()
    check(load_config(recipe, words[words.index(str(recipe)) + 1 :]))


@pytest.mark.parametrize("place", PLACES)
def test_each_place_is_a_function_of_the_product(place):
    module, _, dotted = PLACES[place].partition(":")
    found = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text())
    for part in dotted.split("."):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = next(node for node in found.body if isinstance(node, kinds) and node.name == part)


def struck(tmp_path, act, call, calls):
    """What a process left that called a place so often."""
    armoury = Armoury(tmp_path)
    armoury.arm("take", act, call)
    (tmp_path / "places").write_text("take here:take\n")
    (tmp_path / "here.py").write_text("def take(n):\n    print(n, flush=True)\n")
    code = f"import here\nfor n in range({calls}): here.take(n)"
    path = os.pathsep.join((str(SITE), str(tmp_path)))
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, **armoury.variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return process, armoury


def test_a_place_strikes_once_at_the_call_that_was_chosen_and_notes_who_was_struck(tmp_path):
    process, armoury = struck(tmp_path, "kill", 3, 9)
    assert (process.returncode, process.stdout.split()) == (-9, ["0", "1"])
    assert abs(armoury.fired("take", 1).at - time.time()) < 60
    again, _ = struck(tmp_path / "again", "raise", 1, 2)
    assert "RuntimeError: struck" in again.stderr


def test_a_deed_after_which_the_process_goes_on_tells_what_it_has_done(tmp_path, monkeypatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        monkeypatch.setenv("OAPL_CHAOS_DISK", str(disk))
        process, armoury = struck(tmp_path, "fill_disk", 2, 3)
    finally:
        subprocess.run(["umount", disk], check=True)
    assert (process.returncode, process.stdout.split()) == (0, ["0", "1", "2"])
    assert armoury.done("take", 1) == "No space left on device after 65,536 bytes"


def test_a_number_of_the_product_is_another_one_where_runs_are_struck(tmp_path):
    process, _ = struck(tmp_path, "kill", 9, 1)
    assert process.stdout.split() == ["0"]
    (tmp_path / "numbers").write_text("there:SIZE 3\n")
    (tmp_path / "there.py").write_text("SIZE = 7\n")
    path = os.pathsep.join((str(SITE), str(tmp_path)))
    found = subprocess.run(
        [sys.executable, "-c", "import there; print(there.SIZE)"],
        env={"PYTHONPATH": path, "OAPL_CHAOS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.stdout == "3\n"


@pytest.mark.parametrize("number", NUMBERS)
def test_each_number_that_is_set_is_one_of_the_product(number):
    module, _, name = number.partition(":")
    assert isinstance(getattr(importlib.import_module(module), name), int)


def test_a_place_to_which_nothing_comes_fails_the_case(tmp_path):
    _, armoury = struck(tmp_path, "kill", 3, 2)
    with pytest.raises(AssertionError, match="nothing came to take"):
        armoury.fired("take", 0.1)


def test_what_a_run_leaves_behind_is_found_though_it_has_another_environment(tmp_path):
    """A child that was given one, and that outlives its parent."""
    remains = Remains("CHAOS_TEST=1")
    code = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time;"
    code += " time.sleep(60)'], env={}); print(p.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        env={"CHAOS_TEST": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(parent.stdout.readline())
    try:
        remains.look()
        parent.kill()
        parent.wait()
        assert [line.split()[1].rstrip(":") for line in remains.left(0.0)] == [str(child)]
    finally:
        os.kill(child, 9)
    assert remains.left(10.0) == []


def test_a_port_is_left_behind_only_by_the_socket_that_the_run_had(monkeypatch):
    """Another run's Ray may listen at the same port later."""
    remains = Remains(f"CHAOS_TEST={time.time()}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        name = f"port {server.getsockname()[1]}"
        monkeypatch.setattr(remains, "processes", lambda: {os.getpid(): "me"})
        remains.look()
        monkeypatch.setattr(remains, "processes", dict)
        assert name in remains.left(0.0), "among those that this process holds of other tests"
    with socket.create_server(("127.0.0.1", int(name.split()[1]))):
        assert name not in remains.left(0.0)


def test_rows_are_kept_as_files_and_read_again(tmp_path):
    row = Row(name="replay-killed", outcome="ok", detected_s=1.5, told="replay died | so")
    results.write(row, tmp_path)
    results.write(Row(name="of-a-case-that-is-gone", outcome="ok"), tmp_path)
    assert results.read(tmp_path) == {"replay-killed": row}


def test_a_case_without_a_row_keeps_its_line_until_it_is_changed(tmp_path, monkeypatch):
    file = tmp_path / "operations.md"
    file.write_text(f"before\n{table.BEGIN}\n{table.END}\nafter\n")
    one = case(name="one")
    monkeypatch.setattr(results, "cases", lambda: [one])
    results.write(Row(name="one", outcome="ok", detected_s=2.5, told="a | b"), tmp_path / "rows")
    table.write(tmp_path / "rows", file)
    first = file.read_text()
    assert "| 2.5 s | a \\| b |" in first
    table.write(tmp_path / "none", file)
    assert file.read_text() == first
    monkeypatch.setattr(results, "cases", lambda: [replace(one, within_s=11.0)])
    table.write(tmp_path / "none", file)
    assert "| not tried yet |" in file.read_text()
    assert file.read_text().startswith("before\n")
    assert file.read_text().endswith("after\n")


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """A chain whose command is a stand-in."""
    made = Chain(Plan(name="one"), tmp_path, seed=0, slack=1.0)
    command = [sys.executable, "-m", "tests.support.fake_run", str(made.folder)]
    monkeypatch.setattr(made, "words", lambda *overrides: command)
    monkeypatch.setattr(chain_module, "START_S", 30.0)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield made
    made.kill()


def case(**changes):
    given = {
        "name": "any",
        "place": "a worker",
        "detected_by": "its parent",
        "within_s": 10.0,
        "reads": r"worker 0\.\d died .*; restarting",
        "goes_on": GoesOn.ALONE,
        "strike": signalled(worker, signal.SIGKILL),
    }
    return Case(**(given | changes))


def by(act):
    return Strike("any", "by hand", act)


def test_a_case_passes_where_its_fault_fired_was_told_and_the_run_went_on(chain):
    row = chain.try_case(case(), seed=7)
    assert (row.outcome, row.why) == ("ok", "")
    assert row.told == "worker 0.0 died (signal); restarting"
    assert 0 <= row.detected_s <= row.resumed_s
    assert (row.seed, row.chain) == (7, "one")
    assert "was ended" in row.evidence


def test_a_fault_that_nobody_tells_of_or_that_did_not_fire_fails_its_case(chain):
    silent = chain.try_case(case(reads="nobody says so", within_s=0.2), seed=0)
    assert silent.outcome == "failed"
    assert "nobody told 'nobody says so' within 0 s" in silent.why
    harmless = case(strike=by(lambda chain: Struck(evidence="", at=time.time())))
    assert "nothing shows that the fault fired" in chain.try_case(harmless, seed=0).why


def test_a_harm_where_none_was_due_fails_its_case(chain):
    row = chain.try_case(case(reads="", goes_on=GoesOn.UNHARMED), seed=0)
    assert "it was to be unharmed" in row.why


def test_a_run_that_ends_is_started_again_from_its_checkpoint(chain):
    def kill(chain):
        chain.until(lambda: chain.step % CHECKPOINT >= 2, 10.0, "a step after a checkpoint")
        struck = signalled(driver, signal.SIGKILL).act(chain)
        os.kill(child, signal.SIGKILL)  # nobody else ends it here
        return struck

    gone = case(name="gone", reads="", goes_on=GoesOn.KILLED, strike=by(kill))
    chain.alive()
    (child,) = chain.workers()
    row = chain.try_case(gone, seed=0)
    assert (row.outcome, row.why) == ("ok", "")
    assert row.redone_steps >= 1
    stopped = chain.try_case(
        case(reads="SIGTERM: stopping", goes_on=GoesOn.STOPS, strike=told(signal.SIGTERM)), seed=0
    )
    assert (stopped.outcome, stopped.redone_steps) == ("ok", 0)


def test_what_is_left_behind_or_ends_with_another_code_fails_its_case(chain):
    def break_down(chain):
        (chain.folder / "broken").touch()
        return Struck(evidence="broken", at=time.time())

    def mend(chain):
        (chain.folder / "broken").unlink()

    ends = {"reads": "failed: it is broken", "strike": by(break_down), "mends": mend}
    row = chain.try_case(case(**ends, goes_on=GoesOn.ENDS), seed=0)
    assert (row.outcome, row.why) == ("ok", "")
    row = chain.try_case(case(**ends, goes_on=GoesOn.STOPS), seed=0)
    assert "exit code 1, not 143" in row.why


def test_a_step_that_stands_in_the_metrics_twice_fails_its_case(chain):
    def stop_to_double(chain):
        (chain.folder / "doubles").touch()
        return told(signal.SIGTERM).act(chain)

    row = chain.try_case(
        case(reads="SIGTERM: stopping", goes_on=GoesOn.STOPS, strike=by(stop_to_double)), seed=0
    )
    assert "steps are not each there once" in row.why
