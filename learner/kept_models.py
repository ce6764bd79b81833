"""Policies that a run keeps beside its last one, as transformers and vLLM load them: the best, one
of each pass over the data, one of each checkpoint.

Invariant: what is written comes before the checkpoint that follows it, so that a run which was
killed while it wrote does so again.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

from learner.checkpoints.best import FOLDER, Best
from oapl.config import RunConfig
from oapl.evaluation import score_of
from oapl.records import Metrics, State
from oapl.whole_files import written_aside

MODELS = "models"
"""Folder of the run's that holds them, but for the best."""
CANDIDATE = "candidate-step-"
"""Begins the name of one whose evaluation goes on beside training: nobody knows yet whether it is
the best, and the learner has gone on."""


class KeptModels:
    """Sees evaluations, iterations and checkpoints, and writes the policy where it is to be kept.

    Args:
        config: The run's.
        save: Writes the present policy into a folder.
        tell: Takes a line for the person who watches.
        folder: Where they lie, and what is known of the best: the run's, or the stage's.
    """

    def __init__(
        self,
        config: RunConfig,
        save: Callable[[Path], Awaitable[None]],
        tell: Callable[[str], None],
        *,
        folder: Path,
    ) -> None:
        self._which = config.checkpoint.models
        self._folder = folder
        self._save = save
        self._tell = tell
        self._best = Best(folder) if config.checkpoint.keep_best else None
        self._awaited: set[int] = set()
        self._passes = 0

    @property
    def spared(self) -> frozenset[int]:
        """Steps whose checkpoints stay, however old they are."""
        best = self._best.step if self._best else None
        return frozenset(self._awaited if best is None else {best, *self._awaited})

    def begins(self, step: int) -> None:
        """Forget what a run that ends later has left here.

        Args:
            step: Learner steps made before.
        """
        lost = self._best.go_back(step) if self._best else None
        if lost is not None:
            self._tell(
                f"the best checkpoint, step {lost}, is later than step {step}, from which the run "
                "goes on: the best is that from here on"
            )

    def saw_evaluation(self, step: int, metrics: Metrics) -> None:
        """Take in the figures of a checkpoint's evaluation; the start is none.

        Args:
            step: Learner steps of what was evaluated.
            metrics: Of all sets.
        """
        score = score_of(metrics)
        if self._best and step and score is not None:
            self._best.saw(step, score)

    async def evaluated(self, step: int) -> None:
        """Write the policy where it is the best one, which it still is.

        Args:
            step: Learner steps made, none since the evaluation.
        """
        if self._best and self._best.step == step and not self._best.is_exported():
            await self._save(self._folder / FOLDER)
            self._tell_of_the_best(self._best)

    async def before_scores(self, step: int) -> None:
        """Write the policy aside where its scores will come when the learner has gone on.

        Args:
            step: Learner steps made; the start is no candidate.
        """
        if self._best and step:
            self._awaited.add(step)
            await self._save(self._candidate(step))

    async def after_scores(self, step: int) -> None:
        """Make a policy that was written aside the best one, or let go of it.

        Args:
            step: Whose scores have come, or will not.
        """
        self._awaited.discard(step)
        candidate = self._candidate(step)
        if not self._best or not candidate.is_dir():
            return
        if self._best.step == step and not self._best.is_exported():
            with written_aside(self._folder / FOLDER) as part:
                candidate.rename(part)
            self._tell_of_the_best(self._best)
        else:
            await asyncio.to_thread(shutil.rmtree, candidate)

    async def awaits(self, step: int | None) -> None:
        """Go on with the candidates of a run that was stopped.

        Args:
            step: The one whose scores are still to come; None: of none.
        """
        for candidate in sorted(self._folder.glob(f"{CANDIDATE}*")):
            found = int(candidate.name.removeprefix(CANDIDATE))
            if found == step:
                self._awaited.add(found)
            else:
                await self.after_scores(found)

    def _candidate(self, step: int) -> Path:
        return self._folder / f"{CANDIDATE}{step}"

    def _tell_of_the_best(self, best: Best) -> None:
        best.exported()
        self._tell(f"step {best.step} is the best so far, mean {best.score:.4f}: {FOLDER}/")

    async def iterated(self, metrics: Metrics) -> None:
        """Write the policy where a pass over the data has ended.

        Args:
            metrics: Of what batches are taken from, between two iterations.
        """
        passes = int(metrics.get("data/epoch", 0.0))
        if self._which == "epochs" and passes > self._passes:
            await self._save(self._folder / MODELS / f"epoch-{passes}")
        self._passes = max(passes, self._passes)

    async def before_checkpoint(self, step: int) -> None:
        """Write the policy of a checkpoint where all are kept.

        Args:
            step: Of the checkpoint.
        """
        if self._which == "all":
            await self._save(self._folder / MODELS / f"step-{step}")

    def state(self) -> State:
        """What decides which pass ends next."""
        return {"passes": self._passes}

    def restore(self, state: State) -> None:
        """Go on from what `state` gave; of an earlier build from nothing."""
        self._passes = state.get("passes", 0)
