"""What of an evaluation has been answered and judged, problem by problem, while it goes on.

    evaluations/LABEL.part/SET      a header, then a record per problem

Invariants: a record is whole or absent, however the process ends that writes it; answers of another
model, of other problems or of other settings are never taken for these; what nobody could judge is
asked again. The log is there for as long as its evaluation is not whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from actors.data.ordering import digest_of
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.evaluation import Protocol
from oapl.records import EvalAnswers, Prompt
from oapl.remote import plain_pickles
from oapl.weight_files import fingerprint_of

DIGEST_BYTES, SIZE_BYTES = 16, 8
OF_REWARDS = ("verifiers", "options", "on_failure")
Recipe = Mapping[str, Any]
"""What decides about the answers, as JSON holds it."""


def recipe_of(config: RunConfig, questions: Sequence[Prompt], protocol: Protocol) -> Recipe:
    """Tell what the answers of a set are made of.

    Args:
        config: The run: its model, engine and verifiers.
        questions: The set's problems, as the model sees them.
        protocol: How they are answered.
    """
    made_of = {
        "weights": fingerprint_of(Path(config.model.path)) or config.model.path,
        "model.dtype": config.model.dtype,
        "endpoint": config.eval.endpoint,
        "run.seed": config.run.seed,
        "questions": digest_of(questions),
        "verifiers": [dict(prompt.verifiers) for prompt in questions],
        "sampling": asdict(protocol.sampling),
        "answers": [protocol.num_samples, protocol.greedy],
        **{f"reward.{key}": getattr(config.reward, key) for key in OF_REWARDS},
    }
    read: Recipe = json.loads(json.dumps(made_of, default=str))
    return read


class AnswerLog:
    """Takes in answers; see `opened`.

    Args:
        file: Open for appending.
        answers: Those that are there, by the prompt's id.

    Attributes:
        answers: As given, when it was opened.
    """

    def __init__(self, file: IO[bytes], answers: Mapping[str, EvalAnswers]) -> None:
        self._file = file
        self.answers = dict(answers)

    def add(self, answers: EvalAnswers) -> None:
        """Append the answers of a problem: they are in the system's hands when this returns.

        Args:
            answers: To one prompt.

        Raises:
            InputError: What the prompt's reference holds would not be read again.
        """
        try:
            content = plain_pickles.dumps(answers)
        except plain_pickles.Refused as error:
            raise InputError(
                f"the answers to {answers.prompt.id} cannot be kept: {error}; where a column of "
                "the data holds it, make text of it"
            ) from error
        self._file.write(_record(content))
        self._file.flush()


@contextlib.contextmanager
def opened(folder: Path, label: str, name: str, recipe: Recipe) -> Iterator[AnswerLog]:
    """Go on with the log of a set, or begin it anew where what is there is of another recipe.

    Args:
        folder: Of the evaluations.
        label: The evaluation's.
        name: The set's.
        recipe: From `recipe_of`.
    """
    path = _folder(folder, label) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    header = _record(json.dumps(recipe, sort_keys=True).encode())
    there = path.read_bytes() if path.is_file() else b""
    answers: dict[str, EvalAnswers] = {}
    end = len(header) if there.startswith(header) else 0
    for ends_at, found in _whole(there, end) if end else ():
        end = ends_at
        if _is_judged(found):
            answers[found.prompt.id] = found
    with path.open("r+b" if end else "w+b") as file:
        file.truncate(end)  # a record that was cut off, and all that is not ours
        file.seek(end)
        if not end:
            file.write(header)
        yield AnswerLog(file, answers)


def remove(folder: Path, label: str) -> None:
    """Let go of an evaluation that is whole.

    Args:
        folder: Of the evaluations.
        label: The evaluation's.
    """
    shutil.rmtree(_folder(folder, label), ignore_errors=True)


def _folder(folder: Path, label: str) -> Path:
    return folder / f"{label}.part"


def _record(content: bytes) -> bytes:
    digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
    return len(content).to_bytes(SIZE_BYTES, "big") + digest + content


def _whole(there: bytes, start: int) -> Iterator[tuple[int, EvalAnswers]]:
    """Give each whole record behind `start`, with the place where it ends."""
    head = SIZE_BYTES + DIGEST_BYTES
    while len(there) >= start + head:
        size = int.from_bytes(there[start : start + SIZE_BYTES], "big")
        content = there[start + head : start + head + size]
        if there[start : start + head + size] != _record(content):
            return
        try:
            found = plain_pickles.loads(content)
        except Exception:  # noqa: BLE001  of a build with other records: it is asked again
            return
        start += head + size
        yield start, found


def _is_judged(answers: EvalAnswers) -> bool:
    judged = (*answers.judgements, answers.greedy_judgement)
    return all(judgement is None or judgement.failure is None for judgement in judged)
