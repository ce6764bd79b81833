"""Neither side waits longer than the durations say: real Ray actors against the simulation."""

import asyncio

import pytest

from tests.overlap.model import Setting, Shares, simulate
from tests.overlap.run import measure

pytestmark = pytest.mark.integration

STEPS = 30
STEPS_S = (0.4, 0.8, 1.6, 3.2)
"""Lengths of a learner step, tried in turn: of a longer one, what a slow or busy machine adds is a
smaller share, and what the rules make one wait for is the same."""
POINTS = 0.07
"""Half of what the two settings differ by; `make overlap`, alone on the machine, asks for 0.03."""


async def test_idle_shares_are_those_of_the_simulation(ray_cluster, tmp_path):
    """Algorithm 1 lets the learner idle a sixth of its time; surplus and lead next to none."""
    settings = [
        Setting(mean=1, interval=10),
        Setting(mean=1, interval=10, surplus=0.1, max_lead=10),
    ]
    expected = [simulate(setting, STEPS) for setting in settings]
    tried = []
    for step_s in STEPS_S:
        runs = [
            measure(
                ray_cluster, tmp_path / f"{step_s}-{number}", setting, steps=STEPS, step_s=step_s
            )
            for number, setting in enumerate(settings)
        ]
        tried.append(await asyncio.gather(*runs))
        for setting, found in zip(settings, tried[-1], strict=True):
            assert found.largest_lag <= setting.interval - 1 + setting.max_lead
        if all(map(_is_near, tried[-1], expected)):
            return
    pytest.fail(f"expected {expected}, found {tried}")


def _is_near(found: Shares, expected: Shares) -> bool:
    return found.learner == pytest.approx(expected.learner, abs=POINTS) and (
        found.engine == pytest.approx(expected.engine, abs=POINTS)
    )
