"""Which gauges of Ray a line of metrics becomes; the real export is in the integration tests."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from oapl.config import RunConfig
from oapl.records import StepMetrics
from oapl.tracking import ray_metrics
from oapl.tracking.ray_metrics import RayMetricsSink, gauge_name


def config(**sections: Any) -> RunConfig:
    return RunConfig(**sections)


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, float]]:
    """A Ray that runs; gauge name to the run's tag and last value."""
    seen: dict[str, tuple[str, float]] = {}

    class Gauge:
        def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
            assert name not in seen, "made once"
            self._name, self._keys = name, tag_keys

        def set_default_tags(self, tags: dict[str, str]) -> None:
            assert tuple(tags) == self._keys
            self._tag = tags["run"]

        def set(self, value: float) -> None:
            seen[self._name] = (self._tag, value)

    ray: Any = ModuleType("ray")
    ray.is_initialized = lambda: True
    metrics: Any = ModuleType("ray.util.metrics")
    metrics.Gauge = Gauge
    for name, module in (("ray", ray), ("ray.util", ModuleType("u")), (metrics.__name__, metrics)):
        monkeypatch.setitem(sys.modules, name, module)
    return seen


def test_names_are_what_prometheus_allows():
    assert gauge_name("reward/mean") == "oapl_reward_mean"
    assert gauge_name("eval/my-set/pass@8") == "oapl_eval_my_set_pass_at_8"


def test_each_finite_number_is_a_gauge_with_the_runs_name(gauges: dict[str, Any]):
    sink = RayMetricsSink("r", print)
    sink.log(StepMetrics(step=1, values={"reward/mean": 0.5, "policy/grad_norm": float("nan")}))
    sink.log(StepMetrics(step=2, values={"reward/mean": 0.75}))
    assert gauges == {"oapl_step": ("r", 2), "oapl_reward_mean": ("r", 0.75)}


def test_a_ray_that_fails_is_reported_once_and_left_alone(gauges: dict[str, Any]):
    said: list[str] = []
    sink = RayMetricsSink("r", said.append)
    sink.log(StepMetrics(step=1, values={"reward/mean": "no number"}))  # type: ignore[dict-item]
    sink.log(StepMetrics(step=2, values={"reward/mean": 0.5}))
    assert len(said) == 1
    assert said[0].startswith("Ray took no metrics, and gets no more: TypeError")
    assert "oapl_reward_mean" not in gauges


def test_auto_means_a_cluster_that_the_run_joins():
    assert not ray_metrics.is_wanted(config())
    assert ray_metrics.is_wanted(config(cluster={"address": "auto"}))
    assert ray_metrics.is_wanted(config(tracking={"ray_metrics": "on"}))
    off = config(cluster={"address": "auto"}, tracking={"ray_metrics": "off"})
    assert not ray_metrics.is_wanted(off)
