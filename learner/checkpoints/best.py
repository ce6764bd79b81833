"""Which checkpoint is the best: that with the highest mean over the evaluation sets.

What is known lies in the run folder, `best.json`: the score of every checkpoint that was evaluated,
and of which step the policy in `best/` is. Invariants: what was decided of an evaluation stands,
also where a run that was killed makes it again, since the checkpoint that it replaced may be gone;
of equal ones the earlier is the best.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from oapl.whole_files import written_aside

FILE, FOLDER, LATER = "best.json", "best", "later-best"


class Best:
    """Takes in scores, and says which step is the best so far.

    Args:
        folder: The run's; what was known in it is known again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._scores: dict[int, float] = {}
        self._exported: int | None = None
        if (folder / FILE).is_file():
            known = json.loads((folder / FILE).read_text())
            self._scores = {int(step): score for step, score in known["scores"].items()}
            self._exported = known["exported"]

    @property
    def step(self) -> int | None:
        """The best one; None where none was evaluated."""
        return max(self._scores, key=lambda step: (self._scores[step], -step), default=None)

    @property
    def score(self) -> float | None:
        """Its score."""
        return None if self.step is None else self._scores[self.step]

    def is_exported(self) -> bool:
        """Whether `best/` holds the best one's policy."""
        return self._exported == self.step

    def saw(self, step: int, score: float) -> None:
        """Take in the score of a checkpoint; the first one of a step stands.

        Args:
            step: Of the checkpoint.
            score: See `oapl.evaluation.summary.score_of`.
        """
        if step not in self._scores:
            self._scores[step] = score
            self._write()

    def exported(self) -> None:
        """Note that `best/` holds the best one's policy now."""
        self._exported = self.step
        self._write()

    def go_back(self, step: int) -> int | None:
        """Forget what is later than the step from which the run goes on.

        Args:
            step: Learner steps made.

        Returns:
            The best step, where that was later: what came before it may be gone, so that nothing is
            known any more, and its policy is set aside.
        """
        later = [one for one in self._scores if one > step]
        lost = self.step if self.step in later else None
        if lost is not None:
            self._scores, self._exported = {}, None
            if (self._folder / FOLDER).is_dir():
                shutil.rmtree(self._folder / LATER, ignore_errors=True)
                (self._folder / FOLDER).rename(self._folder / LATER)
        for one in later:
            self._scores.pop(one, None)
        if later:
            self._write()
        return lost

    def _write(self) -> None:
        known = {"scores": self._scores, "best": self.step, "exported": self._exported}
        with written_aside(self._folder / FILE) as part:
            part.write_text(json.dumps(known) + "\n")
