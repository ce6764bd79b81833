"""Jobs on a cluster of two nodes: what `make test` has no time for.

    python -m tests.chaos.jobs [NAME ...]

Prints one line per case, with the output of a case that fails; exit code 1 when one failed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.clusters import BIN, ROOT, Cluster, Command, make_project
from tests.support.run_files import steps

LONG = ("run.max_steps=400", "sync.interval=40", "checkpoint.every_syncs=1")


def plain_ray_job(cluster: Cluster, project: Path) -> None:
    """`ray job submit` of the same recipe; the code is shipped with the working directory."""
    recipe = ("model.path=" + str(project / "model"), f"data.sources.0.path={project}/sums.jsonl")
    reward = f"reward.options.function.function={project}/mine.py:reward"
    words = [
        "env",
        "RAY_AUTH_MODE=token",
        BIN / "ray",
        "job",
        "submit",
        "--address",
        cluster.server,
        "--working-dir",
        ROOT,
        "--",
    ]
    words += ["python", "-m", "oapl", "train", project / "recipe.toml", *recipe, reward]
    code, output = Command(cluster, project, *words, f"run.dir={project}/runs").end()
    assert code == 0, output
    assert steps(project / "runs" / "job") == [1, 2, 3, 4], output
    code, output = Command(cluster, project, *words, "run.dir=runs").end()
    assert code == 1, output
    assert "run.dir = 'runs': is relative" in output, output
    assert "exit code 2" in output, output


def stopped(cluster: Cluster, project: Path) -> None:
    """Ctrl-C stops the job with a checkpoint, and the same command goes on."""
    run = project / "runs" / "stopped"
    words = ("submit", "recipe.toml", "--address", cluster.server, "run.name=stopped")
    job = cluster.oapl(project, *words, *LONG)
    job.wait_for_step(run, 3)
    job.interrupt()
    code, output = job.end()
    assert code == 143, output
    last = steps(run)[-1]
    assert f"stopped at step {last} with a checkpoint" in output, output
    assert f"step-{last}" in os.listdir(run / "checkpoints")
    code, output = cluster.oapl(
        project, *words, f"run.max_steps={last + 3}", "sync.interval=40"
    ).end()
    assert code == 0, output
    assert steps(run) == list(range(1, last + 4)), output


def killed(cluster: Cluster, project: Path) -> None:
    """A program that is killed without grace resumes from its last checkpoint."""
    run = project / "runs" / "killed"
    words = ("submit", "recipe.toml", "--address", cluster.server, "run.name=killed")
    job = cluster.oapl(project, *words, "run.max_steps=400", "sync.interval=4")
    job.wait_for_step(run, 9)
    owner = (run / ".lock").read_text().split()
    os.kill(int(owner[-1]), signal.SIGKILL)
    code, output = job.end()
    assert code == 137, output
    last = max(int(name.split("-")[1]) for name in os.listdir(run / "checkpoints"))
    code, output = cluster.oapl(
        project, *words, f"run.max_steps={last + 4}", "sync.interval=4"
    ).end()
    assert code == 0, output
    assert f"resuming from {run}/checkpoints/step-{last}" in output, output
    assert steps(run) == list(range(1, last + 5))


def refused(cluster: Cluster, project: Path) -> None:
    """What the cluster cannot hold is refused at once; what is not free, by a deadline."""
    join = f"cluster.address={cluster.address}"
    never = ("learner.num_ranks=4", "learner.batch_size=16")
    code, output = cluster.oapl(
        project, "train", "recipe.toml", join, "run.name=never", *never
    ).end()
    assert code == 2, output
    assert "asks for 4 learner (4 learner ranks of 1), but the cluster has 1" in output, output
    assert "of which 1 are free" in output
    print("    " + output.strip().splitlines()[-1])
    code, output = cluster.oapl(
        project, "train", "recipe.toml", join, "cluster.engine_resources.gone=1", "run.name=gone"
    ).end()
    assert code == 2, output
    assert "no node has that" in output, output
    print("    " + output.strip().splitlines()[-1])
    busy = ("submit", "recipe.toml", "--address", cluster.server, "run.name=busy", *LONG)
    first = cluster.oapl(project, *busy)
    try:
        first.wait_for_step(project / "runs" / "busy", 1)
        code, output = cluster.oapl(
            project, "train", "recipe.toml", join, "run.name=waits", "cluster.start_timeout_s=20"
        ).end()
        assert code == 1, output
        assert "waited 20 s" in output, output  # for the ranks' place, or for a slow start
        assert "(cluster.start_timeout_s)" in output, output
        assert "0 learner" in output, output
        print("    " + output.strip().splitlines()[-1])
        code, output = cluster.oapl(project, "train", "recipe.toml", join, "run.name=busy").end()
        assert code == 2, output
        assert "is using" in output, output
        assert "max_steps = 400" in (project / "runs" / "busy" / "config.toml").read_text()
    finally:
        first.interrupt()
        code, output = first.end()
    assert code == 143, output


def unreachable(cluster: Cluster, project: Path) -> None:
    """An address at which nothing, or something else, listens."""
    with socket.create_server(("127.0.0.1", 0)) as mute, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for server in (closed, mute):
            there = f"127.0.0.1:{server.getsockname()[1]}"
            for words in (
                ("train", "recipe.toml", f"cluster.address={there}"),
                ("submit", "recipe.toml", "--address", f"http://{there}"),
                ("submit", "recipe.toml", "--address", there),
            ):
                started = time.monotonic()
                code, output = cluster.oapl(project, *words).end(60)
                assert code == 2, output
                assert "answers there" in output, output
                assert time.monotonic() - started < 30
            print("    " + output.strip().splitlines()[-1])


def other_node(cluster: Cluster, project: Path) -> None:
    """A node with other code, and one that does not see the run folder."""
    other = cluster.folder / "other"
    for package in ("oapl", "actors", "learner", "reward_server", "deploy"):
        shutil.copytree(ROOT / package, other / package)
    with (other / "oapl" / "errors.py").open("a") as file:
        file.write("\n# changed\n")
    hidden = project / "runs" / "hidden"
    hidden.mkdir(parents=True, exist_ok=True)
    hide = ("unshare", "--mount", "--", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"')
    cluster.start(
        f"--address={cluster.address}",
        resources={"far": 1},
        before=(*hide, "sh"),
        python_path=other,
    )
    join = f"cluster.address={cluster.address}"
    code, output = cluster.oapl(project, "train", "recipe.toml", join, "run.name=hidden").end()
    assert code == 2, output
    assert "runs other code of oapl" in output, output
    assert f"does not see the run folder {hidden}" in output, output
    assert not (hidden / "logs" / "trainer-0.log").exists(), "nothing was started"
    print("    " + "\n    ".join(line for line in output.splitlines() if "node " in line))


CASES: tuple[Callable[[Cluster, Path], None], ...] = (
    *(plain_ray_job, stopped, killed, refused, unreachable),
    other_node,  # last: its node stays
)


def main(names: list[str]) -> int:
    failed = 0
    with tempfile.TemporaryDirectory(prefix="oapl-jobs-", dir="/tmp") as folder, Cluster() as up:
        for case in CASES:
            if names and case.__name__ not in names:
                continue
            project = make_project(Path(folder) / case.__name__)
            started = time.monotonic()
            try:
                case(up, project)
                word = "ok"
            except AssertionError as error:
                failed += 1
                word = f"FAILED\n{error}"
            print(f"{case.__name__}: {word} ({time.monotonic() - started:.0f} s)", flush=True)
    print(json.dumps({"failed": failed}))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
