"""The same question, answered by several checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oapl.reports._drawing.texts import Answer, Question, length
from oapl.reports._study.answers import Answered, Problem
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import About, Absent, Drawing, Texts

DECLARES = About(
    title="Case study: the same question over the run",
    section="samples",
    place=10,
    reads="Questions whose answers have changed most, each with the greedy answer, or the first "
    "sample, of several checkpoints, and its length.",
    like="ReMix Appendix E",
)
NUM_QUESTIONS, NUM_CHECKPOINTS = 3, 4
MOST_RUNS = 4


def draw(study: Study) -> Drawing:
    """See `base.FigureFile`."""
    for of in study.sets:
        for answered in _choices(study, of):
            if found := questions(answered):
                return Texts(questions=tuple(found))
    return Absent("no evaluation set was answered twice by these runs (evaluations/)")


def questions(answered: Sequence[tuple[str, Run, Answered]]) -> list[Question]:
    """Choose questions that all have answered, and put their answers side by side.

    Args:
        answered: Title, run and answers of each checkpoint.
    """
    by_id = [{str(row["id"]): row for row in one.problems} for _, _, one in answered]
    shared = [id for id in by_id[0] if all(id in rows for rows in by_id)]
    ranked = sorted(
        shared, key=lambda id: _change([_answer(rows[id]) for rows in by_id]), reverse=True
    )
    found = []
    for id in ranked[:NUM_QUESTIONS]:
        row = by_id[0][id]
        answers = tuple(
            _told(title, run, rows[id])
            for (title, run, _), rows in zip(answered, by_id, strict=True)
        )
        reference = "" if row.get("answer") is None else str(row["answer"])
        found.append(Question(text=str(row["question"]), reference=reference, answers=answers))
    return found


def _choices(study: Study, of: str) -> list[list[tuple[str, Run, Answered]]]:
    """Checkpoints to compare: those of the first run, or the last ones of several series."""
    several = [
        (series.name, run, kept[-1])
        for series, run in study.firsts[:MOST_RUNS]
        if (kept := run.kept(of))
    ]
    found = [several] if len(several) > 1 else []
    for _, run in study.firsts:
        spread = _spread(run.kept(of))
        if len(spread) > 1:
            found.append([(_title(one), run, one) for one in spread])
    return found


def _title(one: Answered) -> str:
    return f"after step {one.step:,}" if one.step >= 0 else "evaluated apart"


def _spread(kept: Sequence[Answered]) -> list[Answered]:
    """First, last, and some in between."""
    last = len(kept) - 1
    if last < NUM_CHECKPOINTS:
        return list(kept)
    return [kept[round(place * last / (NUM_CHECKPOINTS - 1))] for place in range(NUM_CHECKPOINTS)]


def _answer(row: Problem) -> dict[str, Any]:
    return dict(row.get("greedy") or (row["samples"] or [{}])[0])


def _change(answers: list[dict[str, Any]]) -> tuple[float, float]:
    """How far rewards are apart, then lengths."""
    rewards = [float(one.get("reward") or 0.0) for one in answers]
    lengths = [float(one.get("tokens") or 0.0) for one in answers]
    return max(rewards) - min(rewards), max(lengths) - min(lengths)


def _told(title: str, run: Run, row: Problem) -> Answer:
    one = _answer(row)
    reward = one.get("reward")
    facts = [length(one.get("tokens", 0)), str(one.get("finish_reason", ""))]
    facts.insert(0, "not judged" if reward is None else f"reward {reward:g}")
    threshold = float(run.setting("eval.threshold", 1.0))
    return Answer(
        title=title,
        facts=tuple(filter(None, facts)),
        text=str(one.get("text", "")),
        is_right=None if reward is None else reward >= threshold,
    )
