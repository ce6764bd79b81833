"""The lag sweep: its table says what its cells say, and it goes on where it was ended."""

import dataclasses
import json
import time

from tests.overlap import sweep
from tests.overlap.model import Shares, simulate

SHARES = Shares(
    learner=0.1,
    between=0.02,
    engine=0.2,
    wasted=0.3,
    mean_lag=3.5,
    largest_lag=7,
    elapsed=20.0,
)
CELL = sweep.Cell(
    interval=8,
    surplus=0.2,
    steps=24,
    step_s=2.0,
    measured=SHARES,
    simulated=dataclasses.replace(SHARES, learner=0.07, between=0.0, wasted=0.26),
)


def test_the_table_in_docs_is_that_of_the_kept_cells():
    cells = sweep.made(sweep.CELLS)
    assert [(cell.interval, cell.surplus) for cell in cells] == sorted(sweep.places())
    assert (sweep.OUT / "README.md").read_text() == sweep.markdown(cells)
    rows = json.loads((sweep.OUT / "lag_sweep.json").read_text())
    assert rows == [dataclasses.asdict(cell) for cell in cells]


def test_a_row_has_what_was_measured_beside_what_was_simulated():
    (row,) = [line for line in sweep.markdown([CELL]).splitlines() if line.startswith("| 8 ")]
    assert row == (
        "| 8 | 0.2 | 10.0 % (7.0) | 20.0 % (20.0) | 30.0 % (26.0) | 2.0 % | 3.5 | 7 | 24 |"
    )
    assert "here 44 to 44 ms" in sweep.markdown([CELL]), "0.02 of the 2 s / 0.9 from step to step"
    assert "3.0 points of the learner's idle share (1.0 without messages)" in sweep.markdown([CELL])


def test_every_panel_has_a_line_for_each_surplus_and_its_simulation():
    other = dataclasses.replace(CELL, surplus=0.0)
    panels = sweep.panels([other, CELL])
    assert [len(panel.lines) for panel in panels] == [4, 4, 4, 2]
    assert panels[2].lines[1].y.tolist() == [0.3]
    assert panels[2].lines[3].y.tolist() == [0.26]


async def test_a_cell_that_would_not_end_in_time_is_not_begun(tmp_path):
    place = (8, 0.2)
    needed = simulate(sweep.setting_of(*place), sweep.STEPS[place[0]]).elapsed * sweep.STEP_S
    await sweep.fill(None, tmp_path, [place], time.monotonic() + needed)
    assert sweep.made(tmp_path) == []


def test_a_run_and_its_simulation_throw_away_what_the_same_periods_leave():
    """Without a surplus nothing is; with one, what the first period leaves is not measured."""
    short, long = (simulate(sweep.setting_of(8, 0.2), steps) for steps in (16, 400))
    assert 0.5 * long.wasted < short.wasted < 1.5 * long.wasted
    assert simulate(sweep.setting_of(8, 0.0), 16).wasted == 0.0
