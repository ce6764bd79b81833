r"""Mathematical answers, right or wrong.

`mode = "layered"` compares the last answer with the reference by exact rules and, where these do
not decide, by what both mean (`answers.equality`). `mode = "prorl"` is the papers' rule instead: a
string-and-number rule OR math-verify; it accepts more, wrong answers included.
"""

from __future__ import annotations

import logging
import time
from typing import Literal

from oapl.config.fields import section
from oapl.records import Prompt, Rollout, Verdict
from reward_server.answers import equality, notation
from reward_server.verifiers import base

ALARM_S = 2  # alarms count whole seconds
TIMED_OUT = "math-verify ran out of time"
ROUNDING = 12  # digits; its default of 6 takes 0.0000003 for 0.0000004


@section
class Config:
    """Options of the math verifier."""

    mode: Literal["layered", "prorl"] = "layered"
    """layered: exact rules, refusals, math-verify; prorl: a rule or math-verify, either accepts."""
    range: base.Range = "zero_one"
    """Reward of a wrong answer: 0 or -1; a right one gives 1."""
    answer_in: base.AnswerIn = "any"
    r"""Where the answer stands: boxed is \boxed{}, tag is <answer>, any takes the later one of the
    two; hashes is the first line of `#### ...`, as in GSM8K."""
    truncated: base.Truncated = "wrong"
    """A response cut off before EOS: wrong without a look, or judge it by what it says."""


class MathVerifier:
    """Compares the last answer with `reference["answer"]`. See `oapl.interfaces.Verifier`.

    Of a list of references any will do.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def warm(self) -> None:
        """Pay for imports and caches before the workers are forked."""
        equality.warm()
        if self._config.mode == "prorl":
            math_verify_says("x^2-1", "(x-1)(x+1)")

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Compare the response's last answer."""
        same = prorl if self._config.mode == "prorl" else equality.same
        return base.judge_answer(prompt, rollout, self._config, same)


def build(config: Config) -> MathVerifier:
    """See `VerifierFile`."""
    return MathVerifier(config)


def prorl(answer: str, gold: str) -> equality.Answer:
    """Compare by ProRL's rule: equal as strings or as numbers, OR equal to math-verify.

    Args:
        answer: What the response gave, as it was written.
        gold: The reference, as it was written.

    Source: ProRL (arXiv 2507.12507), section 2.1: the rule of DeepScaleR or math-verify. The rule
    here is this project's own reading of strings and numbers, not that repository's code.
    """
    if len(answer) > max(equality.MAX_LENGTH, 4 * len(gold)):
        return False, f"{len(answer)} characters long"
    said, wanted = notation.read(answer), notation.read(gold)
    if said.text and (equality.by_number(said, wanted) or equality.by_text(said, wanted)):
        return True, "rule"
    return math_verify_says(said.text, wanted.text)


def math_verify_says(answer: str, gold: str) -> equality.Answer:
    """Give math-verify's own verdict, gold first.

    It swallows its own alarms, so that a comparison that took so long is known by its time.

    Args:
        answer: The response's, as `notation.read` spells it.
        gold: The reference's, spelled so too.

    Source: the package math-verify, version 0.9, `math_verify.verify`.
    """
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it repeats the whole answer
    started = time.monotonic()
    wanted, said = (
        math_verify.parse(
            rf"\boxed{{{text}}}",
            extraction_config=[math_verify.LatexExtractionConfig()],
            parsing_timeout=ALARM_S,
        )
        for text in (gold, answer)
    )
    is_right = math_verify.verify(
        wanted,
        said,
        float_rounding=ROUNDING,
        allow_set_relation_comp=True,
        timeout_seconds=ALARM_S,
    )
    if not is_right and time.monotonic() - started >= ALARM_S:
        return None, TIMED_OUT
    return is_right, "math-verify"


DECLARES = base.Traits(
    runs_programs=False,
    check_prompt=lambda config, prompt: base.golds(prompt),
    text_alone=lambda config, prompt: list(filter(equality.is_text_alone, base.golds(prompt))),
    warm=MathVerifier.warm,
)
