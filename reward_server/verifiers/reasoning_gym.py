"""Puzzles of reasoning-gym, scored by the library's own scorer: continuous in [0, 1].

Nine of its scorers hand the model's text to `eval` or to sympy's `parse_expr`, which is `eval`
too. Their answers must be a plain expression or a literal before the scorer sees them, and the
worker process is jailed; where there is no jail they are refused unless `allow_unsafe` is set.
Scorers that raise on a bad answer (boxnet, prime_factorization) give 0, counted `error`.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from oapl.config.fields import section
from oapl.errors import InputError
from oapl.records import Prompt, Rollout, Verdict, VerdictKind
from reward_server.verifiers import base

MAX_ANSWER_BYTES = 4096  # propositional_logic takes seconds on 300 kB
EVALUATES_LITERAL = frozenset({"string_insertion", "spiral_matrix", "binary_matrix", "n_queens"})
EVALUATES_EXPRESSION = frozenset(
    {
        "countdown",
        "puzzle24",
        "simple_integration",
        "intermediate_integration",
        "polynomial_multiplication",
    }
)
UNSAFE = EVALUATES_LITERAL | EVALUATES_EXPRESSION
NEEDS_TUPLES = frozenset({"arc_agi", "rearc"})  # JSON made lists of their boards

_NAMES = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "sec",
        "csc",
        "cot",
        "asin",
        "acos",
        "atan",
        "arcsin",
        "arccos",
        "arctan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "exp",
        "log",
        "ln",
        "sqrt",
        "pi",
        "Abs",
        "abs",
        "E",
        "erf",
        "Ei",
        "Si",
        "Ci",
    ]
)
_EXPRESSION = re.compile(r"[0-9A-Za-z+\-*/^().,\s]*")
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z]")
_NO_CALLS = re.compile(r"[\w\s]*")


@section
class Config:
    """Options of the reasoning-gym verifier."""

    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Scores up to this count as 0: some tasks give 0.01 to 0.1 for any wrong answer."""
    answer_in: base.AnswerIn = "any"
    r"""Where the answer stands: boxed is \boxed{}, tag is <answer>, any takes the later one."""
    truncated: base.Truncated = "wrong"
    """A response cut off before EOS: 0 without a look, or judge it by what it says."""
    allow_unsafe: bool = False
    """Score the nine tasks that evaluate the model's text even where there is no sandbox."""


class ReasoningGymVerifier:
    """Scores the answer to a puzzle of reasoning-gym. See `oapl.interfaces.Verifier`.

    The puzzle is `reference["entry"]`, an item of a data set of the library.

    The task's name is `reference["task"]` or the entry's `metadata.source_dataset`.
    """

    def __init__(self, config: Config) -> None:
        import reasoning_gym

        self._config = config
        self._find = functools.cache(reasoning_gym.get_score_answer_fn)
        self._level = "none"

    def start(self, level: str) -> None:
        """Learn how far the jail holds."""
        self._level = level

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Score the response's last answer."""
        entry, task, score = self._puzzle(prompt)
        cut = base.cut_off(rollout, self._config.truncated, 0.0)
        if cut:
            return cut
        answer = base.answer_of(prompt, rollout, self._config.answer_in)
        if answer is None or not answer:
            detail = base.no_answer(prompt, rollout, self._config.answer_in)
            return Verdict(kind="malformed", reward=0.0, detail=detail)
        if len(answer.encode(errors="replace")) > MAX_ANSWER_BYTES:
            return Verdict(kind="wrong_answer", reward=0.0, detail="longer than 4 kB")
        if not is_inert(task, answer):
            return Verdict(kind="malformed", reward=0.0, detail=f"not plain: {answer[:80]!r}")
        return self._verdict(score, answer, entry)

    def _verdict(
        self, score: Callable[..., float], answer: str, entry: Mapping[str, Any]
    ) -> Verdict:
        try:
            reward = float(score(answer, entry))
        except Exception as error:  # noqa: BLE001 - counted: a bad answer may break its scorer
            detail = f"{type(error).__name__}: {error}"[:200]
            return Verdict(kind="error", reward=0.0, detail=detail)
        reward = min(reward, 1.0) if reward > self._config.floor else 0.0
        kind: VerdictKind = "accepted" if reward == 1.0 else "wrong_answer"
        return Verdict(kind=kind, reward=reward, detail=f"{reward:.3g} for {answer[:80]!r}")

    def _puzzle(self, prompt: Prompt) -> tuple[Mapping[str, Any], str, Callable[..., float]]:
        entry = entry_of(prompt)
        task = prompt.reference.get("task") or entry["metadata"].get("source_dataset")
        if task in UNSAFE and self._level == "none" and not self._config.allow_unsafe:
            raise InputError(
                f"the scorer of {task} evaluates the model's text, and this machine has no sandbox "
                "(Landlock, Linux 5.13); leave the task out, or accept the risk with "
                "reward.options.reasoning_gym.allow_unsafe = true"
            )
        try:
            score = self._find(task)
        except ValueError as error:
            raise InputError(
                f"prompt {prompt.id}: {task!r} is no reasoning-gym task; set `task` in its "
                "reference or metadata.source_dataset in its entry"
            ) from error
        return _with_tuples(entry) if task in NEEDS_TUPLES else entry, task, score


def entry_of(prompt: Prompt) -> Mapping[str, Any]:
    """The puzzle of a prompt.

    Raises:
        InputError: It has none.
    """
    entry = prompt.reference.get("entry")
    if not isinstance(entry, Mapping) or not isinstance(entry.get("metadata"), Mapping):
        raise InputError(
            f"prompt {prompt.id} has no reasoning-gym entry in its reference; it needs a "
            "column `entry` with question, answer and metadata"
        )
    return entry


def build(config: Config) -> ReasoningGymVerifier:
    """See `VerifierFile`."""
    return ReasoningGymVerifier(config)


def is_inert(task: str, answer: str) -> bool:
    """Tell whether evaluating an answer can do nothing but compute.

    Expressions: numbers, operators, one-letter names and known functions, no attribute access.
    Literals: what `ast.literal_eval` reads, or words, in which no call can stand.

    Args:
        task: reasoning-gym's name of it; one that evaluates nothing takes any answer.
        answer: What its scorer would be handed.
    """
    if task in EVALUATES_EXPRESSION:
        names = re.findall(r"[A-Za-z]+", answer)
        return (
            bool(_EXPRESSION.fullmatch(answer))
            and not _ATTRIBUTE.search(answer)
            and all(len(name) == 1 or name in _NAMES for name in names)
        )
    if task in EVALUATES_LITERAL and not _NO_CALLS.fullmatch(answer):
        try:
            ast.literal_eval(answer)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return False
    return True


def _with_tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    board = entry["metadata"]["output"]
    metadata = {**entry["metadata"], "output": tuple(tuple(row) for row in board)}
    return {**entry, "metadata": metadata}


DECLARES = base.Traits(runs_programs=False, check_prompt=lambda config, prompt: entry_of(prompt))
