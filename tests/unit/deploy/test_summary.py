"""What a run prints at its end can be typed as it stands."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from deploy.run import summary
from deploy.run.program import RunOutcome
from oapl.tracking import history
from tests.support import run_folders


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment of its own, in the folder in which the command is given."""
    path = tmp_path / "my env" / "bin" / "python"
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr(sys, "executable", str(path))
    monkeypatch.setenv("PATH", "")
    monkeypatch.chdir(tmp_path)
    return path


def install(python: Path) -> Path:
    script = python.with_name("oapl")
    script.touch(mode=0o755)
    return script


def test_without_a_script_the_module_is_named(python: Path):
    assert shlex.split(summary.program()) == ["my env/bin/python", "-m", "oapl"]


def test_a_script_that_is_not_on_the_path_is_named_by_its_place(python: Path):
    install(python)
    assert shlex.split(summary.program()) == ["my env/bin/oapl"]


def test_on_the_path_the_name_is_enough_unless_it_is_another(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(install(python).parent))
    assert summary.program() == "oapl"
    other = install(tmp_path / "python").parent
    monkeypatch.setenv("PATH", os.pathsep.join([str(other), str(python.parent)]))
    assert shlex.split(summary.program()) == ["my env/bin/oapl"]


def test_the_model_is_asked_what_it_was_trained_on(python: Path, tmp_path: Path):
    outcome = RunOutcome(folder=tmp_path / "it's mine", step=1080, made=80)
    question = 'Add 1 + 2 to "3".'
    *others, asked = summary._commands(outcome, question)
    command, _, code = shlex.split(asked, comments=True)
    assert command == "my env/bin/python"
    compile(code, "command", "exec")
    assert "it's mine/model" in code
    assert 'Add 1 + 2 to \\"3\\".\\n' in code
    assert shlex.split(others[0], comments=True)[-2:] == [
        "it's mine/config.toml",
        "run.max_steps=280",
    ]
    assert len(summary._commands(outcome, None)) == len(others)


def test_a_run_ends_by_saying_how_surely_its_last_evaluation_differs_from_its_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = run_folders.make(tmp_path / "a", steps=6)
    outcome = RunOutcome(
        folder=folder,
        step=6,
        ended="run.max_steps",
        before=history.first_evaluation(folder),
        after=history.last_evaluation(folder),
    )
    assert summary.report(outcome) == 0
    lines = capsys.readouterr().out.splitlines()
    told = [line for line in lines if "problems in pairs" in line]
    assert len(told) == len(run_folders.SETS)
    begins = f"sums, mean, {run_folders.NUM_PROBLEMS} problems in pairs: the end above the start: +"
    assert told[0].startswith(begins)
    assert "95 % interval" in told[0]


def test_of_a_run_that_kept_no_answers_nothing_is_said_of_pairs(tmp_path: Path):
    folder = run_folders.make(tmp_path / "a", steps=6)
    for path in (folder / "evaluations").iterdir():
        path.unlink()
    assert summary.before_and_after(folder) == []
