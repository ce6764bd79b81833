"""The learning matrix: what a cell reads of its runs, in which order cells are made, its tables."""

import sys
from dataclasses import replace

import pytest

from deploy.checks.settings import check
from tests.matrix import __main__ as matrix
from tests.matrix import making, plan, table
from tests.matrix.reading import WINDOW, Part, cell_of
from tests.matrix.records import LEVEL, Cell, Place, Point

PLACE = Place(block="lag", method="oapl", lag=16, seed=0)


def point(step: int, mean: float, error: float = 0.03) -> Point:
    return Point(step=step, rollouts=64 * step, seconds=float(step), mean=mean, error=error)


CELL = Cell(
    place=PLACE,
    curve=(point(0, 0.5), point(96, 0.8), point(192, 1.0)),
    rewards=(0.5, 0.7),
    pass_at_8=0.99,
    greedy=0.95,
    length=24.0,
    entropy=0.1,
    largest_lag=15,
    seconds=60.0,
)


def evaluation(step: int, mean: float, seconds: float) -> dict[str, float]:
    figures = {"mean@8": mean, "mean@8_se": 0.03, "pass@8": 0.99, "greedy": 0.95}
    figures |= {"length_mean": 24.0, "entropy": 0.1}
    return {
        "step": step,
        "time/unix_s": 1e9 + seconds,
        **{f"eval/sums/{name}": value for name, value in figures.items()},
    }


def steps(count: int, reward: float) -> list[dict[str, float]]:
    line = {"replay/accepted": 8.0, "replay/lag_max": 15.0, "reward/trained_mean": reward}
    return [{"step": 1, "time/unix_s": 1e9, **line} for _ in range(count)]


def test_a_live_cell_is_read_from_the_lines_of_its_run():
    first = [evaluation(0, 0.5, 0.0), *steps(WINDOW, 0.5)]
    lines = [*first, evaluation(16, 0.7, 16.0), *steps(WINDOW, 0.7), evaluation(32, 0.9, 32.0)]
    found = cell_of(PLACE, [Part(lines=lines)], 60.0)
    curve = (point(0, 0.5), point(16, 0.7), point(32, 0.9))
    assert found.curve == curve, "eight groups of eight a step, counted as they come"
    assert found.rewards == pytest.approx((0.5, 0.7))
    assert replace(found, rewards=CELL.rewards, curve=CELL.curve) == CELL


def test_the_rollouts_of_a_set_count_before_its_first_step_and_rounds_add_up():
    place = replace(PLACE, block="offline", method="oapl in two rounds", lag=0)
    lines = [evaluation(0, 0.5, 0.0), *steps(4, 0.5), evaluation(4, 0.7, 10.0)]
    part = Part(lines=lines, set_rollouts=1000, set_seconds=30.0)
    found = cell_of(place, [part, part], 60.0)
    assert [(p.step, p.rollouts, p.seconds) for p in found.curve] == [
        (0, 1000, 30.0),
        (4, 1000, 40.0),
        (4, 2000, 70.0),
        (8, 2000, 80.0),
    ]
    assert found.rewards == (), "those of a set say nothing of the policy"


def test_a_collapse_is_a_fall_below_the_start_or_to_half_of_the_best():
    assert not CELL.has_collapsed

    def ending(*means: float) -> Cell:
        curve = tuple(point(96 * index, mean) for index, mean in enumerate(means))
        return replace(CELL, curve=curve)

    assert not ending(0.5, 0.42).has_collapsed  # two errors of 0.042 below is 0.415
    assert ending(0.5, 0.41).has_collapsed
    assert not ending(0.4, 0.9, 0.46).has_collapsed
    assert ending(0.4, 0.9, 0.44).has_collapsed
    assert not replace(CELL, rewards=(0.8, 0.41)).has_collapsed
    assert replace(CELL, rewards=(0.8, 0.39)).has_collapsed


def test_what_the_level_took_lies_on_a_line_between_evaluations():
    assert LEVEL == 0.9
    assert CELL.to_level(lambda point: point.rollouts) == pytest.approx(64 * 144)
    assert CELL.to_level(lambda point: point.seconds) == pytest.approx(144)
    assert replace(CELL, curve=CELL.curve[:2]).to_level(lambda point: point.step) is None
    assert replace(CELL, curve=CELL.curve[2:]).to_level(lambda point: point.step) == 192


def test_a_cell_comes_back_from_its_file():
    assert Cell.from_json(CELL.to_json()) == CELL


def test_first_columns_and_the_frozen_set_come_first_then_one_seed_of_the_rest():
    places = plan.places()
    assert len(places) == len(set(places)) == 75
    assert len({place.name for place in places}) == 75
    first, second, third = places[:33], places[33:47], places[47:]
    assert {place.block for place in first} == {"lag", "frozen"}
    assert {place.lag for place in first} == {0, 1, 16, 64}
    assert [place.seed for place in first] == [0] * 11 + [1] * 11 + [2] * 11
    assert {place.seed for place in second} == {0}
    assert {place.seed for place in third} == {1, 2}
    assert len(plan.places("lag16")) == 8
    assert set(plan.places("lag16")) < set(places)


@pytest.mark.parametrize(
    "place", [place for place in plan.places() if place.seed == 1], ids=lambda place: place.name
)
def test_every_cell_is_a_run_that_may_start(place: Place, tmp_path, monkeypatch):
    """And has as many learner steps and, where it is live, as many problems as the others."""
    ran = []

    def trained(config):
        check(config)
        ran.append(config)
        return Part(lines=[evaluation(0, 0.5, 0.0)])

    found = making.Set(path=tmp_path / "set", groups=plan.GROUPS, seconds=1.0)
    monkeypatch.setattr(making, "_trained", trained)
    monkeypatch.setattr(making, "_generated", lambda *_: found)
    monkeypatch.setattr(making, "_right_answers", lambda found: found.path)
    start = making.WarmStart(folder=tmp_path, problems=tmp_path, model=tmp_path)
    assert making.make(start, place).place == place
    wanted = plan.method_of(place).steps or plan.STEPS
    assert sum(config.run.max_steps for config in ran) == wanted
    for config in ran:
        is_live = config.replay.source == "live"
        assert config.data.sources[0].sample == (plan.GROUPS if is_live else 0)
        assert config.sync.interval == (place.lag or making.PUBLISHED)
        assert config.eval.every_syncs * config.sync.interval < wanted, "and once in the middle"


class FakeRay:
    def shutdown(self) -> None: ...


@pytest.fixture
def without_runs(monkeypatch):
    """Cells in a moment; the third one that is begun is cut off."""
    begun = []

    def make(start, place):
        begun.append(place)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return replace(CELL, place=place)

    monkeypatch.setattr(making, "make", make)
    monkeypatch.setattr(making, "warm_start", lambda folder: folder)
    monkeypatch.setattr(matrix, "start_local_ray", lambda num_cpus: FakeRay())
    return begun


def test_a_call_goes_on_where_the_last_one_ended(tmp_path, monkeypatch, capsys, without_runs):
    monkeypatch.setattr(
        sys, "argv", ["matrix", str(tmp_path), "--cells", f"{tmp_path}/cells", "--slice", "lag16"]
    )
    with pytest.raises(KeyboardInterrupt):
        matrix.main()
    matrix.main()
    whole = plan.places("lag16")
    assert without_runs == [*whole[:3], *whole[2:]], "the third was cut off, and made again"
    matrix.main()
    assert len(without_runs) == len(whole) + 1, "nothing is left to do"
    assert matrix.load(tmp_path / "cells", whole[0]).made == matrix.made_here()
    assert "1.000 +- 0.000" in capsys.readouterr().out
    assert (tmp_path / "lag16.json").is_file()


def test_no_cell_is_begun_that_would_not_end_in_time(tmp_path, monkeypatch, capsys, without_runs):
    argv = ["matrix", str(tmp_path), "--cells", f"{tmp_path}/cells", "--minutes", "3"]
    monkeypatch.setattr(sys, "argv", argv)
    matrix.main()
    assert not without_runs
    assert "75 of 75 cells are open" in capsys.readouterr().out


def test_a_cell_may_take_somewhat_longer_than_the_longest_like_it():
    ppo = replace(CELL, place=replace(PLACE, block="sixteen", method="ppo"), seconds=200.0)
    at_one = replace(CELL, place=replace(PLACE, lag=1), seconds=100.0)
    assert matrix.longest_of(PLACE, [CELL, at_one, ppo]) == pytest.approx(120.0)
    assert matrix.longest_of(replace(PLACE, method="grpo + token IS"), [CELL, ppo]) == 240.0
    assert matrix.longest_of(PLACE, []) == matrix.FIRST_S


def test_a_table_tells_means_with_errors_over_seeds_and_what_is_open():
    worse = (point(0, 0.5), point(192, 0.3))
    fallen = replace(CELL, place=replace(PLACE, seed=1), curve=worse)
    text = table.markdown([CELL, fallen], plan.places())
    row = next(line for line in text.splitlines() if line.startswith("| oapl | 16 |"))
    assert row == (
        "| oapl | 16 | 2 of 3 | 0.650 +- 0.350 | 0.400 +- 0.100 | 0.990 +- 0.000 | 0.950 +- 0.000 "
        "| 0.100 +- 0.000 | 24.0 +- 0.0 | 9,216 (1 of 2) | 144 (1 of 2) | 1 of 2 |"
    )
    assert "| oapl | 1 | 0 of 3 | open |" in text
    assert "| rejection-sampling SFT | - | 0 of 3 | open |" in text
    rows = table.as_json([CELL], plan.places())["cells"]
    assert [row["open"] for row in rows].count(False) == 1


def test_the_document_is_what_the_kept_cells_say():
    places = plan.places()
    cells = [cell for place in places if (cell := matrix.load(matrix.CELLS, place)) is not None]
    remedy = "write it anew: python -m tests.matrix --minutes 0"
    assert table.DOCUMENT.read_text() == table.document(cells, places), remedy


def test_the_lowest_of_a_cell_is_where_it_dipped():
    assert replace(CELL, curve=(point(0, 0.5), point(48, 0.4), point(96, 0.9))).lowest == 0.4
