"""How often what died is started again, and after what pause: a worker, and the whole run.

Two policies of one form: a worker's place is given up when its workers die again and again, the run
when its learner ranks fail too often. Pure: counts and times in, decisions out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from oapl.config import RunConfig

GOOD_WORK_S = 300.0
"""A worker that lived so long did not die of its start, which takes less: its place has all its
restarts again."""
LONGEST_PAUSE_S = 30.0
"""Between two starts of a worker that dies again and again: long against what a start in vain
costs the machine, short against what the run loses while the cause is already gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """What is done about deaths in a row.

    Attributes:
        max_restarts: Deaths in a row that are followed by another start.
        setting: The key that says so, for messages.
        forgiven_after_s: A life longer than this ends the row of the deaths before it.
        longest_pause_s: A start waits for at most so long; the pauses double from 1 s.
    """

    max_restarts: int
    setting: str
    forgiven_after_s: float = math.inf
    longest_pause_s: float = 0.0

    def deaths_after(self, deaths: int, lived_s: float) -> int:
        """Count the deaths in a row when one has died.

        Args:
            deaths: In a row before it.
            lived_s: From its start to its death.
        """
        return 1 if lived_s > self.forgiven_after_s else deaths + 1

    def gives_up(self, deaths: int) -> bool:
        """Whether so many deaths in a row are too many for another start."""
        return deaths > self.max_restarts

    def pause_s(self, deaths: int) -> float:
        """How long the next start waits after so many deaths in a row.

        A first death is bad luck; later ones may have a cause that needs time to go away.
        """
        return min(2 ** (deaths - 2), self.longest_pause_s) if deaths > 1 else 0.0


def of_a_worker(config: RunConfig) -> RestartPolicy:
    """The policy for the workers of one place."""
    return RestartPolicy(
        max_restarts=config.cluster.max_worker_restarts,
        setting="cluster.max_worker_restarts",
        forgiven_after_s=GOOD_WORK_S,
        longest_pause_s=LONGEST_PAUSE_S,
    )


def of_the_run(config: RunConfig) -> RestartPolicy:
    """The policy for everything together, which starts again when a learner rank has failed.

    Every failure counts, however well the run went before it, for the limit is one of cost: each
    restart trains again from the last checkpoint. A pause is not needed: to end and to start all
    processes takes longer than one would.
    """
    return RestartPolicy(max_restarts=config.run.max_restarts, setting="run.max_restarts")
