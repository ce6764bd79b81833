"""What is compared: of each side the answers of one run, or of several seeds, set by set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from deploy.run import stored_answers, text_answers
from deploy.run.evaluation_files import ANSWERS, Made
from oapl.errors import InputError
from oapl.evaluation import Problem
from oapl.evaluation.per_problem import Number
from oapl.groups_file import is_set
from oapl.records import EvalAnswers
from oapl.tracking import history

Key = tuple[str, int]
"""A question's text, and how often it stood in the set before: ids carry the name of a source."""
Values = dict[Key, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be compared.

    Attributes:
        sets, measures: Empty for all, and for the scores.
        threshold: Smallest reward that counts as right; None: as each evaluation says.
        draws: Resamples, and signs.
        seed: Of both.
    """

    sets: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    threshold: float | None = None
    draws: int = 10_000
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SetAnswers:
    """One evaluation of one set.

    Attributes:
        made: How it was made.
        problems: By their key.
    """

    made: Made
    problems: Mapping[Key, Problem]

    @classmethod
    def of(cls, made: Made, answers: Sequence[EvalAnswers]) -> SetAnswers:
        """Tell problems apart by their questions.

        Args:
            made: How it was made.
            answers: One record per problem.
        """
        seen: Counter[str] = Counter()
        problems: dict[Key, Problem] = {}
        for one in answers:
            question = one.prompt.question or one.prompt.text
            problems[question, seen[question]] = Problem.of(one, made.protocol)
            seen[question] += 1
        return cls(made=made, problems=problems)

    def values(self, number: Number, threshold: float | None = None) -> Values:
        """Give the number of each problem that has one.

        Args:
            number: Of a problem.
            threshold: Smallest reward that counts as right, instead of the evaluation's own.
        """
        protocol = self.made.protocol
        if threshold is not None:
            protocol = replace(protocol, threshold=threshold)
        found = {key: number(problem, protocol) for key, problem in self.problems.items()}
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """One evaluation of a model on its sets.

    Attributes:
        place: As it was named.
        label: Of the evaluation, where a run has several.
        sets: By name.
        folder: The run's, whose metrics tell its earlier evaluations; None of answers alone.
    """

    place: Path
    label: str
    sets: Mapping[str, SetAnswers]
    folder: Path | None

    def __str__(self) -> str:
        return f"{self.place}, {self.label}" if self.label else str(self.place)

    def curve(self, name: str, measure: str) -> list[float]:
        """Scores of the run's evaluations since training began; without any, its first one's.

        Args:
            name: Of the set.
            measure: As metrics name it, `mean@8`.
        """
        figure = f"eval/{name}/{measure}"
        rows = list(history.evaluations(self.folder)) if self.folder else []
        found = [
            (step, figures[figure]) for step, figures in rows if figures.get(figure) is not None
        ]
        return [score for step, score in found if step] or [score for _, score in found]


def read(place: Path, label: str = "") -> Run:
    """Read one evaluation.

    Args:
        place: A run folder, a folder of stored sets, one such set, or a file of answers as text.
        label: Of the run's evaluations which; empty: that of its last learner step, else `eval`.

    Raises:
        InputError: There is none, or it is damaged.
    """
    if place.is_file():
        return Run(place=place, label="", sets=_named([text_answers.read(place)]), folder=None)
    if is_set(place):
        return Run(place=place, label="", sets=_named([stored_answers.read(place)]), folder=None)
    if text_answers.labels(place / ANSWERS):  # a run, which may have stored rollouts as well
        return _of_a_run(place, label)
    inside = [path for path in sorted(place.glob("*")) if path.is_dir() and is_set(path)]
    if inside:
        return Run(
            place=place, label="", sets=_named(map(stored_answers.read, inside)), folder=None
        )
    return _of_a_run(place, label)


def _of_a_run(place: Path, label: str) -> Run:
    folder = place / ANSWERS
    there = text_answers.labels(folder)
    if not there:
        raise InputError(
            f"{place} holds no evaluation; name a run folder with {ANSWERS}/, a set of stored "
            f"answers ({ANSWERS}/eval/SET), or a file of answers ({ANSWERS}/LABEL.SET.jsonl)"
        )
    if label and label not in there:
        raise InputError(
            f"--label {label}: {place} has no such evaluation, only {', '.join(there)}"
        )
    steps = [one for one in there if one.startswith("step-")]
    chosen = label or (steps or there)[-1]
    found = [
        stored_answers.read(stored)
        if is_set(stored := folder / chosen / path.name.split(".", 1)[1].removesuffix(".jsonl"))
        else text_answers.read(path)
        for path in text_answers.sets(folder, chosen)
    ]
    return Run(place=place, label=chosen, sets=_named(found), folder=place)


def _named(found: Iterable[tuple[Made, list[EvalAnswers]]]) -> dict[str, SetAnswers]:
    return {made.name: SetAnswers.of(made, answers) for made, answers in found}


def common_sets(a: Sequence[Run], b: Sequence[Run], only: Sequence[str]) -> list[tuple[str, str]]:
    """Pair the sets of both sides by name; where each has one set alone, these two.

    Args:
        a, b: Both sides.
        only: Sets that are asked for; empty for all.

    Returns:
        The set's name on either side.

    Raises:
        InputError: They have none in common, or one that is asked for is not there.
    """
    names_a, names_b = _in_all(a), _in_all(b)
    common = [name for name in names_a if name in names_b]
    if lost := [name for name in only if name not in common]:
        there = ", ".join(common) or "none"
        raise InputError(f"--set {lost[0]}: not a set that both sides have; in common are {there}")
    if common:
        return [(name, name) for name in common if not only or name in only]
    if len(names_a) == len(names_b) == 1:
        return [(names_a[0], names_b[0])]
    raise InputError(
        f"nothing in common: A has the sets {', '.join(names_a) or 'none'}, B "
        f"{', '.join(names_b) or 'none'}; evaluate both on the same, or name one set of each"
    )


def _in_all(runs: Sequence[Run]) -> list[str]:
    return [name for name in runs[0].sets if all(name in run.sets for run in runs)]


def mean_over(runs: Sequence[Run], name: str, values: Callable[[SetAnswers], Values]) -> Values:
    """Average each problem's number over the runs of a side; those that all runs have.

    Args:
        runs: Of the side.
        name: Of the set.
        values: Of one evaluation.
    """
    found = [values(run.sets[name]) for run in runs]
    return {
        key: fmean(one[key] for one in found) for key in found[0] if all(key in f for f in found)
    }
