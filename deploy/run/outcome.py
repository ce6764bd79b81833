"""How a run ended, or that it had ended before."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.records import Metrics
from oapl.tracking import history, status

BY_STEPS = "run.max_steps"
"""Why a run, or a stage, has ended that made all its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """How a run ended, or a stage of it.

    Attributes:
        folder: The run folder; the trained model lies under `model/`.
        step: Learner steps made, in the whole run.
        made: Those of the last stage; of a run without stages all.
        ended: Why nothing is left to do; empty where something is.
        signal: Number of the signal that stopped it, 0 when it was done.
        before, after: Evaluations at the start and at the end.
        phases: Seconds by phase.
        next: What the same command does after a run that was stopped.
        was_done: It had been done before, and nothing was left to do.
    """

    folder: Path
    step: int
    made: int = 0
    ended: str = ""
    signal: int = 0
    before: Metrics = field(default_factory=dict)
    after: Metrics = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)
    next: str = ""
    was_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """How a generation ended.

    Attributes:
        folder: Of the groups.
        groups, total: That are there, of the whole.
        tokens, seconds: Response tokens that were stored since all was started last, and the time
            from the first hand-out of a prompt then to the last whole shard.
        signal: Number of the signal that stopped it; 0 where none did.
        cause: Why the first draw failed that did; empty where none did.
    """

    folder: Path
    groups: int
    total: int
    tokens: int = 0
    seconds: float = 0.0
    signal: int = 0
    cause: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether all groups are there."""
        return self.groups >= self.total


def earlier_outcome(config: RunConfig, resume: Path | None) -> RunOutcome | None:
    """Tell the end of a run that has made all its steps, saved its model and evaluated it.

    Args:
        config: The run.
        resume: The checkpoint that it would go on from.

    Returns:
        None where something is left to do.
    """
    folder = config.folder
    if resume is None or resume.parent != folder / "checkpoints":
        return None
    found, step = status.read(folder), resuming.step_of(resume)
    is_done = found is not None and found.phase == status.DONE
    if not is_done or step < config.run.max_steps or not (folder / "model").is_dir():
        return None
    return RunOutcome(
        folder=folder,
        step=step,
        made=step,
        ended=BY_STEPS,
        before=history.first_evaluation(folder),
        after=history.last_evaluation(folder),
        was_done=True,
    )
