"""A run whose folder is taken away: what is gone cannot be resumed from."""

from __future__ import annotations

import shutil
import time

from tests.chaos.chain import Chain
from tests.chaos.records import Case, GoesOn, Plan, Struck


def _remove(chain: Chain) -> Struck:
    at = time.time()
    shutil.rmtree(chain.folder, ignore_errors=True)
    is_gone = not (chain.folder / "config.toml").exists()
    return Struck(evidence="config.toml is gone" if is_gone else "", at=at)


PLAN = Plan(
    name="removed",
    imitates=True,
    settings=("run.max_steps=100000", "sync.interval=10", "sync.timeout_s=45"),
    cases=(
        Case(
            name="folder-removed",
            place="the run folder",
            fault="is removed",
            injected="while the run trains",
            detected_by="whoever writes first",
            within_s=60.0,
            reads="failed: StorageError: the run folder .* is gone",
            loses="all that was in it",
            does="restore it; else the same command begins afresh",
            goes_on=GoesOn.ENDS,
            strike=_remove,
        ),
    ),
)
