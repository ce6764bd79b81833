"""Words to functions, errors to exit codes. Each case in a process of its own."""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import commands
from deploy.commands import VERBS, show
from oapl.config import plugins
from oapl.errors import HeadError, NodeError, RankError

ROOT = Path(__file__).parents[3]
RECIPE = "deploy/recipes/cpu_quickstart.toml"


def oapl(*words):
    return subprocess.run(
        [sys.executable, "-m", "oapl", *words], capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("train", "nothing.toml"), 2, "nothing.toml does not exist"),
        (("train", RECIPE, "--dry-run", "sync.intervall=3"), 2, "did you mean sync.interval?"),
        (("train", RECIPE, "--dry-run", "--fast"), 2, "unrecognized arguments: --fast"),
        (("train", RECIPE, "stages=[]", "objective.name=sft"), 2, "oapl sft"),
        (("sft", RECIPE, "stages=[]"), 2, "oapl train"),
        (("sft", RECIPE), 2, "a run of stages is done by `oapl train`"),
        (("train", RECIPE, "stages.1.optimizer.lr=fast"), 2, "stages.1.optimizer.lr"),
        (("train", RECIPE, "stages.1.sync.max_lead=300"), 2, "stage 1 (imitate): model.path"),
        (("next", "no-such-run"), 2, "no run has been started there"),
        (("show", "no-such-run"), 2, "holds no stored rollouts"),
        (("watch", "no-such-run"), 2, "no-such-run does not exist"),
        (
            ("init", "--model", "/no", "--data", "no.jsonl", "-o", RECIPE),
            2,
            "replace it by --force",
        ),
    ],
    ids=str,
)
def test_bad_words_end_with_exit_code_2_and_a_remedy(words, code, message):
    answer = oapl(*words)
    assert answer.returncode == code, answer.stderr
    assert message in answer.stderr


def test_the_help_of_a_command_lists_every_setting_with_its_sentence():
    answer = oapl("train", "--help")
    assert answer.returncode == 0
    assert "sync.interval = 50" in answer.stdout
    assert "learner steps between two publications" in answer.stdout


def test_doctor_ends_with_exit_code_1_when_the_recipe_cannot_run():
    answer = oapl("doctor", "nothing.toml")
    assert answer.returncode == 1, answer.stderr
    assert "nothing.toml does not exist" in answer.stdout
    assert "a run could not start: 1 wrong" in answer.stdout


def test_the_overview_comes_fast_since_it_imports_nothing_heavy():
    program = (
        "import sys\n"
        "from oapl.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({name.split('.')[0] for name in sys.modules}))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    *_, loaded = answer.stdout.splitlines()
    for library in ("torch", "ray", "vllm", "numpy", "transformers", "rich"):
        assert f"'{library}'" not in loaded


def test_a_file_with_the_name_of_a_package_is_refused_and_not_run(tmp_path):
    (tmp_path / "learner").with_suffix(".py").write_text("raise SystemExit('run')\n")
    answer = subprocess.run(
        [sys.executable, "-m", "oapl", "show", "x"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 2
    assert f"package learner comes from {tmp_path}/learner.py, not from {ROOT}" in answer.stderr
    assert "rename the file" in answer.stderr


def test_a_file_with_the_name_of_a_module_of_python_s_is_refused(tmp_path):
    (tmp_path / "json.py").write_text("loads = None\n")
    answer = subprocess.run(
        [sys.executable, "-m", "oapl", "show", "x"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith(f"error: {tmp_path}/json.py is found before Python's own")


def test_another_distribution_with_the_name_of_a_package_is_refused(tmp_path):
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / "__init__.py").write_text("")
    answer = subprocess.run(
        [sys.executable, "-m", "oapl", "show", "x"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert answer.returncode == 2
    assert f"package learner comes from {tmp_path}, not from {ROOT}" in answer.stderr


def test_every_file_of_a_verb_is_listed_and_has_what_a_verb_has():
    assert sorted(VERBS) == plugins.names("deploy.commands")
    for name in VERBS:
        verb = importlib.import_module(f"deploy.commands.{name}")
        assert isinstance(verb.HELP, str)
        verb.add_arguments(argparse.ArgumentParser())
        assert callable(verb.run)


@pytest.mark.parametrize(
    ("error", "leaves"),
    [
        (RankError("learner rank 1 of 2 died"), []),
        (NodeError("Ray's raylet has ended"), [1]),
        (HeadError("Ray's gcs_server has ended"), [1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_failure_is_told_in_one_line_with_its_notes_and_ray_is_left_without_a_farewell(
    monkeypatch, capsys, error, leaves
):
    left = []
    error.add_note("the same command resumes from checkpoints/step-8")

    def fail(*_):
        raise error

    monkeypatch.setattr(show, "run", fail)
    monkeypatch.setattr(commands.os, "_exit", left.append)
    assert commands.main(["show", "x"]) == 1
    assert left == leaves
    assert capsys.readouterr().err == (
        f"failed: {type(error).__name__}: {error}; the same command resumes from "
        "checkpoints/step-8\n"
    )
