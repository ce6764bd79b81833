"""The table of `make lag`: what a cell reads of a run, and that a call goes on where one ended."""

import sys
from dataclasses import replace

import pytest

from tests.lag import __main__ as lag
from tests.lag.cells import INTERVAL, MEASURE, OBJECTIVES, SEEDS, Cell, cell_of

CELL = Cell(
    objective="oapl",
    seed=0,
    before=0.5,
    before_error=0.03,
    after=0.8,
    after_error=0.04,
    periods=(0.5, 0.7),
    groups=256,
    largest_lag=15,
    seconds=60.0,
)


def test_a_cell_is_read_from_the_lines_of_its_run():
    step = {"replay/accepted": 8.0, "replay/lag_max": 15.0}
    lines = [
        {"step": 0, MEASURE: 0.5, f"{MEASURE}_se": 0.03},
        *({**step, "reward/trained_mean": 0.5} for _ in range(INTERVAL)),
        *({**step, "reward/trained_mean": 0.7} for _ in range(INTERVAL)),
        {"step": 32, MEASURE: 0.8, f"{MEASURE}_se": 0.04},
    ]
    found = cell_of(lines, "oapl", 0, 60.0)
    assert replace(found, periods=CELL.periods) == CELL
    assert found.periods == pytest.approx(CELL.periods)


def test_a_collapse_is_a_fall_below_the_start_or_to_half_of_the_best_period():
    assert not CELL.has_collapsed
    assert not replace(CELL, after=0.41).has_collapsed  # two errors of 0.05 below is 0.40
    assert replace(CELL, after=0.39).has_collapsed
    assert not replace(CELL, periods=(0.8, 0.41)).has_collapsed
    assert replace(CELL, periods=(0.8, 0.39)).has_collapsed


class FakeRay:
    def shutdown(self) -> None: ...


def test_a_call_goes_on_where_the_last_one_ended(tmp_path, monkeypatch, capsys):
    trained = []

    def train(folder, start, model, objective, seed):
        trained.append((objective, seed))
        if len(trained) == 3:
            raise KeyboardInterrupt
        return replace(CELL, objective=objective, seed=seed)

    monkeypatch.setattr(lag, "train", train)
    monkeypatch.setattr(lag, "start_local_ray", lambda num_cpus: FakeRay())
    monkeypatch.setattr(lag, "warm_start", lambda folder: (folder, folder))
    monkeypatch.setattr(sys, "argv", ["lag", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        lag.main()
    lag.main()
    whole = [(objective, seed) for seed in SEEDS for objective in OBJECTIVES]
    assert trained == [*whole[:3], *whole[2:]], "the third was cut off, and made again"
    lag.main()
    assert len(trained) == len(whole) + 1, "nothing is left to do"
    assert "0.800 +- 0.000" in capsys.readouterr().out


def test_no_cell_is_begun_that_would_not_end_in_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lag, "start_local_ray", lambda num_cpus: FakeRay())
    monkeypatch.setattr(lag, "warm_start", lambda folder: (folder, folder))
    monkeypatch.setattr(sys, "argv", ["lag", str(tmp_path), "--minutes", "2"])
    lag.main()
    assert "8 of 8 cells are left" in capsys.readouterr().out
