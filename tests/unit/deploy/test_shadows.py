"""Files in the working directory that Ray's workers would import in the place of others."""

import sys

import numpy  # noqa: F401 - a library that every command has loaded by the time it looks
import pytest

from deploy.checks.shadows import ROOT, check_shipped, check_working_directory
from oapl.errors import InputError


@pytest.mark.parametrize(
    ("file", "what"),
    [
        ("learner.py", "oapl's own package learner"),
        ("deploy.py", "oapl's own package deploy"),
        ("oapl.py", "oapl's own package oapl"),
        ("actors/__init__.py", "oapl's own package actors"),
        ("reward_server/__init__.py", "oapl's own package reward_server"),
        ("learner.cpython-311-x86_64-linux-gnu.so", "oapl's own package learner"),
        ("json.py", "Python's own module json"),
        ("statistics/__init__.py", "Python's own module statistics"),
        ("numpy.py", "the library numpy"),
        ("vllm.py", "the library vllm"),
        ("ray/__init__.py", "the library ray"),
    ],
)
def test_a_file_that_would_be_imported_in_the_place_of_another_is_refused(
    tmp_path, monkeypatch, file, what
):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^{tmp_path}/\S+: .* the place of {what}; rename it"):
        check_working_directory()


@pytest.mark.parametrize(
    "file",
    ["actors/data.txt", "learner.toml", "json.txt", "json.jsonl", "my_reward.py", "wandb/run.txt"],
)
def test_other_files_are_nobody_s_place(tmp_path, monkeypatch, file):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.chdir(tmp_path)
    check_working_directory()


def test_the_source_tree_stands_in_nobody_s_place(monkeypatch):
    monkeypatch.chdir(ROOT)
    check_working_directory()


def test_the_folder_of_the_program_is_looked_at_where_workers_do(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "learner.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "bin" / "mine.py")])
    check_working_directory()
    monkeypatch.syspath_prepend(tmp_path / "bin")
    with pytest.raises(InputError, match=r"bin/learner.py: Ray's workers look in .*bin first"):
        check_working_directory()


@pytest.mark.parametrize("file", ["types.py", "oapl.py", "learner/__init__.py", "ray.py"])
def test_a_job_is_not_sent_with_such_a_file(tmp_path, file):
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(InputError, match=rf"^{tmp_path}/\S+: a job looks in .*; rename it"):
        check_shipped(tmp_path)


def test_a_job_is_sent_with_a_whole_copy_of_oapl_and_runs_that_one(tmp_path):
    for name in ("oapl", "actors", "learner", "reward_server", "deploy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "mine.py").touch()
    check_shipped(tmp_path)
    (tmp_path / "types.py").touch()
    with pytest.raises(InputError, match="Python's own module types"):
        check_shipped(tmp_path)
