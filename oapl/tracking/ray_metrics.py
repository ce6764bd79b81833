"""The run's metrics as gauges of Ray, and so on the dashboard of a cluster that it joined.

Invariants: nothing is sent unless Ray runs in this process; a gauge carries the run's name as a
tag, so that runs on one cluster stay apart; what Ray raises is reported once and ends no run.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from typing import Any

from oapl.config import RunConfig
from oapl.records import StepMetrics
from oapl.tracking.names import STEP, describe
from oapl.tracking.sink import Sink

PREFIX = "oapl_"
TAG = "run"


def is_wanted(config: RunConfig) -> bool:
    """Whether the run sends its metrics to Ray.

    `auto` is for a cluster that others look at: a run's own Ray has no dashboard.
    """
    asked = config.tracking.ray_metrics
    if config.cluster.mode != "ray":
        return False
    return asked == "on" or (asked == "auto" and bool(config.ray_address))


def gauge_name(metric: str) -> str:
    """Write a metric's name as Prometheus allows it; Ray puts `ray_` before it.

    `eval/sums/pass@8` becomes `oapl_eval_sums_pass_at_8`.
    """
    return PREFIX + re.sub(r"[^a-zA-Z0-9_]+", "_", metric.replace("@", "_at_"))


class RayMetricsSink(Sink):
    """Sets a gauge per metric, made when its name first comes.

    Args:
        run: The run's name, the gauges' tag.
        tell: Is given what Ray raised, once.
    """

    def __init__(self, run: str, tell: Callable[[str], None]) -> None:
        self._run = run
        self._tell: Callable[[str], None] | None = tell
        self._gauges: dict[str, Any] = {}

    def log(self, metrics: StepMetrics) -> None:
        """Set the gauges, while Ray runs here and has refused none."""
        ray = sys.modules.get("ray")
        if self._tell is None or ray is None or not ray.is_initialized():
            return
        try:
            for name, value in {STEP: metrics.step, **metrics.values}.items():
                if math.isfinite(value):
                    self._gauge(name).set(value)
        except Exception as error:  # noqa: BLE001 - whatever Ray raises, the run goes on
            self._tell(f"Ray took no metrics, and gets no more: {type(error).__name__}: {error}")
            self._tell = None

    def _gauge(self, metric: str) -> Any:
        if metric not in self._gauges:
            from ray.util.metrics import Gauge

            known = describe(metric)
            text = f"{known.meaning} ({known.unit})" if known and known.unit else metric
            gauge = Gauge(gauge_name(metric), description=text, tag_keys=(TAG,))
            gauge.set_default_tags({TAG: self._run})
            self._gauges[metric] = gauge
        return self._gauges[metric]
