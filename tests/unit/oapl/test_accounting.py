"""Where the time went: scripted seconds add up to the wall time."""

from __future__ import annotations

import pytest

from oapl import accounting, counters
from oapl.accounting import Tokens, account, engine_seconds
from oapl.counters import Counters, Stopwatch


def line(**seconds: float) -> dict[str, float]:
    return {f"seconds/learner/{state}": value for state, value in seconds.items()}


def test_a_publication_that_waits_for_a_worker_to_be_replaced_waits_on_a_fault():
    usual = [line(publish=2.0, synchronise=3.0, update=5.0), line(data=1.0, update=9.0)] * 4
    faulty = {**line(publish=62.0, synchronise=1.0, update=5.0), "faults/worker_restarts": 1.0}
    # Beyond the usual 2 s of a publication; the wait for the batch is shorter than most.
    assert account([*usual, faulty]).on_faults_s == pytest.approx(60.0)
    calm = {**faulty, "faults/worker_restarts": 0.0}
    assert account([*usual, calm]).on_faults_s == 0.0


def test_a_fault_lasts_until_no_engine_is_missing():
    """The worker dies in one step, and the publication after the next waits for the new one."""
    usual = [line(publish=2.0, data=1.0, update=5.0), line(data=1.0, update=9.0)] * 4
    dead = {**line(data=1.0, update=9.0), f"{accounting.ENGINES}{accounting.ABSENT}": 10.0}
    waits = {**line(publish=62.0, update=5.0), f"{accounting.ENGINES}{accounting.ABSENT}": 66.0}
    back = {**line(publish=12.0, update=5.0), f"{accounting.ENGINES}{accounting.ABSENT}": 0.1}
    died = {**dead, "faults/worker_restarts": 1.0}
    assert account([*usual, died, dead, waits, back, waits]).on_faults_s == pytest.approx(60.0)
    assert account([*usual, dead, waits]).on_faults_s == 0.0, "nothing was told to have failed"


def test_the_effective_time_leaves_out_starts_restarts_what_was_made_again_and_faults():
    rows = [
        line(start=20.0, publish=2.0, synchronise=3.0, update=5.0),
        *[line(data=1.0, update=9.0)] * 5,
        {**line(data=31.0, update=9.0), "faults/worker_restarts": 1.0},  # 30 beyond the usual
        line(restart=10.0, data=1.0, update=9.0),
    ]
    lost = [line(start=5.0, update=15.0), line(update=10.0)]  # before a kill
    made = account(rows, lost)
    wall = 30 + 50 + 40 + 20 + 30
    assert made.wall_s == pytest.approx(wall)
    assert made.redone_s == pytest.approx(25.0), "the start before the kill is a start"
    assert made.on_faults_s == pytest.approx(30.0)
    assert made.ettr == pytest.approx(1 - (20 + 5 + 10 + 25 + 30) / wall)


def test_a_run_that_only_works_has_an_effective_time_of_1_and_so_has_one_of_no_time():
    assert account([line(update=3.0, data=1.0)]).ettr == 1.0
    assert account([]).ettr == 1.0
    assert account([{"eval/s/mean@8": 0.5}]).wall_s == 0.0


def test_a_fault_that_nobody_waited_for_costs_nothing():
    rows = [line(data=1.0, update=9.0)] * 3
    assert account([*rows, {**rows[0], "faults/engine": 1.0}]).ettr == 1.0


def test_the_engines_work_is_divided_by_what_became_of_its_tokens():
    found = engine_seconds(
        {"engine/busy_s": 10.0, "engine/idle_s": 4.0, "engine/load_s": 2.0},
        Tokens(total=1000.0, thrown_away=100.0, evaluated=300.0),
        passed_s=9.0,
        num_engines=2,
    )
    assert found == pytest.approx(
        {
            "generate": 6.0,
            "thrown_away": 1.0,
            "evaluate": 3.0,
            "load": 2.0,
            "idle": 4.0,
            "absent": 2.0,
        }
    )
    assert sum(found.values()) == pytest.approx(18.0)


def test_more_thrown_away_than_made_since_the_last_line_is_no_more_than_all():
    tokens = Tokens(total=10.0, thrown_away=30.0, evaluated=10.0)
    assert tokens.shares() == (0.75, 0.25)
    assert Tokens(total=0.0, thrown_away=0.0, evaluated=0.0).shares() == (0.0, 0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(counters.time, "monotonic", lambda: now[0])
    return now


def test_a_stopwatch_counts_each_moment_in_one_state(clock: list[float]):
    counted = Counters()
    watch = Stopwatch(counted, "{}_s", "start", since=95.0)
    clock[0] = 101.0
    assert watch.enter("data") == "start"
    clock[0] = 103.0
    with watch.within("checkpoint"):
        clock[0] = 107.0
        with watch.instead(("checkpoint", "publish"), "evaluate"):
            clock[0] = 112.0
        clock[0] = 113.0
    assert watch.state == "data"
    clock[0] = 114.0
    watch.count()
    found = counted.take()
    assert found == {"start_s": 6.0, "data_s": 3.0, "checkpoint_s": 5.0, "evaluate_s": 5.0}
    assert sum(found.values()) == 114.0 - 95.0


def test_what_is_counted_instead_is_what_is_entered_meanwhile_and_nothing_else(clock: list[float]):
    counted = Counters()
    watch = Stopwatch(counted, "{}", "update")
    with watch.instead(("publish",), "evaluate"):
        clock[0] += 3.0  # beside training
        watch.enter("publish")
        clock[0] += 2.0  # and now it is waited for
    clock[0] += 1.0
    watch.enter("update")
    assert counted.take() == {"update": 3.0, "evaluate": 2.0, "publish": 1.0}


def test_states_of_waiting_are_states():
    assert set(accounting.WAITS) == {"data", "synchronise"}
