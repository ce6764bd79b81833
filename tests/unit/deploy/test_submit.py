"""What a job is made of, and how its end becomes an exit code. The rest needs a cluster."""

import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.commands._submit import job, shipped
from oapl.__main__ import main
from oapl.config.toml import load_config
from oapl.errors import OaplError
from oapl.tracking.status import STOPPED_AT


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("model", "data"):
        (tmp_path / name).mkdir()
    for name in ("train.jsonl", "data/test.jsonl", "mine.py", "my.toml"):
        (tmp_path / name).write_text("")
    return tmp_path


def is_shipped(path):
    return shipped.is_shipped(Path(path), shipped.EXCLUDES)


@pytest.mark.parametrize(
    ("name", "is_there"),
    [
        ("train.jsonl", True),
        ("data/test.jsonl", False),
        ("deep/runs/x.toml", False),
        ("model.safetensors", False),
        ("../elsewhere.toml", False),
        ("/etc/hostname", False),
    ],
)
def test_what_is_excluded_or_lies_elsewhere_is_not_shipped(here, name, is_there):
    assert is_shipped(name) is is_there


def test_what_git_ignores_is_not_shipped(here):
    subprocess.run(["git", "init", "-q", "."], check=True)
    (here / ".gitignore").write_text("secret.jsonl\n")
    assert not is_shipped("secret.jsonl")
    assert is_shipped("train.jsonl")


def test_paths_that_the_copy_lacks_are_made_absolute_where_the_job_is_submitted(here):
    overrides = [
        "model.path=model",
        "critic.path=model",
        "data.sources.0={name='a', path='train.jsonl'}",
        "eval.sources.0={name='a', path='data/test.jsonl'}",
        "eval.sources.1={name='b', dataset='hub/name'}",
        "reward.options.function.function=mine.py:reward",
        "tracking.baseline=data",
        "run.dir=my runs",
        "cluster.address=http://there:8265",
    ]
    config = load_config(None, overrides)
    line = shipped.entrypoint(config, Path("my.toml"), overrides, is_shipped=is_shipped)
    words = shlex.split(line)
    assert words[:5] == ["python", "-m", "oapl", "train", "my.toml"]
    added = words[5 + len(overrides) :]
    assert added == [
        f"run.dir={here}/my runs",
        f"model.path={here}/model",
        f"critic.path={here}/model",
        f"tracking.baseline={here}/data",
        f"eval.sources.0.path={here}/data/test.jsonl",
        "cluster.address=",
    ]
    inside = load_config(None, words[5:])
    assert inside.folder == config.folder
    assert inside.cluster.address == "", "the job's own cluster"


def test_a_recipe_of_which_a_part_does_not_travel_is_named_by_its_absolute_path(here):
    (here / "data" / "base.toml").write_text("")
    (here / "my.toml").write_text('extends = "data/base.toml"')
    config = load_config(here / "my.toml", [])
    line = shipped.entrypoint(config, Path("my.toml"), [], is_shipped=is_shipped)
    assert shlex.split(line)[4] == f"{here}/my.toml"


def test_a_reward_function_that_does_not_travel_is_named_by_its_absolute_path(here):
    (here / "data" / "mine.py").write_text("")
    config = load_config(None, ["reward.options.judge.function=data/mine.py:reward"])
    added = list(shipped.absolute_paths(config, is_shipped))
    assert f"reward.options.judge.function={here}/data/mine.py:reward" in added


@pytest.mark.parametrize(
    ("status", "driver", "log", "code"),
    [
        ("SUCCEEDED", 0, "", 0),
        ("FAILED", 2, "error: no such model\n", 2),
        ("FAILED", 1, "", 1),
        ("FAILED", -9, "", 137),
        ("STOPPED", None, f"{STOPPED_AT} 5 with a checkpoint; ...\n", 143),
        ("STOPPED", None, "step 5\n", 137),
    ],
)
def test_the_exit_code_is_the_runs_own(status, driver, log, code):
    info = SimpleNamespace(status=status, driver_exit_code=driver, message="")
    assert job._exit_code(info, log) == code


def test_a_job_that_never_ran_fails_with_the_clusters_words():
    info = SimpleNamespace(status="FAILED", driver_exit_code=None, message="no room for it")
    with pytest.raises(OaplError, match="no room for it"):
        job._exit_code(info, "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no cluster is named"),
        (["--address", "http://127.0.0.1:9"], "no job server answers there"),
        (["cluster.mode=local", "sync.transport=local"], "oapl train"),
        (["--address", "http://127.0.0.1:9", "sync.intervall=3"], "sync.interval"),
    ],
    ids=str,
)
def test_what_cannot_be_submitted_is_refused_with_exit_code_2(
    here, words, says, capsys, monkeypatch
):
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    (here / "my.toml").write_text(
        "[model]\npath = 'm'\n[[data.sources]]\nname = 'a'\npath = 'train.jsonl'\n"
    )
    assert main(["submit", "my.toml", *words]) == 2
    assert says in capsys.readouterr().err


class Server:
    """A job server whose connection breaks once, in the middle of a line."""

    def __init__(self):
        self.connections = 0

    async def tail_job_logs(self, job):
        self.connections += 1
        yield "step 1\nst"
        if self.connections == 1:
            raise RuntimeError("closed unexpectedly")
        yield "ep 2\n"

    def get_job_status(self, job):
        return SimpleNamespace(is_terminal=lambda: True)


async def test_a_connection_that_breaks_loses_no_line_and_repeats_none(monkeypatch):
    monkeypatch.setattr(job, "RETRY_S", 0.0)
    assert "".join([text async for text in job._log(Server(), "job")]) == "step 1\nstep 2\n"
