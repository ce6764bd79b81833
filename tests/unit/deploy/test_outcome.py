"""A run that is done says so, and what follows one that was stopped."""

import json

import pytest

from deploy.run import summary
from deploy.run.outcome import RunOutcome, earlier_outcome
from oapl.config import RunConfig
from oapl.tracking.lines import CLOCK
from oapl.tracking.status import StatusSink


@pytest.fixture
def config(tmp_path):
    return RunConfig(run={"name": "mine", "dir": str(tmp_path), "max_steps": 12})


def ended(config, phase="done", step=12, model=True):
    """A run folder as it is left behind; returns the checkpoint."""
    checkpoint = config.folder / "checkpoints" / f"step-{step}"
    checkpoint.mkdir(parents=True)
    StatusSink(config.folder, 0).phase(phase)
    if model:
        (config.folder / "model").mkdir()
    rows = [{"step": n, "eval/s/greedy": n / 12, CLOCK: 1.0} for n in (0, step)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (config.folder / "metrics.jsonl").write_text(lines)
    return checkpoint


def test_a_run_that_is_done_has_nothing_to_do_and_shows_what_it_was(config, capsys):
    outcome = earlier_outcome(config, ended(config))
    assert (outcome.step, outcome.was_done) == (12, True)
    assert outcome.before["eval/s/greedy"] == 0
    assert outcome.after["eval/s/greedy"] == 1
    assert summary.report(outcome) == 0
    assert "nothing to do: mine has made its 12 steps; raise run.max_steps" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.parametrize(
    "left",
    [{"phase": "stopped"}, {"phase": "failed"}, {"phase": "finish"}, {"step": 8}, {"model": False}],
    ids=str,
)
def test_a_run_that_has_something_left_goes_on(config, left):
    assert earlier_outcome(config, ended(config, **left)) is None


def test_a_run_without_a_checkpoint_or_from_another_folder_s_goes_on(config, tmp_path):
    ended(config)
    assert earlier_outcome(config, None) is None
    assert earlier_outcome(config, tmp_path / "other" / "checkpoints" / "step-12") is None


@pytest.mark.parametrize(("signal", "code"), [(1, 129), (2, 130), (15, 143)])
def test_a_stopped_run_says_what_the_same_command_does(config, capsys, signal, code):
    outcome = RunOutcome(
        folder=config.folder, step=5, signal=signal, next="the same command resumes from x"
    )
    assert summary.report(outcome) == summary.show_evaluation(outcome) == code
    assert capsys.readouterr().out == "stopped at step 5; the same command resumes from x\n"
