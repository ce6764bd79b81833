"""What a whole run leaves of keys, and which ports it opens: every file and socket is looked at."""

import os
import re
import signal
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest

from tests.support.whole_runs import Run, write_recipe

pytestmark = [
    pytest.mark.integration,
    pytest.mark.by_hand,
    pytest.mark.timeout(1800),
]

ROOT = Path(__file__).parents[2]
CANARIES = {
    "WANDB_API_KEY": "0a11ca9a0a11ca9a0a11ca9a0a11ca9a0a11ca9a",
    "HF_TOKEN": "hf_canaryCanaryCanaryCanaryCanary",
    "JUDGE_KEY": "sk-canary-of-the-judge",
    "DB_PASSWORD": "canary-of-a-database",
}
REWARD = """
import os

def reward(prompt, response, reference):
    return float("WANDB_API_KEY" in os.environ)
"""
PORTS = re.compile(r"^\| `(\w[^`]*)` \| ([^|]*) \|", re.M)
"""Rows of README's table of ports: the process's name begins so, and where it listens."""


@pytest.fixture(scope="module")
def life(tmp_path_factory):
    """A run that is stopped and goes on, with keys in its environment; what listened meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        for name, key in CANARIES.items():
            patch.setenv(name, key)
        recipe = write_recipe(tmp_path_factory.mktemp("footprint"))
        (recipe.parent / "mine.py").write_text(REWARD)
        function = f'"{recipe.parent}/mine.py:reward"'
        settings = (
            "tracking.wandb=offline",
            "reward.verifiers={math=1.0, function=1.0}",
            f"reward.options.function.function={function}",
            "learner.num_ranks=2",
            "sync.transport=collective",
        )
        run = Run(recipe, "footprint", *settings)
        run.wait_for_step(5)
        found = listening(run)
        run.kill(signal.SIGTERM)
        first = run.end()
        again = Run(recipe, "footprint", *settings)
        second = again.end()
        assert [first[0], second[0]] == [143, 0], first[1] + second[1]
        yield again, first[1] + second[1], found


def listening(run):
    """Addresses at which the run's processes listen, by the process's name, and its own memory."""
    found = defaultdict(set)
    for process in psutil.process_iter():
        try:
            if run.mark.encode() not in Path(f"/proc/{process.pid}/environ").read_bytes():
                continue
            name = process.name()
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found[name].add(connection.laddr.ip)
        except (OSError, psutil.Error):
            continue
    return dict(found)


def test_no_key_is_in_anything_that_a_run_wrote(life):
    run, output, _ = life
    places = [run.folder, *_of_ray(run)]
    files = [file for place in places for file in place.rglob("*") if file.is_file()]
    assert len(files) > 30, "checkpoints, logs, W&B's files, Ray's"
    held = {
        f"{file}: {name}"
        for file in files
        for name, key in CANARIES.items()
        if key.encode() in file.read_bytes()
    }
    assert held == set()
    assert not [name for name, key in CANARIES.items() if key in output]


def test_a_user_s_function_does_not_see_the_key_of_wandb(life):
    run, _, _ = life
    assert set(run.metrics("reward/function/mean")) == {0.0}


def test_it_listens_where_readme_says_and_on_loopback(life):
    *_, found = life
    told = dict(PORTS.findall((ROOT / "README.md").read_text()))
    unknown = {name for name in found if not any(name.startswith(begin) for begin in told)}
    assert unknown == set(), f"README's table lacks them; it has {sorted(told)}"
    everywhere = {
        name: sorted(places - {"127.0.0.1", "::1", "::ffff:127.0.0.1"})
        for name, places in found.items()
    }
    assert {name: places for name, places in everywhere.items() if places} == {}


def _of_ray(run):
    """Folders of Ray's sessions that began with the run."""
    began = (run.folder / "config.toml").stat().st_mtime - 600
    sessions = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray"
    return [
        place
        for place in sessions.glob("session_2*")
        if place.stat().st_mtime > began and time.time() > began and not place.is_symlink()
    ]
