"""A run that drains its engines before a load, and whose reference is set anew every 6 steps."""

from __future__ import annotations

from tests.chaos.plans.live import BACK, DIED, DRAWS, INSIDE, SINCE
from tests.chaos.records import Case, GoesOn, Plan
from tests.chaos.strikes import at_place

PLAN = Plan(
    name="draining",
    first_step=9,
    settings=(
        *("run.max_steps=100000", "sync.interval=4", "sync.timeout_s=60", "data.epochs=0"),
        *("sync.in_flight=drain", "replay.max_versions=2", "replay.surplus=1.0"),
        *("objective.name=grpo", "objective.kl_coefficient=0.01", "reference.reset_every=6"),
        *("restarts.worker.max_restarts=1000", "restarts.rank.max_restarts=1000"),
    ),
    cases=(
        Case(
            name="worker-killed-draining",
            place="rollout worker, draining before a load",
            fault="kill -9",
            injected=INSIDE,
            detected_by="Ray, which tells the worker's keeper",
            within_s=15.0,
            reads=DIED,
            loses=DRAWS,
            goes_on=GoesOn.ALONE,
            strike=at_place("drain", "kill", most=2),
        ),
        Case(
            name="rank-killed-in-reset",
            place="learner rank, setting the reference anew",
            fault="kill -9",
            injected=INSIDE,
            detected_by="the learner, which asks for it",
            within_s=30.0,
            reads=f"learner rank 0 of 1 died.*{BACK}",
            loses=SINCE,
            goes_on=GoesOn.BACK,
            strike=at_place("reset", "kill"),
        ),
    ),
)
