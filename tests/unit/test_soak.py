"""The soak's own parts: which fault comes when, what grows, what must balance."""

import json
import math
import os
import random
import re
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest

from tests.chaos import chain as chain_module
from tests.chaos.chain import Chain
from tests.chaos.plans import live
from tests.chaos.records import Case, GoesOn, Plan, Row
from tests.chaos.strikes import KILL, TERM, signalled, told, worker
from tests.soak import __main__ as soaking
from tests.soak import balance, report, sampling, schedule, slopes
from tests.soak.schedule import Schedule, takes_engine

# -- schedule --------------------------------------------------------------------------------------


def drawn(seed, engines):
    made = Schedule(live.PLAN.cases, seed)
    return [made.next(number) for number in engines]


def test_a_seed_gives_one_schedule():
    engines = [random.Random(1).choice((1, 2)) for _ in range(60)]
    assert drawn(3, engines) == drawn(3, engines)
    assert drawn(3, engines) != drawn(4, engines)
    assert all(10 <= due.pause_s <= 40 for due in drawn(3, engines))


def test_while_one_engine_lives_none_is_taken_away():
    engines = [1 + number % 3 // 2 for number in range(300)]
    made = drawn(0, engines)
    alone = [due.case for due, number in zip(made, engines, strict=True) if number == 1]
    assert not [case.name for case in alone if takes_engine(case)]
    others = [due.case for due, number in zip(made, engines, strict=True) if number == 2]
    assert any(takes_engine(case) for case in others)


def test_each_fault_comes_before_one_comes_again_and_few_begin_all_anew():
    made = [due.case for due in drawn(0, [2] * 1000)]
    parts = [case for case in made if case.goes_on in (GoesOn.ALONE, GoesOn.UNHARMED)]
    different = len({case.name for case in parts})
    assert len({case.name for case in parts[:different]}) == different > 10
    assert 0.1 < 1 - len(parts) / len(made) < 0.2


def test_what_needs_more_than_a_run_is_left_out():
    names = {due.case.name for due in drawn(0, [2] * 1000)}
    assert {"worker-killed-loading", "replay-stopped", "driver-killed-live"} <= names
    assert not [name for name in names if "memory" in name or "store-full" in name]


# -- slopes ----------------------------------------------------------------------------------------


def sample(at_s, rss=0.0, *, life="1", role="learner rank", age_s=None, **more):
    values = {"descriptors": 9.0, "threads": 3.0, "shm": 0.0} | more
    age_s = at_s if age_s is None else age_s
    return slopes.Sample(at_s=at_s, role=role, life=life, age_s=age_s, rss=rss, **values)


def slope_of(samples, measure="rss"):
    return next(slope for slope in slopes.slopes(samples) if slope.measure == measure)


def test_two_lives_at_other_levels_have_one_slope():
    """Levels 100 and 700, both growing by 2 a second: by hand 7,200 an hour, with no error."""
    first = [sample(at, 100 + 2 * at) for at in (100, 110, 120)]
    second = [sample(at, 700 + 2 * at, life="2") for at in (200, 210, 220)]
    found = slope_of([*first, *second])
    assert found.per_hour == pytest.approx(7200)
    assert found.error == pytest.approx(0, abs=1e-6)
    assert (found.lives, found.hours) == (2, pytest.approx(40 / 3600))


def test_the_error_of_a_slope_is_that_of_least_squares():
    """Values 0, 1, 0, 1 at 0, 1, 2, 3: slope 0.2, residuals -0.2, 0.6, -0.6, 0.2; their squares sum
    to 0.8, two are free, the times spread by 5: sqrt(0.8 / 2 / 5)."""
    slope, error = slopes.fitted([[(0, 0), (1, 1), (2, 0), (3, 1)]])
    assert slope == pytest.approx(0.2)
    assert error == pytest.approx(math.sqrt(0.08))


def test_what_a_process_takes_to_warm_up_is_no_leak():
    growing = [sample(at, 2**20 * at) for at in range(0, 90, 5)]
    assert slopes.slopes(growing) == []
    settled = [sample(at, 2**20 * 90) for at in range(90, 300, 5)]
    assert slope_of([*growing, *settled]).per_hour == 0


def test_a_leak_is_found_in_noise_and_noise_is_none():
    chance = random.Random(0)
    noise = [chance.gauss(0, 2**20) for _ in range(300)]
    still = [sample(100 + 5 * n, 500 * 2**20 + noise[n]) for n in range(300)]
    assert not slope_of(still).is_too_large
    leaking = [replace(one, rss=one.rss + 200 * 2**20 / 3600 * one.at_s) for one in still]
    assert slope_of(leaking).is_too_large
    few = [sample(100 + 5 * n, 2**26 * n) for n in range(2)]
    assert not slope_of(few).is_too_large, "two samples prove nothing"


def test_descriptors_are_counted_apart():
    growing = [sample(100 + 5 * n, descriptors=10.0 + n) for n in range(60)]
    assert slope_of(growing, "descriptors").per_hour == pytest.approx(720)
    assert [slope.measure for slope in slopes.slopes(growing) if slope.is_too_large] == [
        "descriptors"
    ]


# -- balance ---------------------------------------------------------------------------------------

GOOD = balance.Balance(
    steps=(1, 2, 3),
    drawn=9,
    fates={"trained": 6, "failed": 1},
    buffered=1,
    waiting=1,
    stored={f"a:{number}@0": 4 for number in range(6)},
    group_size=4,
    step=3,
    groups_per_step=2,
)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"steps": (1, 2, 2, 3)}, r"not each there once; twice: \[2\]"),
        ({"steps": (1, 3)}, "not each there once"),
        ({"drawn": 10}, "10 draws were made, and 9 are accounted for"),
        ({"buffered": 2}, "9 draws were made, and 10 are accounted for"),
        ({"step": 4, "steps": (1, 2, 3, 4)}, "6 draws were trained on, not 8"),
        ({"stored": GOOD.stored | {"a:0@0": 8}}, "1 draws are not stored once"),
        ({"stored": GOOD.stored | {"b:0@0": 4}}, "7 draws are stored, 6 were trained on"),
    ],
)
def test_a_balance_says_what_does_not_hold(changed, words):
    assert GOOD.wrong() == []
    found = replace(GOOD, **changed).wrong()
    assert len(found) == 1, found
    assert re.search(words, found[0])


def test_a_balance_is_read_from_the_buffers_own_snapshot():
    state = {
        "drawn": 7,
        "fates": {("trained", ""): 3, ("dropped", "uniform"): 1, ("dropped", "long"): 1},
        "buffer": [1],
        "ahead": [],
        "queue": [2],
        "in_flight": [],
    }
    found = balance.of_state(state)
    assert found == {
        "drawn": 7,
        "fates": {"trained": 3, "dropped": 2},
        "buffered": 1,
        "waiting": 1,
    }


# -- report, and a soak of a stand-in --------------------------------------------------------------


def test_a_report_names_what_is_wrong_and_keeps_it(tmp_path):
    growing = slopes.slopes(sample(100 + 5 * n, descriptors=10.0 + n) for n in range(60))
    found = report.Found(
        seed=1,
        minutes=30,
        rows=[Row(name="001-a", outcome="ok"), Row(name="002-b", outcome="failed", why="no\nword")],
        slopes=growing,
        balance=replace(GOOD, drawn=10),
        ettr=0.625,
        restarts={"worker 0": 2},
    )
    report.write(found, tmp_path)
    kept = json.loads((tmp_path / "report.json").read_text())
    assert kept["wrong"] == [
        "002-b: no",
        "descriptors of learner rank grows by 720.0 ± 0.0",
        "10 draws were made, and 9 are accounted for",
    ]
    assert "ETTR: 0.625" in (tmp_path / "report.md").read_text()
    assert "2 faults in 30 minutes, seed 1: 1 ok, 1 failed" in found.text()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Soaks of a command that lives by itself, without waiting long."""
    kill = Case(
        name="worker-killed",
        place="a worker",
        strike=signalled(worker, KILL),
        detected_by="its parent",
        within_s=10.0,
        reads="worker 0.* died .*; restarting",
        goes_on=GoesOn.ALONE,
    )
    stop = replace(
        kill, name="sigterm", strike=told(TERM), reads="SIGTERM: stopping", goes_on=GoesOn.STOPS
    )
    command = [sys.executable, "-m", "tests.support.fake_run"]
    monkeypatch.setattr(Chain, "words", lambda self, *_: [*command, str(self.folder)])
    monkeypatch.setattr(chain_module, "START_S", 30.0)
    monkeypatch.setattr(soaking, "PLAN", Plan(name="soak", cases=(kill, stop)))
    monkeypatch.setattr(soaking, "LAST_S", 0.0)
    monkeypatch.setattr(soaking, "prepare", lambda work: None)
    monkeypatch.setattr(schedule, "PAUSE_S", (0.0, 0.05))
    monkeypatch.setattr(schedule, "WHOLE_SHARE", 0.4)
    monkeypatch.setattr(sampling, "BEAT_S", 0.1)
    monkeypatch.setattr(slopes, "WARM_S", 0.0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path / "soak"
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_soak_strikes_samples_and_reports(stand_in):
    found = soaking.soak(stand_in, minutes=0.1, seed=0)
    assert {row.name[4:] for row in found.rows} == {"worker-killed", "sigterm"}
    assert [row.why for row in found.rows if row.outcome != "ok"] == []
    roles = {slope.role for slope in found.slopes}
    assert {"the command", "rollout worker"} <= roles
    assert len(found.wrong()) == 1, found.wrong()
    assert found.wrong()[0].startswith("no balance: "), "the stand-in has no checkpoint to read"
    again = soaking.read(stand_in)
    assert (again.seed, len(again.rows)) == (0, len(found.rows))


def test_a_soak_that_is_asked_to_end_reports_what_there_is(stand_in):
    def ask():
        rows = stand_in / soaking.ROWS
        while not (rows.is_dir() and any(rows.iterdir()) and (stand_in / soaking.SAMPLES).exists()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask, daemon=True).start()
    found = soaking.soak(stand_in, minutes=60, seed=0)
    assert found.rows
    assert (stand_in / soaking.SAMPLES).stat().st_size
    report.write(found, stand_in)
    assert (stand_in / "report.md").exists()
