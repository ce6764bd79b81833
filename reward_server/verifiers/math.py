r"""Mathematical answers: an exact layer of our own, then math-verify on the answer alone.

The layer answers what is a matter of spelling or of exact arithmetic (integers cost 0.03 ms),
refuses what pays a guesser (lists against one gold value, towers, factorials, unevaluated sums),
and closes the known holes of math-verify 0.9: rounding at six digits, anagrams, number bases and
letter case. What is left is compared symbolically, under math-verify's own alarms.

`mode = "rule_or_math_verify"` is the papers' rule instead: a string-and-number rule OR math-verify
(ProRL section 2.1); it accepts more, wrong answers included.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from oapl.config import section
from oapl.errors import InputError
from oapl.records import Prompt, Rollout, Verdict, VerdictKind
from reward_server import notation
from reward_server.verifiers import base

MAX_LENGTH = 1000
MAX_DEPTH = 25
ALARM_S = 2  # math-verify's alarms count whole seconds, per parse and per comparison
TIMED_OUT = "math-verify ran out of time"
ROUNDING = 12  # digits; its default of 6 takes 0.0000003 for 0.0000004

_COSTLY = {
    "a factorial": r"!(?!=)",
    "an integral": r"\\i{1,3}nt(?![a-zA-Z])|\\oint",
    "a product": r"\\prod(?![a-zA-Z])",
    "a sum": r"\\sum(?![a-zA-Z])",
    "a limit": r"\\lim(?![a-zA-Z])",
    "a binomial": r"\\[dt]?binom(?![a-zA-Z])|\\choose",
    "a large exponent": r"\^ ?[{(]? ?-?\d{4,}",
    "a plus-minus": r"\\[pm]{2}(?![a-zA-Z])",
    "a tower": r"\^ ?(?:\{[^{}]*\}|\([^()]*\)|\\?\w+) ?\^|\^ ?\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\^",
}
_REFUSED = {name: re.compile(pattern) for name, pattern in _COSTLY.items()}
_BASED = re.compile(r"([0-9a-zA-Z]+) ?_ ?\{? ?(\d+|[a-z]+) ?\}?")
_WORDS = re.compile(r"[(\[]?[A-Za-z][A-Za-z' \-]*[)\].:]?")
_CHOICE = re.compile(r"\(?([A-Ja-j])[).:]?|\(([A-Ja-j])\)")
_LEFT_SIDE = re.compile(r"(?:\\?[a-zA-Z]+(?:_\{?\w+\}?)?|[a-zA-Z]+ ?\([a-zA-Z0-9, ]*\)|\|[A-Z]+\|)")
_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")
_ARITHMETIC = re.compile(r"(?:[\d\s.,+\-*/^(){}]|\\(?:cdot|times|div|frac|sqrt)(?![a-zA-Z]))+")
_OPERATION = re.compile(r"[+*]|\\(?:cdot|times|div)|(?<=[\d)}]) ?-")


@section
class Config:
    """Options of the math verifier."""

    mode: Literal["layered", "rule_or_math_verify"] = "layered"
    """layered: exact layer, refusals, math-verify; rule_or_math_verify: the papers' OR."""
    range: Literal["zero_one", "minus_one_one"] = "zero_one"
    """Reward of a wrong answer: 0 or -1; a right one gives 1."""
    answer_in: base.AnswerIn = "any"
    r"""Where the answer stands: boxed is \boxed{}, tag is <answer>, any takes the later one."""
    truncated: base.Truncated = "wrong"
    """A response cut off before EOS: wrong without a look, or judge it by what it says."""


class MathVerifier:
    """Compares the last answer with `reference["answer"]` (of a list, any element will do)."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._wrong = -1.0 if config.range == "minus_one_one" else 0.0

    def warm(self) -> None:
        """Fill the parsers' caches, so that the first answer is not the slow one."""
        compare(r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}")

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        cut = base.cut_off(rollout, self._config.truncated, self._wrong)
        if cut:
            return cut
        answer = base.answer_of(prompt, rollout, self._config.answer_in)
        if answer is None or not answer:
            return Verdict(kind="malformed", reward=self._wrong, detail="no box and no answer tag")
        for gold in golds(prompt):
            is_right, why = self._judge(answer, gold)
            if is_right:
                return Verdict(kind="accepted", reward=1.0, detail=why)
        kind: VerdictKind = "timeout" if why == TIMED_OUT else "wrong_answer"
        return Verdict(kind=kind, reward=self._wrong, detail=f"{answer[:80]!r}: {why}")

    def _judge(self, answer: str, gold: str) -> tuple[bool, str]:
        if self._config.mode == "rule_or_math_verify":
            return rule_or_math_verify(answer, gold)
        return layered(answer, gold)


def build(options: Mapping[str, Any]) -> MathVerifier:
    return MathVerifier(base.parse(Config, options, "reward.options.math"))


def golds(prompt: Prompt) -> list[str]:
    """The reference answers of a prompt.

    Raises:
        InputError: It has none.
    """
    answer = prompt.reference.get("answer")
    several = answer if isinstance(answer, list | tuple) else [answer]
    texts = [str(gold) for gold in several if gold is not None and str(gold).strip()]
    if not texts:
        raise InputError(
            f"prompt {prompt.id} has no reference answer, but the math verifier needs one; "
            f"its reference has {', '.join(map(str, prompt.reference)) or 'nothing'}"
        )
    return [_gold(text) for text in texts]


def _gold(text: str) -> str:
    text = text.rpartition("####")[2]
    box = base.boxed(text)
    return box[1] if box else text


def layered(answer: str, gold: str) -> tuple[bool, str]:
    """Whether two answers are the same, and by which rule."""
    if len(answer) > max(MAX_LENGTH, 4 * len(gold)):
        return False, f"{len(answer)} characters long"
    answer, gold = notation.clean(answer), notation.clean(gold)
    if not answer:
        return False, "empty"
    for rule in (_by_number, _by_text, _by_base):
        verdict = rule(answer, gold)
        if verdict is not None:
            return verdict, rule.__name__[1:]
    bare, bare_gold = _bare(answer, gold), _bare(gold, answer)
    if bare is None or bare_gold is None:
        return False, "an equation of unequal numbers"
    if (bare, bare_gold) != (answer, gold):
        return layered(bare, bare_gold)
    refusal = _refusal(answer, gold)
    return (False, refusal) if refusal else compare(answer, gold)


def rule_or_math_verify(answer: str, gold: str) -> tuple[bool, str]:
    """The papers' rule: equal as strings or as numbers, OR equal to math-verify."""
    if len(answer) > max(MAX_LENGTH, 4 * len(gold)):
        return False, f"{len(answer)} characters long"
    answer, gold = notation.clean(answer), notation.clean(gold)
    if answer and (_by_number(answer, gold) or _by_text(answer, gold)):
        return True, "rule"
    return compare(answer, gold)


def compare(answer: str, gold: str) -> tuple[bool, str]:
    """math-verify, gold first, on two cleaned answers.

    It swallows its own alarms, so that a comparison that took so long is known by its time.
    """
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it repeats the whole answer
    started = time.monotonic()
    is_right = math_verify.verify(
        _parsed(gold),
        _parsed(answer),
        float_rounding=ROUNDING,
        allow_set_relation_comp=True,
        timeout_seconds=ALARM_S,
    )
    if not is_right and time.monotonic() - started >= ALARM_S:
        return False, TIMED_OUT
    return is_right, "math-verify"


def _parsed(text: str) -> list[Any]:
    import math_verify

    text = "; ".join(items) if len(items := notation.parts(text)) > 1 else text
    return math_verify.parse(
        rf"\boxed{{{text}}}",
        extraction_config=[math_verify.LatexExtractionConfig()],
        parsing_timeout=ALARM_S,
    )


def _by_number(answer: str, gold: str) -> bool | None:
    """Exact values, where both are numerals."""
    left, right = notation.number(answer), notation.number(gold)
    return left.equals(right) if left and right else None


def _by_text(answer: str, gold: str) -> bool | None:
    """The same spelling; words and choice letters are compared as text and by nothing else."""
    if notation.compact(answer) == notation.compact(gold):
        return True
    choices = _CHOICE.fullmatch(answer), _CHOICE.fullmatch(gold)
    if gold.strip("().:").isupper() and choices[0] and choices[1]:
        left, right = (match[1] or match[2] for match in choices if match)
        return left.upper() == right.upper()
    if _is_words(gold) or _is_words(answer):
        return _folded(answer) == _folded(gold)
    return None


def _by_base(answer: str, gold: str) -> bool | None:
    """Numerals with a base written under them: same digits, and same base if both name one."""
    left, right = _BASED.fullmatch(answer), _BASED.fullmatch(gold)
    if right and right[1].isalnum() and right[1][0].isdigit():
        if left:
            return left.groups() == right.groups()
        return answer == right[1]
    return None


def _is_words(text: str) -> bool:
    return bool(_WORDS.fullmatch(text)) and any(len(w) > 3 for w in re.split(r"[^A-Za-z]", text))


def _folded(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", text.casefold()).strip()


def _bare(text: str, other: str) -> str | None:
    """`x = 5` as 5 where the other side has no equals sign; None for `4 = 5`."""
    sides = [side.strip() for side in _EQUALS.split(text)]
    if len(sides) == 1 or _EQUALS.search(other) or not sides[-1]:
        return text.split(r"\approx")[0].strip() if r"\approx" not in other else text
    if len(notation.parts(text)) > 1:
        return text
    value = notation.number(sides[-1])
    for side in sides[:-1]:
        if _LEFT_SIDE.fullmatch(side):
            continue
        said = notation.number(side)
        if said and value and not said.equals(value):
            return None
    return sides[-1]


def _refusal(answer: str, gold: str) -> str:
    """Why an answer is not worth evaluating; empty if it is."""
    if notation.depth(answer) > MAX_DEPTH:
        return "nested too deeply"
    for name, pattern in _REFUSED.items():
        if pattern.search(answer) and not pattern.search(gold):
            return f"{name}, which the reference has not"
    if len(notation.parts(answer)) > 1 and len(notation.parts(gold)) == 1 and "pm" not in gold:
        return "a list against a single reference"
    if (
        notation.number(gold)
        and _ARITHMETIC.fullmatch(answer)
        and _OPERATION.search(answer.lstrip("-"))
    ):
        return "arithmetic left undone"
    letters, wanted = _letters(answer), _letters(gold)
    if any(x not in wanted and x.swapcase() in wanted for x in letters):
        return "other letter case"
    return ""


def _letters(text: str) -> Iterable[str]:
    return set(re.findall(r"[a-zA-Z]", re.sub(r"\\[a-zA-Z]+", " ", text)))
