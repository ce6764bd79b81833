"""A run's checkpoints: when one is due, what is in it, and how a run goes on from one.

Invariants: a checkpoint is taken between two iterations, when no group is leased and no publication
is under way; one that is written beside training is of the moment at which it was begun, and is
none before all of it is on disk; one is written at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path

from learner.checkpoints import contents, digests, origin, snapshots
from learner.deciders import Deciders
from learner.publication import Publications
from learner.ranks import Ranks
from learner.scores import Scores
from oapl.config import RunConfig
from oapl.errors import DeadlineError
from oapl.interfaces import Batches
from oapl.remote.waiting import within

NEVER = -1
DEAR, FEW = 0.05, 3
"""Share of the time from which saving beside training is worth its memory, and how many saves are
too few to say so."""


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
        self._timeout_s = config.sync.timeout_s
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
        self._began = time.monotonic()
        self._took: list[float] = []  # seconds of each
        self._under_way: tuple[Path, int] | None = None  # where, and of how many steps of the run
        self._committing: asyncio.Task[Path] | None = None
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
        assert self._under_way is None, "one is written at a time"
        part = await self._write(step)
        return await self._commit(part, self._first + step)

    def took(self, seconds: float) -> None:
        """Note for how long the learner stood still for one."""
        self._took.append(seconds)

    def dear(self) -> str:
        """Say so where checkpoints have taken much of the time so far; else empty."""
        share = sum(self._took) / max(time.monotonic() - self._began, 1e-9)
        if share <= DEAR or len(self._took) < FEW:
            return ""
        return (
            f"{len(self._took)} checkpoints have taken {share:.0%} of the time: save less often "
            "(checkpoint.every_syncs), or beside training (checkpoint.beside = true)"
        )

    async def begin(self, step: int) -> None:
        """Copy all that one holds, and write the ranks' part beside training; `look` ends it.

        Args:
            step: Learner steps of this stage.
        """
        assert self._under_way is None, "one is written at a time"
        part = await self._write(step, beside=True)
        self._under_way = (part, self._first + step)

    async def look(self, step: int) -> Path | None:
        """See whether the one that is written beside training is whole.

        Args:
            step: Learner steps made; named in errors.

        Returns:
            The checkpoint, once, in the call that finds it whole.

        Raises:
            RankError: A rank could not write it.
        """
        if self._under_way is None:
            return None
        if self._committing is None:
            calls = [trainer.saved() for trainer in self._ranks.trainers]
            if not all(await self._ranks.gather(calls, "a checkpoint beside training", step)):
                return None
            self._begin_commit()
        return self._found()

    async def settle(self, step: int) -> Path | None:
        """Wait for the one that is written beside training; see `look`.

        Raises:
            DeadlineError: It was not on disk within `sync.timeout_s`.
        """
        if self._under_way is None:
            return None
        if self._committing is None:
            calls = [trainer.saved(waits=True) for trainer in self._ranks.trainers]
            if not all(await self._ranks.gather(calls, "a checkpoint beside training", step)):
                raise DeadlineError(
                    f"the learner's ranks have not written {self._under_way[0]} within "
                    f"{self._timeout_s:g} s (sync.timeout_s); raise it, or set "
                    "checkpoint.beside = false"
                )
        part, _ = self._under_way
        committing = asyncio.shield(self._committing or self._begin_commit())
        await within(self._timeout_s, committing, f"{part} to reach the disk, with its digests")
        return self._found()

    def _begin_commit(self) -> asyncio.Task[Path]:
        assert self._under_way is not None, "somebody has written it"
        self._committing = asyncio.create_task(self._commit_beside(*self._under_way))
        return self._committing

    def _found(self) -> Path | None:
        committing = self._committing
        if committing is None or not committing.done():
            return None
        self._committing = self._under_way = None
        return committing.result()

    async def close(self) -> None:
        """Leave nothing running; what is not whole by now will not be."""
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.gather(self._committing, return_exceptions=True)

    async def _write(self, step: int, *, beside: bool = False) -> Path:
        """Everything into a place aside: a consistent cut, of which the ranks may still write."""
        total = self._first + step
        await self._deciders.kept.before_checkpoint(total)
        part = snapshots.begin(self._folder, total)
        how = (True,) if beside else ()
        saves = [trainer.save(part / "trainer", *how) for trainer in self._ranks.trainers]
        await self._ranks.gather(saves, "a checkpoint", step)
        replay = await self._replay.snapshot()
        contents.write_pickle(part / contents.REPLAY, replay)
        await self._publications.save(part, step)
        origin.write(part, self._origins)
        numbers = {
            "step": step,
            contents.GROUP_SIZES: contents.group_sizes(replay),
            **self._publications.state(),
        }
        contents.write_state(part, {**numbers, **self._deciders.state(), **self._scores.state()})
        self._saved_at, self._saved_step = time.monotonic(), step
        return part

    async def _commit_beside(self, part: Path, total: int) -> Path:
        await asyncio.to_thread(digests.write, part / "trainer")
        return await self._commit(part, total)

    async def _commit(self, part: Path, total: int) -> Path:
        path = await asyncio.to_thread(snapshots.commit, part, total)
        section, spared = self._section, self._deciders.kept.spared
        await asyncio.to_thread(
            snapshots.prune, self._folder, section.keep, spared, section.keep_every_hours
        )
        self.last = path
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
