"""The learner's books: every second of a scripted run is in one line and one state."""

from __future__ import annotations

import dataclasses

import pytest

from learner.books import Books, Past
from oapl import counters
from oapl.config import RunConfig


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(counters.time, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def config() -> RunConfig:
    return RunConfig(
        rollout={"num_engines": 2, "max_tokens": 512},  # type: ignore[arg-type]
        cluster={"engine_threads": 1, "learner_threads": 2},  # type: ignore[arg-type]
    )


def spend(books: Books, now: list[float], **seconds: float) -> None:
    for state, passed in seconds.items():
        books.watch.enter(state)
        now[0] += passed


def test_a_scripted_run_adds_up_to_its_wall_time_on_both_sides(config, now):
    books = Books(config, Past(since=990.0))  # ten seconds of start
    rows = []
    for step, seconds in enumerate(
        (
            {"publish": 2.0, "evaluate": 3.0, "synchronise": 4.0, "update": 5.0, "other": 0.5},
            {"data": 1.0, "update": 5.0, "other": 0.25},
            {"data": 0.0, "update": 5.0, "checkpoint": 7.0},
        ),
        1,
    ):
        spend(books, now, **seconds)
        values = {"engine/busy_s": 6.0, "engine/idle_s": 1.0, "rollout/tokens": 100.0}
        books.close(values, step, now[0])
        rows.append(values)
    wall = now[0] - 990.0
    by_side = {
        side: sum(v for row in rows for n, v in row.items() if n.startswith(f"seconds/{side}/"))
        for side in ("learner", "engines")
    }
    assert by_side == {"learner": pytest.approx(wall), "engines": pytest.approx(2 * wall)}
    assert rows[0]["seconds/learner/start"] == 10.0
    assert rows[0]["total/hours"] * 3600 == pytest.approx(24.5)
    assert rows[2]["total/device_hours"] * 3600 == pytest.approx(wall * (2 * 1 + 2))
    assert rows[2]["total/ettr"] == pytest.approx(1 - 10.0 / wall)


def test_rollouts_of_accepted_groups_are_the_volume_and_an_evaluation_is_none(config, now):
    tracking = dataclasses.replace(config.tracking, full_rollout_tokens=1024)
    books = Books(dataclasses.replace(config, tracking=tracking))
    for step in (1, 2):
        books.takes += 1
        values = {
            "rollout/rollouts": 500.0,  # finished by the engines, most of them for an evaluation
            "rollout/evaluated": 484.0,
            "replay/accepted_rollouts": 16.0,
            "replay/accepted_tokens": 4000.0,
        }
        books.close(values, step, now[0])
    found = {name: values[f"total/{name}"] for name in ("rollouts", "tokens", "iterations")}
    assert found == {"rollouts": 32.0, "tokens": 8000.0, "iterations": 2.0}
    assert values["total/weighted_rollouts"] == 16.0, "at half of the full length each is half"


def test_a_run_that_goes_on_counts_on_and_what_was_made_in_vain_was_time_but_no_volume(config, now):
    kept = {"total/rollouts": 100.0, "seconds/learner/update": 50.0, "seconds/devices": 200.0}
    lost = {"total/rollouts": 120.0, "seconds/learner/update": 10.0, "seconds/devices": 40.0}
    books = Books(config, Past(rows=[kept, {"eval/s/greedy": 1.0}], lost=[lost], since=990.0))
    now[0] = 1000.0
    values = {"replay/accepted_rollouts": 8.0}
    books.close(values, 7, now[0])
    assert values["total/rollouts"] == 108.0
    assert values["total/hours"] * 3600 == pytest.approx(50 + 10 + 10)
    assert values["total/device_hours"] * 3600 == pytest.approx(200 + 40 + 10 * 4)
    assert values["total/ettr"] == pytest.approx(1 - (10 + 10) / 70)


def test_the_length_is_told_beside_the_baselines_at_the_same_step(config, now):
    books = Books(config, Past(lengths={3: 250.0}))
    for step, expected in ((3, -50.0), (4, None)):
        values = {"rollout/length_mean": 200.0}
        books.close(values, step, now[0])
        assert values.get("rollout/relative_length") == expected


def test_without_engines_nothing_is_said_of_them(now):
    books = Books(RunConfig(objective={"name": "sft"}))
    values: dict[str, float] = {}
    books.close(values, 1, now[0])
    assert not [name for name in values if name.startswith("seconds/engines")]
