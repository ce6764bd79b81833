"""Neither side waits longer than the durations say: real Ray actors against the simulation."""

import asyncio

import pytest

from tests.overlap.model import Setting, simulate
from tests.overlap.run import measure

pytestmark = pytest.mark.integration

STEPS, STEP_S = 30, 0.8
POINTS = 0.07
"""Half of what the two settings differ by; `make overlap`, alone on the machine, asks for 0.03."""


async def test_idle_shares_are_those_of_the_simulation(ray_cluster, tmp_path):
    """Algorithm 1 lets the learner idle a sixth of its time; surplus and lead next to none."""
    settings = [
        Setting(mean=1, interval=10),
        Setting(mean=1, interval=10, surplus=0.1, max_lead=10),
    ]
    runs = [
        measure(ray_cluster, tmp_path / str(number), setting, steps=STEPS, step_s=STEP_S)
        for number, setting in enumerate(settings)
    ]
    for setting, found in zip(settings, await asyncio.gather(*runs), strict=True):
        expected = simulate(setting, STEPS)
        print(f"expected {expected}, found {found}")
        assert found.learner == pytest.approx(expected.learner, abs=POINTS)
        assert found.engine == pytest.approx(expected.engine, abs=POINTS)
        assert found.largest_lag <= setting.interval - 1 + setting.max_lead
