"""The tables of an evaluation, made of its stored answers: as it ends, and at any time after.

Invariant: the figures are those that the evaluation itself has given; nothing is generated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.run import evaluation_files, stored_answers
from deploy.run.evaluation_files import ANSWERS, Made
from deploy.run.rejudging import rejudged
from oapl import groups_file
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.evaluation import LengthBin, Problem, by_length, edges_to, score_of, summarise
from oapl.groups_file import is_set
from oapl.records import EvalAnswers, Metrics
from oapl.sampling import protocol_of
from oapl.tracking.evaluation_tables import categories_table, lengths_table, measures_table


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSet:
    """The answers to one evaluation set, read back.

    Attributes:
        folder: Where they lie.
        made: How they were made.
        answers: One record per problem.
    """

    folder: Path
    made: Made
    answers: Sequence[EvalAnswers]

    @property
    def metrics(self) -> Metrics:
        """The figures of the set."""
        found = summarise(self.made.name, self.answers, self.made.protocol)
        name = f"eval/{self.made.name}/unjudged"
        lost = self.made.unjudged + found.get(name, 0.0)
        return found | ({name: lost} if lost else {})

    @property
    def lengths(self) -> list[LengthBin]:
        """Accuracy by response length."""
        protocol = self.made.protocol
        problems = [Problem.of(answers, protocol) for answers in self.answers]
        return by_length(problems, edges_to(protocol.sampling.max_tokens), protocol.threshold)


def read(folder: Path) -> list[StoredSet]:
    """Read the sets of an evaluation.

    Args:
        folder: A set, a folder of sets (`RUN/evaluations/eval`), or a run with one such folder.

    Raises:
        InputError: There are none, or one is damaged.
    """
    sets = []
    for place in _sets_in(folder):
        made, answers = stored_answers.read(place)
        sets.append(StoredSet(folder=place, made=made, answers=answers))
    return sets


def judged_again(sets: Sequence[StoredSet], config: RunConfig) -> list[StoredSet]:
    """Judge the answers of sets once more.

    Args:
        sets: Read before.
        config: See `deploy.run.rejudging.rejudged`.

    Raises:
        InputError: A verifier cannot be used.
    """
    judged = rejudged(config, [one.answers for one in sets])
    return [replace(one, answers=answers) for one, answers in zip(sets, judged, strict=True)]


def measured_by(sets: Sequence[StoredSet], config: RunConfig) -> list[StoredSet]:
    """Measure sets by other settings: ks, threshold, category, words; the answers stay.

    Args:
        sets: Read before.
        config: Names them among its `eval.sources`; others stay as they are.

    Raises:
        InputError: A protocol does not exist.
    """
    named = {source.name: source for source in config.eval.sources}
    return [
        _measured_by(one, config, named[one.made.name]) if one.made.name in named else one
        for one in sets
    ]


def _measured_by(one: StoredSet, config: RunConfig, source: Any) -> StoredSet:
    said = protocol_of(config, source)
    protocol = replace(
        one.made.protocol,
        ks=said.ks,
        threshold=said.threshold,
        category=said.category,
        reflection_words=said.reflection_words,
    )
    return replace(one, made=replace(one.made, protocol=protocol))


def write(sets: Sequence[StoredSet], out: Path) -> None:
    """Write sets as they are now, each into a folder of its name.

    Args:
        sets: To be written.
        out: A folder that is not there yet.

    Raises:
        InputError: It is there.
    """
    if out.exists():
        raise InputError(f"--out {out}: is there already; name another folder")
    for one in sets:
        header = groups_file.header(one.folder)
        lost = Made.of(one.made.name, one.made.protocol, one.answers).unjudged
        made = replace(one.made, unjudged=one.made.unjudged + lost)
        stored_answers.store(out / one.made.name, header, one.answers, made)


def figures(sets: Sequence[StoredSet]) -> Metrics:
    """Give the figures of all sets, and of several the mean of their scores, `eval/score`."""
    metrics: Metrics = {}
    for one in sets:
        metrics |= one.metrics
    score = score_of(metrics)
    return metrics | ({"eval/score": score} if len(sets) > 1 and score is not None else {})


def show(sets: Sequence[StoredSet], console: Console) -> None:
    """Print the tables of an evaluation.

    Args:
        sets: Of the evaluation.
        console: Where to.
    """
    metrics = figures(sets)
    console.print(measures_table(metrics))
    for line in evaluation_files.told({one.made.name: one.made.protocol for one in sets}):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if (table := categories_table(metrics)) is not None:
        console.print(table)
    console.print(lengths_table({one.made.name: one.lengths for one in sets}))


def as_json(sets: Sequence[StoredSet]) -> str:
    """The same as JSON: protocols, figures, accuracy by length."""
    table = {
        "protocols": {one.made.name: one.made.protocol.to_json() for one in sets},
        "metrics": figures(sets),
        "by_length": {
            one.made.name: [
                {"low": b.low, "high": b.high, "count": b.count, "accuracy": b.accuracy}
                for b in one.lengths
            ]
            for one in sets
        },
    }
    return json.dumps(table, indent=1)


def _sets_in(folder: Path) -> list[Path]:
    if is_set(folder):
        return [folder]
    inside = sorted(path for path in folder.glob("*") if path.is_dir() and is_set(path))
    if inside:
        return inside
    labels = [path for path in sorted((folder / ANSWERS).glob("*")) if path.is_dir()]
    if len(labels) == 1:
        return _sets_in(labels[0])
    found = f"; name one of {', '.join(str(path) for path in labels)}" if labels else ""
    raise InputError(
        f"{folder} holds no stored answers{found or '; name RUN/evaluations/eval, as oapl eval '}"
        f"{'' if found else 'writes it, or a set in it (a training run: with eval.store_groups)'}"
    )
