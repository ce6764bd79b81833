"""Cases that have a run, or a cluster, of their own: each a script, which says how it went."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.chain import Chain
from tests.chaos.records import Case, GoesOn, Row, Struck

LIMIT_S = 1200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Cases that are scripts.

    Attributes:
        name: Of the plan.
        cases: What they show.
        scripts: The words of each, by the name of its case.
    """

    name: str
    cases: tuple[Case, ...]
    scripts: dict[str, tuple[str, ...]]

    def run(self, due: Sequence[Case], seed: int) -> Iterator[Row]:
        """Run those of the cases; a script asserts that its faults fired."""
        for case in due:
            print(f"{case.name} ...", flush=True)
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, "-m", *self.scripts[case.name]],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT_S,
            )
            said = done.stdout.strip()
            last = said.splitlines()[-1] if said else ""
            yield Row(
                name=case.name,
                outcome="failed" if done.returncode else "ok",
                why=said[-3000:] if done.returncode else "",
                evidence=last,
                resumed_s=round(time.monotonic() - began, 1),
                seed=seed,
                chain=self.name,
            )


def _never(chain: Chain) -> Struck:
    raise AssertionError("a script strikes by itself")


PLAN = Apart(
    name="apart",
    cases=(
        Case(
            name="node-with-engines",
            place="a node with engines",
            fault="is taken away, and comes back",
            injected="its Ray is ended",
            detected_by="Ray",
            within_s=10.0,
            reads="worker 1.0 died",
            loses="no draw",
            goes_on=GoesOn.ALONE,
            strike=_never,
        ),
        Case(
            name="reward-pool-under-load",
            place="workers, fork servers and servers of two reward servers",
            fault="20 times kill -9",
            injected="while 2,000 responses are judged",
            detected_by="the pool, or who asked",
            within_s=10.0,
            loses="no verdict",
            goes_on=GoesOn.ALONE,
            strike=_never,
        ),
        Case(
            name="reward-code-misbehaves",
            place="a reward function of the user's own",
            fault="sleeps, spins in C, forks, takes memory, prints 100 MB, ends its process",
            injected="for some of the prompts",
            detected_by="the pool that runs it",
            within_s=10.0,
            loses="nothing; each of these answers gets reward.on_failure and is counted by kind",
            does="mend the function; reward/function/timeout_rate and error_rate tell of it",
            goes_on=GoesOn.UNHARMED,
            strike=_never,
        ),
        Case(
            name="sweep-killed",
            place="a sweep, in its third run",
            fault="kill -9",
            injected="while that trains",
            detected_by="the shell",
            within_s=10.0,
            loses="the steps since the last checkpoint are made again",
            does="give the same command again",
            goes_on=GoesOn.KILLED,
            strike=_never,
        ),
    ),
    scripts={
        "node-with-engines": ("tests.chaos.nodes",),
        "reward-pool-under-load": ("tests.chaos.rewards",),
        "reward-code-misbehaves": ("tests.chaos.deeds",),
        "sweep-killed": ("tests.chaos.sweeps",),
    },
)
