"""A Ray cluster of two nodes on this machine, as `ray start` makes it, and jobs on it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.makers import make_model
from tests.support.run_files import steps

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
HEAD = "127.0.0.2"
START_S = 300
RECIPE = """
[run]
name = "job"
max_steps = 4
[model]
path = "model"
dtype = "float32"
[[data.sources]]
name = "sums"
path = "sums.jsonl"
[rollout]
group_size = 4
max_tokens = 8
[reward]
verifiers = { function = 1.0 }
options.function.function = "mine.py:reward"
[learner]
batch_size = 16
precision = "fp32"
micro_batch_tokens = 1024
row_tokens = 1
[sync]
interval = 2
timeout_s = 600
probe_sequences = 2
[tracking]
wandb = "off"
console_every_s = 0.5
[cluster]
learner_resources = { learner = 1.0 }
engine_resources = { rollout = 1.0 }
"""


def make_project(folder: Path) -> Path:
    """A user's own folder: a recipe with relative paths, a model, data and a reward function."""
    folder.mkdir(parents=True, exist_ok=True)
    make_model(folder / "model")
    rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(10) for b in range(10)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "mine.py").write_text(
        "def reward(prompt, response, reference):\n    return len(set(response)) / 10\n"
    )
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Cluster:
    """Nodes at loopback addresses of their own, ended by their process ids; it asks for a token.

    Attributes:
        address: For `cluster.address`.
        server: For `oapl submit --address`.
        nodes: The commands that started them.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="oapl-ray-", dir="/tmp"))  # sockets: short paths
        port, dashboard, *agents = free_ports(4)
        self.address, self.server = f"{HEAD}:{port}", f"http://{HEAD}:{dashboard}"
        self.token = self.folder / "token"
        self.token.write_text(secrets.token_hex(32))
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._agents = agents
        self._dashboard = dashboard

    def __enter__(self) -> Cluster:
        try:
            self.start("--head", f"--port={self.address.split(':')[1]}", resources={"learner": 1})
            self.start(f"--address={self.address}", resources={"rollout": 1})
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """End all nodes."""
        for node in reversed(self.nodes):
            node.terminate()
        for node in self.nodes:
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(
        self,
        *words: str,
        resources: dict[str, float],
        before: Sequence[str] = (),
        python_path: Path = ROOT,
    ) -> None:
        """`ray start` with one core.

        Args:
            words: Its options.
            resources: Custom ones of the node.
            before: A command in front of it.
            python_path: Where the node finds the code when no job ships it.
        """
        number = len(self.nodes)
        port = self._agents[number] if number < 2 else free_ports(1)[0]
        command = [*before, BIN / "ray", "start", "--block", *words, "--disable-usage-stats"]
        # Not 127.0.0.1, which Ray replaces by the machine's outer address.
        command += [f"--node-ip-address=127.0.0.{number + 2}", "--num-cpus=1", "--num-gpus=0"]
        command += [f"--dashboard-agent-listen-port={port}", "--object-store-memory=100000000"]
        command += [f"--resources={json.dumps(resources)}"]
        if number == 0:
            command += [f"--dashboard-host={HEAD}", f"--dashboard-port={self._dashboard}"]
        # As on machines of their own: in one folder the second node would unpack a job's package
        # anew, and with that remove the folder that the job's driver works in.
        command += [f"--temp-dir={self.folder / str(number)}"]
        log = self.folder / f"node-{number}.log"
        environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(python_path),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token),
        }
        for name in ("RAY_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
            environment.pop(name, None)
        with log.open("wb") as file:
            self.nodes.append(
                subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
            )
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in (text := log.read_text()):
            assert self.nodes[-1].poll() is None, text
            assert time.monotonic() < deadline, f"`ray start` took more than {START_S} s:\n{text}"
            time.sleep(0.1)

    def oapl(self, folder: Path, *words: object) -> Command:
        """`oapl` as somebody runs it who holds the cluster's token."""
        return Command(self, folder, sys.executable, "-m", "oapl", *words)


class Command:
    """A command in a process of its own, in a user's folder."""

    def __init__(self, cluster: Cluster, folder: Path, *words: object) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "RAY_AUTH_TOKEN_PATH": str(cluster.token),
        }
        for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [str(word) for word in words],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self, seconds: float = 600) -> tuple[int, str]:
        """Exit code and output."""
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, output

    def wait_for_step(self, run: Path, step: int, seconds: float = 600) -> None:
        deadline = time.monotonic() + seconds
        while not any(made >= step for made in steps(run)):
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline, f"no step {step} within {seconds} s"
            time.sleep(0.1)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)
