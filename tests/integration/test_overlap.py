"""Neither side waits longer than the durations say: real Ray actors against the simulation."""

import pytest

from tests.overlap.model import Setting, simulate
from tests.overlap.run import measure

pytestmark = pytest.mark.integration

STEPS, STEP_S = 50, 0.3
POINTS = 0.06
"""`make overlap`, alone on the machine, asks for 0.03; here other work may go on beside."""


@pytest.mark.parametrize(
    ("surplus", "max_lead"), [(0.0, 0), (0.1, 10)], ids=["Algorithm 1", "surplus and lead"]
)
async def test_idle_shares_are_those_of_the_simulation(ray_cluster, tmp_path, surplus, max_lead):
    """Without either the learner would idle a sixth of its time, with both nothing."""
    setting = Setting(mean=1, interval=10, surplus=surplus, max_lead=max_lead)
    expected = simulate(setting, STEPS)
    found = await measure(ray_cluster, tmp_path, setting, steps=STEPS, step_s=STEP_S)
    print(f"expected {expected}, found {found}")
    assert found.learner == pytest.approx(expected.learner, abs=POINTS)
    assert found.engine == pytest.approx(expected.engine, abs=POINTS)
    assert found.largest_lag <= setting.interval - 1 + max_lead
