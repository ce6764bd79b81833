"""pass@k over k: what more tries buy, before and after training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oapl.evaluation import pass_at_k
from oapl.reports._drawing.panels import Curves, Line
from oapl.reports._scores import Column, columns
from oapl.reports._study.answers import Answered
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Panels

DECLARES = About(
    title="pass@k over k",
    section="evaluation",
    place=30,
    reads="Unbiased estimates of the chance that one of k answers is right, from the answers that "
    "the evaluation has kept. Where the line of a trained model falls below the one it began with, "
    "training has bought the first try with the last.",
    like="OAPL Fig. 4, Fig. 5 left",
)
MOST_K = 256
MOST_SETS = 5
AVERAGE = ""
"""In the place of a set: the mean over all."""


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    sets = [AVERAGE, *study.sets[:MOST_SETS]] if len(study.sets) > 1 else list(study.sets)
    found = [one for of in sets if (one := _panel(study, of)) is not None]
    if not found:
        return Absent("these runs have kept no evaluation with two or more answers to a problem")
    return Panels(panels=tuple(found))


def _panel(study: Study, of: str) -> Curves | None:
    lines = [line for one in columns(study) if (line := _line(study, one, of)) is not None]
    if not lines:
        return None
    title = f"pass@k on {of}" if of else "pass@k, mean over the sets"
    ks = "answers to a problem, k"
    return Curves(title=title, x=ks, lines=tuple(lines), scale="log2")


def _line(study: Study, one: Column, of: str) -> Line | None:
    sets = [of] if of else list(study.sets)
    rows = [row for run in one.runs if (row := _of_run(run, sets, one.is_last)) is not None]
    if not rows:
        return None
    length = min(map(len, rows))
    values = np.array([row[:length] for row in rows])
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else None
    return Line(
        label=one.name,
        place=one.place,
        x=2.0 ** np.arange(length),
        y=mean,
        low=None if error is None else mean - error,
        high=None if error is None else mean + error,
        has_points=True,
        is_dashed=not one.is_last,
    )


def _of_run(run: Run, sets: Sequence[str], is_last: bool) -> np.ndarray | None:
    """pass@k for k = 1, 2, 4, ..., mean over the sets, to the k that all of them allow."""
    threshold = float(run.setting("eval.threshold", 1.0))
    rows = []
    for of in sets:
        kept = run.kept(of)
        if not kept:
            return None
        rows.append(estimates(kept[-1 if is_last else 0], threshold))
    length = min(map(len, rows))
    return np.mean([row[:length] for row in rows], axis=0) if length > 1 else None


def estimates(answered: Answered, threshold: float) -> np.ndarray:
    """Estimate pass@k for k = 1, 2, 4, ..., mean over problems.

    Args:
        answered: An evaluation's answers.
        threshold: Smallest reward that is right.

    Returns:
        float64 [K], to the largest k for which every problem has answers.
    """
    counts = []
    for problem in answered.problems:
        rewards = [one["reward"] for one in problem["samples"] if one["reward"] is not None]
        counts.append((len(rewards), sum(reward >= threshold for reward in rewards)))
    most = min((n for n, _ in counts), default=0)
    ks = [2**power for power in range(MOST_K.bit_length()) if 2**power <= min(most, MOST_K)]
    return np.array([np.mean([pass_at_k(n, c, k) for n, c in counts]) for k in ks])
