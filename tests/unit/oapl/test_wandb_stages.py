"""A run of stages on W&B, offline: what its files hold, read back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.run.leg import Leg, mark
from oapl.config import RunConfig
from oapl.config.stages import StagePlace, stages_of
from oapl.records import StepMetrics
from oapl.tracking.names import STEP
from oapl.tracking.tracker import build_tracker
from tests.support import wandb_files

LIVES = ((0, 0, (1, 2)), (1, 2, (3,)), (1, 3, (4, 5)))
"""Stage, learner step after which it begins or goes on, steps made: the second is ended and goes
on."""


def run_of_stages(folder: Path) -> RunConfig:
    return RunConfig(
        run={"name": "r", "dir": str(folder)},  # type: ignore[arg-type]
        tracking={"console": "off", "wandb": "offline"},  # type: ignore[arg-type]
        stages=(
            {"name": "imitate", "objective": {"name": "sft"}, "optimizer": {"lr": 1e-3}},
            {"name": "reinforce", "optimizer": {"lr": 1e-5}},
        ),
    )


def values_of(items: Any) -> Iterator[tuple[str, Any]]:
    for item in items:
        yield item.key or ".".join(item.nested_key), json.loads(item.value_json)


@pytest.mark.integration
def test_a_run_of_stages_is_one_run_on_wandb_also_after_a_resume(tmp_path: Path):
    import wandb

    config = run_of_stages(tmp_path)
    stages = stages_of(config)
    for number, start, steps in LIVES:
        stage = stages[number]
        first = LIVES[number][1]
        place = StagePlace(number=number + 1, total=2, name=stage.name, first=first)
        tracker = build_tracker(stage.config, config.folder, start, place)
        mark(tracker, config.folder, Leg(place=place))
        for step in steps:
            tracker.log(StepMetrics(step=step, values={"loss/total": step / 10}))
        tracker.close()
    wandb.teardown()  # the service writes the last records only as it ends
    files = sorted((config.folder / "wandb").glob("offline-run-*/*.wandb"))
    found = [wandb_files.records(path) for path in files]
    assert len(found) == len(LIVES)
    runs = [next(one.run for one in part if one.HasField("run")) for part in found]
    assert {(run.run_id, run.display_name) for run in runs} == {(runs[0].run_id, "r")}
    assert all(run.run_id for run in runs)
    rates = [dict(values_of(run.config.update))["optimizer"]["lr"] for run in runs]
    assert rates == [1e-3, 1e-5, 1e-5], "each stage tells its own settings"
    for part in found:
        axes = [one.metric for one in part if one.HasField("metric")]
        assert {one.step_metric for one in axes if one.glob_name} == {STEP}
        assert "*" in {one.glob_name for one in axes}
    lines = [
        dict(values_of(one.history.item)) for part in found for one in part if one.history.item
    ]
    marks = [(line[STEP], line["stage/number"]) for line in lines if "stage/number" in line]
    assert marks == [(0, 1.0), (2, 2.0)], "a stage that goes on does not begin again"
    losses = [(line[STEP], line["loss/total"]) for line in lines if "loss/total" in line]
    assert losses == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4), (5, 0.5)]
