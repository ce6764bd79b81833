"""A run's checkpoints: when one is due, what is in it, and how a run goes on from one.

Invariant: a checkpoint is taken between two iterations, when no group is leased and no publication
is under way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path

from learner.checkpoints import contents, origin, snapshots
from learner.deciders import Deciders
from learner.publication import Publications
from learner.ranks import Ranks
from learner.scores import Scores
from oapl.config import RunConfig
from oapl.interfaces import Batches

NEVER = -1


class Saving:
    """Saves and restores all that affects the next step.

    Args:
        config: The run's.
        ranks, replay, publications, scores, deciders: Whose state it is.
        first: Learner steps before this stage.

    Attributes:
        last: The checkpoint that was written or restored last.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        ranks: Ranks,
        replay: Batches,
        publications: Publications,
        scores: Scores,
        deciders: Deciders,
        first: int,
    ) -> None:
        self._section = config.checkpoint
        self._folder = config.folder / "checkpoints"
        self._origins = origin.origins_of(config)
        self._ranks = ranks
        self._replay = replay
        self._publications = publications
        self._scores = scores
        self._deciders = deciders
        self._first = first
        self._saved_at = time.monotonic()
        self._saved_step = NEVER
        self.last: Path | None = None

    def is_due(self, step: int) -> bool:
        """Whether one is due at the end of a period, every `checkpoint.every_syncs` of them."""
        every = self._section.every_syncs
        is_due = bool(every) and self._publications.num_periods(step) % every == 0
        return is_due and step > 0 and step != self._saved_step

    def is_overdue(self) -> bool:
        """Whether the last one is older than `checkpoint.max_minutes`."""
        minutes = self._section.max_minutes
        return bool(minutes) and time.monotonic() - self._saved_at > 60 * minutes

    async def save(self, step: int) -> Path:
        """Write one; see `snapshots` for what a killed save does.

        Args:
            step: Learner steps of this stage.

        Returns:
            The checkpoint, `step-N`.
        """
        total, kept = self._first + step, self._deciders.kept
        await kept.before_checkpoint(total)
        part = snapshots.begin(self._folder, total)
        saves = [trainer.save(part / "trainer") for trainer in self._ranks.trainers]
        await self._ranks.gather(saves, "a checkpoint", step)
        contents.write_pickle(part / contents.REPLAY, await self._replay.snapshot())
        await self._publications.save(part, step)
        origin.write(part, self._origins)
        numbers = {"step": step, **self._publications.state()}
        contents.write_state(part, {**numbers, **self._deciders.state(), **self._scores.state()})
        path = await asyncio.to_thread(snapshots.commit, part, total)
        snapshots.prune(self._folder, self._section.keep, kept.spared)
        self._saved_at, self._saved_step, self.last = time.monotonic(), step, path
        return path

    async def restore(self, path: Path) -> int:
        """Go on from a checkpoint, in new processes.

        Returns:
            Learner steps of this stage that were made then.

        Raises:
            CheckpointError: The ranks' part is damaged or of another run's shape, or the rest is of
                another version of oapl. See `resuming.verify` for all of it.
        """
        state = contents.read_state(path)
        replay = contents.read_pickle(path / contents.REPLAY)
        loads = [trainer.load(path / "trainer") for trainer in self._ranks.trainers]
        await self._ranks.gather(loads, "the checkpoint", 0)
        await self._replay.restore(replay)
        step: int = state["step"]
        self._saved_step, self.last = step, path
        self._deciders.restore(state, step)
        snapshots.set_aside(self._folder, self._first + step)
        await self._publications.restore(path, state, step)
        await self._scores.restore(state, step, self._publications.served)
        return step

    async def take_over(self, path: Path, keeps: Collection[str]) -> bool:
        """Begin a stage with what the one before ended with; see `LearnerGroup.take_over`."""
        contents.read_state(path)
        of_ranks = [part for part in keeps if part != "data"]
        if of_ranks:
            calls = [t.take_over(path / "trainer", of_ranks) for t in self._ranks.trainers]
            await self._ranks.gather(calls, "the stage before to be taken over", 0)
        if "data" not in keeps:
            return True
        return await self._replay.take_over(contents.read_pickle(path / contents.REPLAY))
