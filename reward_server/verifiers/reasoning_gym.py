"""Puzzles of reasoning-gym, scored by the library's own scorer: continuous in [0, 1].

Nine of its scorers hand the model's text to `eval` or to sympy's `parse_expr`, which is `eval`
too. Their answers must be a plain expression or a literal before the scorer sees them, and the
worker process is jailed; where there is no jail they are refused unless `allow_unsafe` is set.
Scorers that raise on a bad answer (boxnet, prime_factorization) make it `malformed`. What each task
pays for wrong answers is in `puzzles/tasks.csv`; `strict` pays none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from oapl.config.fields import section
from oapl.errors import InputError, first_line
from oapl.records import Prompt, Rollout, Verdict, VerdictKind
from reward_server.puzzles import scorers, strict, tasks
from reward_server.puzzles.inert import UNSAFE, is_inert
from reward_server.puzzles.scorers import Puzzle, Scorers
from reward_server.verifiers import base

MAX_ANSWER_BYTES = 4096  # propositional_logic takes seconds on 300 kB


@section
class Config:
    """Options of the reasoning-gym verifier."""

    strict: bool = False
    """1 for a right answer and 0 for any other: no part of a score counts, nor full marks that the
    library gives to wrong answers."""
    floor: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Scores up to this count as 0: some tasks give 0.01 to 0.1 for any wrong answer."""
    task_options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By task the options that its puzzles were made with, for rows without a column `options`."""
    answer_in: base.AnswerIn = "any"
    r"""Where the answer stands: boxed is \boxed{}, tag is <answer>, any takes the later one of the
    two; hashes is the first line of `#### ...`, as in GSM8K."""
    truncated: base.Truncated = "wrong"
    """A response cut off before EOS: 0 without a look, or judge it by what it says."""
    allow_unsafe: bool = False
    """Score the nine tasks that evaluate the model's text even where there is no sandbox."""


class ReasoningGymVerifier:
    """Scores the answer to a puzzle of reasoning-gym. See `oapl.interfaces.Verifier`.

    The puzzle is `reference["entry"]`, an item of a data set of the library, or the columns
    `metadata` and `answer`; `reference["options"]` are those of the data set. The task's name is
    `reference["task"]` or the entry's `metadata.source_dataset`.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._scorers = Scorers()
        self._level = "none"

    def warm(self) -> None:
        """Pay for imports and for what scorers read before the workers are forked."""
        self._scorers.warm()

    def start(self, level: str) -> None:
        """Learn how far the jail holds."""
        self._level = level

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Score the response's last answer."""
        puzzle = scorers.puzzle_of(prompt, self._config.task_options)
        self._refuse_unsafe(puzzle.task)
        score = self._scorers.score(puzzle)
        cut = base.cut_off(rollout, self._config.truncated, 0.0)
        if cut:
            return cut
        answer = base.answer_of(prompt, rollout, self._config.answer_in)
        if answer is None or not answer:
            detail = base.no_answer(prompt, rollout, self._config.answer_in)
            return Verdict(kind="malformed", reward=0.0, detail=detail)
        if len(answer.encode(errors="replace")) > MAX_ANSWER_BYTES:
            return Verdict(kind="wrong_answer", reward=0.0, detail="longer than 4 kB")
        if not is_inert(puzzle.task, answer):
            return Verdict(kind="malformed", reward=0.0, detail=f"not plain: {answer[:80]!r}")
        return self._verdict(score, answer, puzzle)

    def _verdict(self, score: scorers.Score, answer: str, puzzle: Puzzle) -> Verdict:
        try:
            given = float(score(answer, puzzle.entry))
        except Exception as error:  # noqa: BLE001 - it gave right answers full marks before
            detail = f"{type(error).__name__}: {first_line(error)} for {answer[:80]!r}"[:200]
            return Verdict(kind="malformed", reward=0.0, detail=detail)
        reward = min(given, 1.0) if given > self._config.floor else 0.0
        if self._config.strict:
            reward = float(strict.is_right(puzzle.task, answer, puzzle.entry, given))
        kind: VerdictKind = "accepted" if reward == 1.0 else "wrong_answer"
        return Verdict(kind=kind, reward=reward, detail=f"{given:.3g} for {answer[:80]!r}")

    def _refuse_unsafe(self, task: str) -> None:
        if task in UNSAFE and self._level == "none" and not self._config.allow_unsafe:
            raise InputError(
                f"the scorer of {task} evaluates the model's text, and this machine has no sandbox "
                "(Landlock, Linux 5.13); leave the task out, or accept the risk with "
                "reward.options.reasoning_gym.allow_unsafe = true"
            )


def build(config: Config) -> ReasoningGymVerifier:
    """See `VerifierFile`."""
    return ReasoningGymVerifier(config)


def check(config: Config) -> None:
    """Refuse a floor under scores of which none but the highest counts.

    Raises:
        InputError: Both are set.
    """
    if config.strict and config.floor:
        raise InputError(
            f"reward.options.reasoning_gym.floor = {config.floor:g} changes nothing where strict "
            "is on, which gives 1 or 0; leave one of them out"
        )


def notes(config: Config, prompts: Sequence[Prompt]) -> list[str]:
    """Name the tasks in use whose scorers pay wrong answers, unless `strict` is on.

    Args:
        config: Whether it is.
        prompts: That will be judged; those without a puzzle are refused elsewhere.
    """
    if config.strict:
        return []
    used = {task for prompt in prompts if (task := scorers.task_of(prompt))}
    text = tasks.warning(used)
    return [text] if text else []


def check_prompt(config: Config, prompt: Prompt) -> None:
    """Refuse a prompt without a puzzle.

    Args:
        config: May hold the options of its task.
        prompt: To be judged.

    Raises:
        InputError: It has none, or one that cannot be read.
    """
    scorers.puzzle_of(prompt, config.task_options)


DECLARES = base.Traits(
    runs_programs=False,
    check=check,
    notes=notes,
    check_prompt=check_prompt,
    warm=ReasoningGymVerifier.warm,
    start=ReasoningGymVerifier.start,
)
