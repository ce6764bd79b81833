"""Problems become prompts: template, tokens, and what happens to those that are too long.

A prompt may have as many tokens as a context leaves beside the longest response. Nothing is lost
silently: what was dropped or cut is counted per source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from actors.data.problems import Problem
from actors.data.templates import Template
from oapl.errors import InputError
from oapl.records import Prompt

T = TypeVar("T")
Overlong = Literal["drop", "truncate", "error"]

CHUNK = 1000
"""Texts per call of the tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowCounts:
    """What became of the rows of one source.

    Attributes:
        read: Rows in the source.
        dropped, truncated: Rows left out, and rows cut, because they were too long.
        longest: Tokens of the longest prompt that was kept.
        unrated: Rows beside these whose pass rate the source does not ask for, or that have none.
    """

    read: int
    dropped: int = 0
    truncated: int = 0
    longest: int = 0
    unrated: int = 0

    def __str__(self) -> str:
        notes = [f"{self.read - self.dropped} of {self.read} prompts"]
        notes += [f"{self.unrated} rows of other pass rates"] if self.unrated else []
        notes += [f"{self.dropped} dropped as too long"] if self.dropped else []
        notes += [f"{self.truncated} cut to fit"] if self.truncated else []
        return ", ".join([*notes, f"the longest has {self.longest} tokens"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Prompts in the order of their problems, and the counts of their source.

    Attributes:
        prompts: The id is `source:index`; a draw adds `@epoch`.
        problems: The problem of each prompt.
    """

    prompts: tuple[Prompt, ...]
    problems: tuple[Problem, ...]
    counts: RowCounts


def encode(
    problems: Sequence[Problem],
    template: Template,
    *,
    room: int,
    overlong: Overlong,
    verifiers: Mapping[str, float],
    unrated: int = 0,
) -> Encoded:
    """Write the problems of one source as prompts.

    Args:
        problems: At least one.
        template: How they are written.
        room: Most tokens of a prompt.
        overlong: What to do with a longer one; `truncate` cuts the question from the right.
        verifiers: Verifier name to weight.
        unrated: Rows that were left out before; see `RowCounts`.

    Raises:
        InputError: A prompt is too long under `error`, or none is left.
    """
    texts = [template.render(problem) for problem in problems]
    ids = in_chunks(template.encode, texts)
    prompts, kept, truncated = [], [], 0
    for problem, text, tokens in zip(problems, texts, ids, strict=True):
        if len(tokens) > room:
            _demand(overlong != "error", problem, len(tokens), room)
            shorter = _cut(problem, template, room) if overlong == "truncate" else None
            if shorter is None:
                continue
            text, tokens = shorter
            truncated += 1
        prompts.append(_prompt(problem, text, tokens, verifiers))
        kept.append(problem)
    if not prompts:
        raise InputError(
            f"source {problems[0].source!r}: none of its {len(problems)} prompts fits; the "
            f"shortest has {min(map(len, ids))} tokens, and the longest response leaves {room} of "
            "the context; lower max_tokens or raise rollout.context_tokens"
        )
    counts = RowCounts(
        read=len(problems),
        dropped=len(problems) - len(prompts),
        truncated=truncated,
        longest=max(len(prompt.token_ids) for prompt in prompts),
        unrated=unrated,
    )
    return Encoded(prompts=tuple(prompts), problems=tuple(kept), counts=counts)


def in_chunks(call: Callable[[Sequence[str]], list[T]], texts: Sequence[str]) -> list[T]:
    """Call over all texts, some at a time: one batch of all would need several times the room.

    Args:
        call: Gives an item per text.
        texts: Any number.
    """
    return [
        item for start in range(0, len(texts), CHUNK) for item in call(texts[start : start + CHUNK])
    ]


def _prompt(
    problem: Problem, text: str, tokens: Sequence[int], verifiers: Mapping[str, float]
) -> Prompt:
    if not len(tokens):
        raise InputError(
            f"{problem.place}: the prompt {text!r} has no tokens: the tokenizer knows none of its "
            "characters; use the model's own tokenizer"
        )
    return Prompt(
        id=f"{problem.source}:{problem.index}",
        text=text,
        token_ids=np.asarray(tokens, dtype=np.int32),
        verifiers=verifiers,
        reference=problem.reference,
        source=problem.source,
        question=problem.question,
    )


def _cut(problem: Problem, template: Template, room: int) -> tuple[str, list[int]] | None:
    """The prompt with the end of its question cut off, the template whole; None if that is not
    enough."""
    tokenizer = template.tokenizer
    words = tokenizer(problem.question, add_special_tokens=False, verbose=False)["input_ids"]
    length = len(words)
    while length > 0:
        shorter = problem.with_question(tokenizer.decode(words[:length]).rstrip())
        text = template.render(shorter)
        tokens = template.encode([text])[0]
        if len(tokens) <= room:
            return (text, tokens) if shorter.question else None
        length -= len(tokens) - room
    return None


def _demand(holds: bool, problem: Problem, length: int, room: int) -> None:
    if not holds:
        raise InputError(
            f"{problem.place}: the prompt has {length} tokens, but the longest response leaves "
            f"{room} of the context; lower max_tokens, raise rollout.context_tokens, or set "
            'data.overlong = "drop" or "truncate"'
        )
