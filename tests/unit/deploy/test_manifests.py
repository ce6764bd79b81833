"""The files for Kubernetes, Slurm and Docker, by what can check them without a cluster."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.commands import main
from deploy.commands._dashboard import grafana
from deploy.commands._dashboard.workspace import pattern
from oapl.config.toml import load_config
from oapl.tracking.boards import BOARD
from oapl.tracking.names import METRICS, describe

DEPLOY = Path(__file__).parents[3] / "deploy"
DOCKERFILES = sorted((DEPLOY / "docker").glob("Dockerfile.*"))
SCRIPT = DEPLOY / "manifests" / "slurm.sh"


def lint(tool, *words):
    """Runs a tool of the environment, or of the machine."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    program = shutil.which(tool, path=path)
    assert program, f"{tool} is missing; install deploy/requirements/dev.txt"
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_dockerfiles_satisfy_hadolint(path):
    answer = lint("hadolint", path)
    assert answer.returncode == 0, answer.stdout


def test_there_is_a_dockerfile_for_each_device():
    assert [path.suffix for path in DOCKERFILES] == [".cpu", ".cuda", ".npu"]


def test_the_slurm_script_satisfies_bash_and_shellcheck():
    for tool, words in (("bash", ("-n", SCRIPT)), ("shellcheck", (SCRIPT,))):
        answer = lint(tool, *words)
        assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("signalled", [False, True], ids=["ended", "stopped"])
def test_the_slurm_script_ends_with_the_code_of_the_program(tmp_path, signalled):
    """With stand-ins for Slurm's, Ray's and Python's commands, each of which notes its words."""
    code = 143 if signalled else 2
    stand_ins = {
        "scontrol": "printf 'node-a\\nnode-b\\n'",
        "srun": 'case "$*" in *hostname*) echo 10.0.0.1 ;; esac; echo "srun $*" >> calls',
        "ray": "exit 0",
        "python": """
case "$1" in -) cat > /dev/null; exit 0 ;; -c) echo token; exit 0 ;; esac
trap 'echo saved >> calls; exit 143' TERM
echo "$RAY_ADDRESS python $*" >> calls
[ "$SIGNALLED" = 1 ] || exit 2
kill -TERM "$PPID"
for _ in $(seq 400); do sleep 0.05; done""",
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_ID": "7",
        "SLURM_GPUS_ON_NODE": "8",
        "SIGNALLED": str(int(signalled)),
    }
    command = ["bash", SCRIPT, "my.toml", "run.name=a b"]
    answer = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == code, answer.stderr
    calls = (tmp_path / "calls").read_text()
    assert "10.0.0.1:20007 python -m oapl train my.toml run.name=a b" in calls
    assert "--nodelist=node-a env -u RAY_ADDRESS ray start" in calls
    assert "--num-gpus=8 --head --node-ip-address=10.0.0.1 --port=20007" in calls
    assert "--nodelist=node-b" in calls
    assert "--address=10.0.0.1:20007" in calls
    assert ("saved" in calls) is signalled


# From KubeRay's API reference (ray.io/v1); an unknown key would be dropped in silence.
JOB_KEYS = {
    *("entrypoint", "runtimeEnvYAML", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"),
    *("backoffLimit", "rayClusterSpec", "activeDeadlineSeconds", "submissionMode", "suspend"),
}
CLUSTER_KEYS = {"rayVersion", "headGroupSpec", "workerGroupSpecs", "authOptions"}
HEAD_KEYS = {"rayStartParams", "template", "serviceType"}
WORKER_KEYS = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"),
}


def test_the_rayjob_has_the_structure_of_its_definition():
    job = yaml.safe_load((DEPLOY / "manifests" / "rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert set(job["spec"]) <= JOB_KEYS
    cluster = job["spec"]["rayClusterSpec"]
    assert set(cluster) <= CLUSTER_KEYS
    pins = (DEPLOY / "requirements" / "cpu.txt").read_text().splitlines()
    assert f"ray=={cluster['rayVersion']}" in pins
    assert set(cluster["headGroupSpec"]) <= HEAD_KEYS
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups[1:]:
        assert set(group) <= WORKER_KEYS
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {"name", "image", "resources", "volumeMounts"} <= set(container)
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    grace = yaml.safe_load(job["spec"]["runtimeEnvYAML"])["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]
    head = groups[0]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert int(grace) < head, "the pod lives until the last checkpoint is written"


def test_the_rayjob_asks_for_what_its_own_nodes_offer():
    job = yaml.safe_load((DEPLOY / "manifests" / "rayjob.yaml").read_text())
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:5] == ["python", "-m", "oapl", "train", "/shared/recipe.toml"]
    config = load_config(None, words[5:])
    assert config.run.dir.startswith("/"), "under a job the working directory is a temporary copy"
    offered = {}
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        offered |= yaml.safe_load(shlex.split(group["rayStartParams"]["resources"])[0])
    assert (
        offered["learner"] >= config.learner.num_ranks * config.cluster.learner_resources["learner"]
    )
    assert offered["rollout"] >= (
        config.rollout.num_engines * config.cluster.engine_resources["rollout"]
    )


def panels():
    return grafana.board()["panels"]


def test_the_grafana_board_in_the_tree_is_the_one_that_the_command_prints(capsys):
    """`oapl dashboard --grafana > deploy/manifests/grafana.json`"""
    assert main(["dashboard", "--grafana"]) == 0
    assert capsys.readouterr().out == (DEPLOY / "manifests" / "grafana.json").read_text()


def test_every_metric_of_a_board_is_in_the_table():
    shown = [name for panels in BOARD.values() for panel in panels for name in panel.metrics]
    assert [name for name in shown if describe(name) is None and name not in METRICS] == []


def test_patterns_of_a_board_take_what_a_run_writes():
    assert re.fullmatch(pattern("eval/{SET}/mean@n"), "eval/sums/mean@8")
    assert re.fullmatch(pattern("seconds/learner/{STATE}"), "seconds/learner/update")
    assert not re.fullmatch(pattern("eval/{SET}/mean@n"), "eval/sums/mean@8_se")
    assert grafana.expression("reward/mean") == 'ray_oapl_reward_mean{run=~"$run"}'
    asked = grafana.expression("eval/{SET}/mean@n")
    assert asked == '{__name__=~"ray_oapl_eval_.+_mean_at_.+", run=~"$run"}'


def test_the_grafana_board_has_a_row_for_each_side_and_no_two_panels_in_one_place():
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == [
        *("Learning", "OAPL", "Rollouts", "Replay and lag", "Throughput and idle", "Rewards"),
        "Health",
    ]
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert grid["x"] + grid["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())
