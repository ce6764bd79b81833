"""A look at a model and at a file of problems: what a recipe for them must know."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.data.context import context_of
from actors.data.encoding import in_chunks
from actors.data.problems import Row
from actors.data.sources import read_problems, read_rows
from actors.data.templates import choose
from actors.data.tokenizer import load_model_config
from oapl.config.sections import DataSection, DataSource
from oapl.errors import InputError
from reward_server.answers import notation, numerals

PROMPTS = ("prompt", "question", "problem", "instruction", "query", "input", "messages")
ANSWERS = ("answer", "final_answer", "expected_answer", "ground_truth", "target", "label", "output")
"""Names of columns, the likeliest first."""
LONG_ANSWER = 12
"""Words: what is longer is prose, which no verifier compares well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A look at the model."""

    path: str
    kind: str
    parameters: int
    context: int
    is_chat: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A look at the data.

    Attributes:
        lengths: Tokens of each prompt as the model will see it, ascending.
        answers: Kind of answer (`number`, `expression`, `words`, `prose`, `puzzle`) to its share.
    """

    path: str
    prompt_key: str
    answer_key: str
    lengths: Sequence[int]
    answers: Mapping[str, float]

    @property
    def verifier(self) -> str:
        """The verifier that suits the answers."""
        return "reasoning_gym" if "puzzle" in self.answers else "math"


def look_at_model(path: str, *, is_chat: bool) -> Model:
    """Kind, size and context, from `config.json` alone.

    Args:
        path: Folder or hub name.
        is_chat: Whether its tokenizer has a chat template.

    Raises:
        InputError: There is none that transformers can read, or it is no language model.
    """
    found = load_model_config(path)
    folder = Path(path).expanduser()
    return Model(
        path=str(folder.absolute()) if folder.is_dir() else path,
        kind=str(found.model_type),
        parameters=_parameters(path, found),
        context=context_of(found),
        is_chat=is_chat,
    )


def _parameters(path: str, config: Any) -> int:
    """Counted on a model without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(config)
    except ValueError as error:
        raise InputError(
            f"model.path = {path!r}: {config.model_type} is no causal language model; give one"
        ) from error
    return sum(parameter.numel() for parameter in empty.parameters())


def look_at_data(path: Path, tokenizer: Any) -> Data:
    """Columns, kinds of answers, and lengths of prompts.

    Args:
        path: JSONL or Parquet.
        tokenizer: The model's.

    Raises:
        InputError: The file cannot be read, or no column looks like a prompt or an answer.
    """
    place = str(path.expanduser().absolute())
    raw = DataSource(name="data", path=place)
    rows = [row for _, row in read_rows(raw)]
    if not rows:
        raise InputError(f"{path} has no rows; give at least one problem")
    source = DataSource(
        name="data",
        path=place,
        prompt_key=_column(path, rows, PROMPTS, "a prompt"),
        answer_key=_column(path, rows, ANSWERS, "a reference answer"),
    )
    template = choose(DataSection(), tokenizer)
    texts = [template.render(problem) for problem in read_problems(source)]
    return Data(
        path=place,
        prompt_key=source.prompt_key,
        answer_key=source.answer_key,
        lengths=sorted(map(len, in_chunks(template.encode, texts))),
        answers=_shares([_kind(row, source.answer_key) for row in rows]),
    )


def _column(path: Path, rows: Sequence[Row], names: Sequence[str], what: str) -> str:
    """The likeliest column that every row has."""
    common = set(rows[0]).intersection(*rows)
    found = next((name for name in names if name in common), None)
    if found is None:
        raise InputError(
            f"{path}: no column that every row has looks like {what}; there are "
            f"{', '.join(rows[0]) or 'none'}; call it {' or '.join(names[:3])}"
        )
    return found


def _kind(row: Row, key: str) -> str:
    if isinstance(row.get("entry"), Mapping) and "metadata" in row["entry"]:
        return "puzzle"
    value = row[key]
    text = str(value[0] if isinstance(value, list) and value else value)
    if "####" in text or "\\boxed" in text:  # the answer stands behind its derivation
        text = text.rpartition("####")[2]
    if numerals.number(notation.clean(text)):
        return "number"
    if len(text.split()) > LONG_ANSWER:
        return "expression" if "\\boxed" in text else "prose"
    return "words" if re.fullmatch(r"[A-Za-z ,.'-]{3,}", text) else "expression"


def _shares(kinds: Sequence[str]) -> dict[str, float]:
    if set(kinds) != {"puzzle"}:  # a scorer needs every row's entry
        kinds = ["words" if kind == "puzzle" else kind for kind in kinds]
    counts = {kind: kinds.count(kind) / len(kinds) for kind in sorted(set(kinds))}
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
