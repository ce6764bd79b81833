"""Metrics over a real Ray: what the node's own endpoint shows, which dashboards read."""

import time
import urllib.request

import pytest

from oapl.records import StepMetrics
from oapl.tracking.ray_metrics import RayMetricsSink

pytestmark = pytest.mark.integration
DEADLINE_S = 300.0


def test_the_nodes_endpoint_shows_the_runs_reward(ray_cluster):
    said = []
    RayMetricsSink("my-run", said.append).log(StepMetrics(step=7, values={"reward/mean": 0.625}))
    port = ray_cluster.nodes()[0]["MetricsExportPort"]
    deadline, lines = time.monotonic() + DEADLINE_S, []
    while len(lines) < 2:
        assert time.monotonic() < deadline, f"no gauge at port {port}; the sink said {said}"
        time.sleep(0.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            shown = answer.read().decode().splitlines()
        lines = [
            line for line in shown if line.startswith(("ray_oapl_reward_mean{", "ray_oapl_step{"))
        ]
    assert said == []
    for line in lines:
        assert 'run="my-run"' in line
    assert {float(line.split()[-1]) for line in lines} == {0.625, 7.0}
