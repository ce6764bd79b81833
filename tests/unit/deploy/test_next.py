"""`oapl next` and `oapl reset` ask the stage that a run is at."""

import pytest

from deploy.run import stage_record
from deploy.run.stage_record import Ended
from learner import resets
from learner.moving_on import REQUEST
from oapl.__main__ import main
from oapl.config import RunConfig
from oapl.config.toml import to_toml
from oapl.tracking.status import DONE, StatusSink

STAGES = (
    {"name": "imitate", "objective": {"name": "sft"}},
    {"name": "made", "kind": "generate"},
    {"name": "learn", "objective": {"name": "grpo", "kl_coefficient": 0.1}},
)


@pytest.fixture
def folder(tmp_path):
    config = RunConfig(run={"name": "r", "dir": str(tmp_path)}, stages=STAGES)
    config.folder.mkdir()
    (config.folder / "config.toml").write_text(to_toml(config))
    return config.folder


def end(folder, *names):
    kinds = {stage["name"]: stage.get("kind", "train") for stage in STAGES}
    stage_record.write(folder, [Ended(name=name, kind=kinds[name], step=4) for name in names])


def test_the_present_stage_is_asked_to_end(folder, capsys):
    assert main(["next", str(folder)]) == 0
    assert (folder / REQUEST).read_text() == "imitate\n"
    end(folder, "imitate", "made")
    assert main(["next", str(folder)]) == 0
    assert (folder / REQUEST).read_text() == "learn\n"
    assert "the run says when stage learn has ended" in capsys.readouterr().out


def test_a_run_that_is_done_has_no_stage_to_end(folder, capsys):
    """And what was asked of it would end its last stage at once, were that given more steps."""
    end(folder, "imitate", "made", "learn")
    sink = StatusSink(folder, 0)
    sink.phase(DONE)
    assert main(["next", str(folder)]) == 2
    assert "all its stages have ended; give the last one more steps" in capsys.readouterr().err
    assert not (folder / REQUEST).exists()


def test_what_ends_by_itself_is_not_asked(folder, capsys):
    end(folder, "imitate")
    assert main(["next", str(folder)]) == 2
    assert "its present stage (made) is of kind generate" in capsys.readouterr().err
    (folder / "config.toml").write_text(to_toml(RunConfig()))
    assert main(["next", str(folder)]) == 2
    assert "its recipe has no stages" in capsys.readouterr().err


def test_a_reset_is_for_the_objective_of_the_present_stage(folder, capsys):
    assert main(["reset", str(folder)]) == 2
    assert "its objective (sft) has no reference" in capsys.readouterr().err
    end(folder, "imitate", "made")
    assert main(["reset", str(folder)]) == 0
    assert (folder / resets.REQUEST).exists()
    assert "the run says when it is done" in capsys.readouterr().out
    StatusSink(folder, 0).phase(DONE)
    assert main(["reset", str(folder)]) == 0
    assert "this run is over, and does it first if it is given more" in capsys.readouterr().out
