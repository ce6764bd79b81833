"""Cases that have a run, or a cluster, of their own: each a script, which says how it went."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.making import AGAIN, KILLED, SINCE, by_itself, cases_of
from tests.chaos.records import Case, GoesOn, Row

LIMIT_S = 1200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """Cases that are scripts.

    Attributes:
        name: Of the plan.
        cases: What they show.
        scripts: Module and arguments of each, by the name of its case.
    """

    name: str
    cases: tuple[Case, ...]
    scripts: dict[str, str]

    def run(self, due: Sequence[Case], seed: int) -> Iterator[Row]:
        """Run those of the cases; a script asserts that its faults fired."""
        for case in due:
            print(f"{case.name} ...", flush=True)
            began = time.monotonic()
            said, code = _said(self.scripts[case.name])
            yield Row(
                name=case.name,
                outcome="failed" if code else "ok",
                why=said[-3000:] if code else "",
                evidence=said.splitlines()[-1] if said else "",
                resumed_s=round(time.monotonic() - began, 1),
                seed=seed,
                chain=self.name,
            )


def _said(script: str) -> tuple[str, int]:
    """What a script has printed, and its exit code."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", *script.split()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout or b""
        return f"{said.decode() if isinstance(said, bytes) else said}\n{error}".strip(), 1
    return done.stdout.strip(), done.returncode


STORED = "once some groups are stored"
_generation = cases_of("`oapl generate`", loses="no draw; what is in no whole shard is made again")
PLAN = Apart(
    name="apart",
    cases=(
        cases_of("a node with engines")(
            "node-with-engines",
            "",
            by_itself("is taken away, and comes back", "its Ray is ended"),
            detected_by="Ray",
            loses="no draw",
            goes_on=GoesOn.ALONE,
        ),
        cases_of("the node of the learner")(
            "node-with-the-learner",
            "",
            by_itself("kill -9 of all that runs there", "it comes back after 20 s"),
            detected_by="Ray",
            loses=SINCE,
            goes_on=GoesOn.BACK,
        ),
        cases_of("two reward servers")(
            "reward-pool-under-load",
            "they, their fork servers and workers",
            by_itself("20 times kill -9", "while 2,000 responses are judged"),
            detected_by="the pool, or who asked",
            loses="no verdict",
            goes_on=GoesOn.ALONE,
        ),
        cases_of("a reward function of the user's own")(
            "reward-code-misbehaves",
            "",
            by_itself(
                "sleeps, spins in C, forks, takes memory, prints 100 MB, ends its process",
                "for some of the prompts",
            ),
            detected_by="the pool that runs it",
            loses="nothing; each of these answers gets reward.on_failure and is counted by kind",
            does="mend the function; reward/function/timeout_rate and error_rate tell of it",
            goes_on=GoesOn.UNHARMED,
        ),
        _generation(
            "generation-queue-killed",
            "its prompt queue",
            by_itself("kill -9", STORED),
            detected_by="whoever asks it, or the pulse",
            loses="no draw; what it had not been given yet is made again",
            goes_on=GoesOn.BACK,
        ),
        _generation(
            "generation-worker-killed",
            "its rollout worker",
            by_itself("kill -9", STORED),
            detected_by="Ray, which tells the worker's keeper",
            goes_on=GoesOn.ALONE,
        ),
        _generation(
            "generation-reward-killed",
            "its reward server",
            by_itself("kill -9", STORED),
            detected_by="the pulse, which asks it every 5 s",
            goes_on=GoesOn.ALONE,
        ),
        _generation(
            "generation-stopped-twice",
            "the command",
            by_itself("SIGTERM twice", STORED),
            detected_by="the command",
            does=AGAIN,
            goes_on=GoesOn.STOPS,
        ),
        _generation(
            "generation-disk-full",
            "the run folder's file system",
            by_itself("full", STORED),
            detected_by="whoever writes first",
            does=AGAIN,
            goes_on=GoesOn.ENDS,
        ),
        cases_of("a sweep", **KILLED)(
            "sweep-killed", "in its third run", by_itself("kill -9", "while that trains")
        ),
    ),
    scripts={
        "node-with-engines": "tests.chaos.nodes",
        "node-with-the-learner": "tests.chaos.learner_node",
        "reward-pool-under-load": "tests.chaos.rewards",
        "reward-code-misbehaves": "tests.chaos.deeds",
        "generation-queue-killed": "tests.chaos.generations queue",
        "generation-worker-killed": "tests.chaos.generations worker",
        "generation-reward-killed": "tests.chaos.generations reward",
        "generation-stopped-twice": "tests.chaos.generations twice",
        "generation-disk-full": "tests.chaos.generations disk",
        "sweep-killed": "tests.chaos.sweeps",
    },
)
