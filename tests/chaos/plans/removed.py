"""A run whose folder is taken away: what is gone cannot be resumed from."""

from __future__ import annotations

import shutil
import time

from tests.chaos.chain import Chain
from tests.chaos.making import cases_of
from tests.chaos.records import GoesOn, Plan, Strike, Struck


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
        cases_of("the run folder")(
            "folder-removed",
            "",
            Strike("is removed", "while the run trains", _remove),
            detected_by="whoever writes first",
            within_s=60.0,
            reads="failed: StorageError: the run folder .* is gone",
            loses="all that was in it",
            does="restore it; else the same command goes on from what was saved since, or begins "
            "afresh",
            is_cut=True,
            goes_on=GoesOn.ENDS,
        ),
    ),
)
