"""Boards by the real packages, offline: `make boards` installs them beside the environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile

import pytest

from oapl.config import RunConfig
from oapl.records import StepMetrics
from oapl.tracking import trackio_sink
from oapl.tracking.boards import BOARD
from oapl.tracking.names import describe

os.environ.setdefault("TRACKIO_DIR", tempfile.mkdtemp())  # read when trackio is imported
WHY = "is not here; `make boards` installs it"
trackio = pytest.importorskip("trackio", reason=f"trackio {WHY}")
workspaces = pytest.importorskip("wandb_workspaces", reason=f"wandb-workspaces {WHY}")
pytestmark = pytest.mark.by_hand
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def kept() -> str:
    """A run of two lives, as trackio keeps it; gives its project."""
    config = RunConfig(run={"name": "quick-1"}, tracking={"wandb_project": "boards"})  # type: ignore[arg-type]
    for start in (0, 2):
        sink = trackio_sink.start(config, print)
        assert sink is not None
        for step in (start + 1, start + 2):
            sink.log(StepMetrics(step=step, values={"reward/mean": step / 10}))
        sink.alert("alarm entropy", f"step {start + 2}: it fell")
        sink.close()
    return "boards"


def test_trackio_keeps_one_run_over_its_lives_with_steps_and_alerts(kept):
    (run,) = trackio.Api().runs(kept)
    assert run.name == "quick-1"
    from trackio.sqlite_storage import SQLiteStorage

    logged = SQLiteStorage.get_logs(kept, "quick-1")
    assert [(row["step"], row["reward/mean"]) for row in logged] == [
        (1, 0.1),
        (2, 0.2),
        (3, 0.3),
        (4, 0.4),
    ]
    alerts = sorted((one["text"], one["level"]) for one in trackio.Api().alerts(kept))
    assert alerts == [("step 2: it fell", "warn"), ("step 4: it fell", "warn")]


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here to open the board in")
def test_the_board_of_trackio_shows_the_run_in_a_browser(kept, tmp_path):
    shown = trackio.show(project=kept, open_browser=False, block_thread=False)
    url = next(part for part in shown if isinstance(part, str) and part.startswith("http"))
    assert BROWSER is not None
    answer = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900"),
            *("--virtual-time-budget=15000", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--dump-dom", f"{url.rstrip('/')}/?project={kept}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    assert "quick-1" in answer.stdout
    assert "reward" in answer.stdout


def test_the_workspace_has_the_sections_of_the_board_and_their_metrics():
    from deploy.commands._dashboard.workspace import workspace

    model = json.loads(workspace("team", "mine")._to_model().model_dump_json(by_alias=True))
    assert (model["entity"], model["project"]) == ("team", "mine")
    sections = model["spec"]["section"]["panelBankConfig"]["sections"]
    assert [section["name"] for section in sections] == list(BOARD)
    assert list(BOARD) == [
        *("Learning", "OAPL", "Rollouts", "Replay and lag", "Throughput and idle", "Rewards"),
        "Health",
    ]
    for section, panels in zip(sections, BOARD.values(), strict=True):
        for drawn, panel in zip(section["panels"], panels, strict=True):
            settings = drawn["config"]
            assert settings["chartTitle"] == panel.title
            assert settings["xAxis"] == "step"
            if settings["metrics"]:
                assert settings["metrics"] == list(panel.metrics)
                assert all(describe(name) for name in settings["metrics"])
            else:
                assert settings["metricRegex"].startswith("^(")
                assert settings["useMetricRegex"] is True
