"""The runs that faults are done to, one file each."""

from tests.chaos.plans import changed, draining, engine, imitation, live, removed
from tests.chaos.plans.apart import PLAN as APART
from tests.chaos.plans.apart import Apart

PLANS = (imitation.PLAN, live.PLAN, draining.PLAN, engine.PLAN, changed.PLAN, removed.PLAN, APART)

__all__ = ["APART", "PLANS", "Apart"]
