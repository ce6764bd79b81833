"""A run that drains its engines before a load, whose reference is set anew every 6 steps, and which
stores its groups on a small file system."""

from __future__ import annotations

from tests.chaos.making import BACK, DRAWS, SINCE, cases_of
from tests.chaos.plans.files import full
from tests.chaos.records import GoesOn, Plan
from tests.chaos.strikes import at_place

PLAN = Plan(
    name="draining",
    first_step=9,
    small_disk=160 * 2**20,
    settings=(
        *("run.max_steps=100000", "sync.interval=4", "sync.timeout_s=60", "data.epochs=0"),
        *("sync.in_flight=drain", "replay.max_versions=2", "replay.surplus=1.0"),
        *("objective.name=grpo", "objective.kl_coefficient=0.01", "reference.reset_every=6"),
        *("restarts.worker.max_restarts=1000", "restarts.rank.max_restarts=1000"),
        "tracking.store_groups=all",
    ),
    cases=(
        cases_of("rollout worker")(
            "worker-killed-draining",
            "draining before a load",
            at_place("drain", "kill", most=2),
            detected_by="Ray, which tells the worker's keeper",
            within_s=15.0,
            reads=r"worker \d+\.\d+ died .*; restarting",
            loses=DRAWS,
            goes_on=GoesOn.ALONE,
        ),
        cases_of("learner rank")(
            "rank-killed-in-reset",
            "setting the reference anew",
            at_place("reset", "kill", most=1),
            detected_by="the learner, which asks for it",
            within_s=30.0,
            reads=f"learner rank 0 of 1 died.*{BACK}",
            loses=SINCE,
            goes_on=GoesOn.BACK,
        ),
        full("disk-full-storing", "as groups are stored", at_place("store_groups", "fill_disk")),
    ),
)
