r"""Science answers, right or wrong: choice letters, quantities with units, short text.

What the reference is decides how it is compared: a letter (or one of the listed choices) as a
choice; a number as a quantity, within `tolerance` unless both are whole numbers, units brought to
each other by their exact factors; words as text; anything else as mathematics
(`reward_server.answers.equality`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field

from oapl.config.fields import section
from oapl.records import Prompt, Rollout, Verdict
from reward_server.answers import equality, equations, notation, numerals
from reward_server.answers.notation import Spelled
from reward_server.verifiers import base

LETTERS = "ABCDEFGHIJ"
_SEVERAL = re.compile(r"\(?[A-J]\)?(?:\s*(?:,|and|&|\s)\s*\(?[A-J]\)?)+|[A-J]{2,10}")
_LISTED = re.compile(r"^\s*(?:\(([A-J])\)|([A-J])[).:])\s+(\S.*?)\s*$", re.MULTILINE)
_FORMULA = re.compile(r"(?:(?:^|\.)\d*|[A-Z][a-z]?\d*|[(\[]|[)\]]\d*)+(?:\^?\d*[+-])?")
_ELEMENTS = frozenset({
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl",
    "Ar", "K", "Ca", "Sc", "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As",
    "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr", "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In",
    "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu", "Gd", "Tb",
    "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt", "Au", "Hg", "Tl",
    "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm",
})  # fmt: skip
_ARTICLE = re.compile(r"^(?:the|a|an)\s+")


@section
class Config:
    """Options of the stem verifier."""

    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Largest relative error of a number; whole numbers against whole numbers must be exact."""
    range: base.Range = "zero_one"
    """Reward of a wrong answer: 0 or -1; a right one gives 1."""
    answer_in: base.AnswerIn = "any"
    r"""Where the answer stands: boxed is \boxed{}, tag is <answer>, any takes the later one of the
    two; hashes is the first line of `#### ...`, as in GSM8K."""
    truncated: base.Truncated = "wrong"
    """A response cut off before EOS: wrong without a look, or judge it by what it says."""


class StemVerifier:
    """Compares the last answer with `reference["answer"]`. See `oapl.interfaces.Verifier`.

    Of a list of references any will do.

    The choices are `reference["choices"]` (a list, or letter to text); without it, the lines of the
    question that begin with `A.`, `B)` or `(C)`, in this order.
    """

    def __init__(self, config: Config) -> None:
        self._config = config

    def warm(self) -> None:
        """Pay for imports and caches before the workers are forked."""
        equality.warm()

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Compare the response's last answer."""
        choices, tolerance = choices_of(prompt), self._config.tolerance
        return base.judge_answer(
            prompt,
            rollout,
            self._config,
            lambda answer, gold: same(answer, gold, choices, tolerance),
        )


def build(config: Config) -> StemVerifier:
    """See `VerifierFile`."""
    return StemVerifier(config)


def choices_of(prompt: Prompt) -> dict[str, str]:
    """Read the choices of a question, letter to text; empty if it has none."""
    given = prompt.reference.get("choices")
    if isinstance(given, Mapping):
        return {str(letter).strip("(). ").upper(): str(text) for letter, text in given.items()}
    if isinstance(given, list | tuple):
        return {letter: str(text) for letter, text in zip(LETTERS, given, strict=False)}
    found: dict[str, str] = {}
    for match in _LISTED.finditer(prompt.question or prompt.text):
        letter = match[1] or match[2]
        if letter == LETTERS[len(found) % len(LETTERS)]:
            found[letter] = match[3]
    return found if len(found) > 1 else {}


def same(answer: str, gold: str, choices: Mapping[str, str], tolerance: float) -> equality.Answer:
    """Tell whether an answer is the reference, and by which rule.

    Args:
        answer: What the response gave, as it was written.
        gold: The reference, as it was written.
        choices: Letter to text; empty where the question has none.
        tolerance: Largest relative error of a number.
    """
    if len(answer) > max(equality.MAX_LENGTH, 4 * len(gold)):
        return False, f"{len(answer)} characters long"
    said, wanted = notation.read(answer), notation.read(gold)
    if not said.text:
        return False, "empty"
    for verdict, rule in (
        (_by_choice(said.text, wanted.text, choices), "choice"),
        (_by_quantity(_quantity(answer), _quantity(gold), tolerance), "quantity"),
        (_by_formula(answer, gold), "formula"),
        (_by_words(said, wanted), "text"),
    ):
        if verdict is not None:
            return verdict, rule
    return equality.same(answer, gold)


def _by_choice(answer: str, gold: str, choices: Mapping[str, str]) -> bool | None:
    """Letters, where the reference is a letter or the text of a choice."""
    wanted = _letters(gold, choices)
    if not wanted or not (choices or gold.strip("().:").isupper()):
        return None
    said = _letters(answer, choices)
    return said == wanted if said or choices else None


def _letters(text: str, choices: Mapping[str, str]) -> frozenset[str]:
    """The choices that a text names by letter or by their own text; empty if it names none."""
    letter = notation.choice(text)
    if letter and (not choices or letter in choices):
        told = _texts(notation.after_label(text), choices)  # of another choice: two answers
        return frozenset({letter} if not told or letter in told else {letter, *told})
    if _SEVERAL.fullmatch(text) and (choices or not text.isalpha()):
        found = frozenset(re.findall(r"[A-J]", text))
        return found if not choices or found <= set(choices) else frozenset()
    return _texts(text, choices)


def _texts(text: str, choices: Mapping[str, str]) -> frozenset[str]:
    wanted = notation.read(text)
    return frozenset(
        letter
        for letter, choice in choices.items()
        if _folded(choice) == _folded(text)
        or equality.by_number(wanted, notation.read(choice))
        or notation.compact(notation.clean(choice)) == notation.compact(wanted.text)
    )


Quantity = tuple[numerals.Number, Any, bool]


def _quantity(text: str) -> Quantity | None:
    """Value, unit and whether it was written as a whole number, of `x = 3.0 m/s` too."""
    sides = equations.sides(text)
    if len(sides) > 1 and not equations.is_name(notation.clean(sides[0])):
        return None
    read = notation.read(notation.unquoted(sides[-1]), is_quantity=True)
    value = numerals.number(re.sub(r"^(?:\\approx|\\sim|~|about|approximately) ?", "", read.text))
    return (value, read.unit, read.text.lstrip("+-").isdigit()) if value else None


def _by_quantity(left: Quantity | None, right: Quantity | None, tolerance: float) -> bool | None:
    """Numbers within the tolerance; a unit that one side lacks is taken from the other."""
    if right is None or left is None:
        return None
    if left[1] and right[1]:
        if not left[1].fits(right[1]):
            return False
        said, wanted = (side[0].value * side[1].factor for side in (left, right))
    elif left[0].equals(right[0]):
        return True
    else:
        said, wanted = left[0].value, right[0].value
    if left[2] and right[2]:
        return said == wanted
    return abs(said - wanted) <= abs(wanted) * Fraction(str(tolerance))


def _by_formula(answer: str, gold: str) -> bool | None:
    """Chemical formulas, however their figures are set; others are compared as mathematics."""
    said, wanted = _formula(answer), _formula(gold)
    if not all(re.search(r"[\^_]", text) for text in (answer, gold)):
        # One of them is as it is typed: a figure of `Fe3+` may belong to the charge.
        said, wanted = said.replace("^", ""), wanted.replace("^", "")
    return True if said and said == wanted else None


def _formula(text: str) -> str:
    """`H2O` for `H_2O` and `\\mathrm{H}_2\\mathrm{O}`; empty for what is no formula."""
    flat = re.sub(r"\\(?:ce|mathrm|mathsf|text|rm)(?![a-zA-Z])", "", notation.clean(text))
    flat = re.sub(r"\\cdot|[·*]", ".", flat)
    flat = re.sub(r"[\s{}_]|\^(?=[+-])", "", flat)
    if not _FORMULA.fullmatch(flat) or not set(re.findall("[A-Z][a-z]?", flat)) <= _ELEMENTS:
        return ""
    return flat


def _by_words(answer: Spelled, gold: Spelled) -> bool | None:
    is_words = re.search(r"[A-Za-z]{3}", gold.text) and not re.search(r"[\\^_=]", gold.text)
    if gold.is_quoted or is_words:
        return _folded(answer.text) == _folded(gold.text)
    return None


def _folded(text: str) -> str:
    return _ARTICLE.sub("", " ".join(re.findall(r"[a-z0-9+\-.%]+", text.casefold()))).strip(". ")


DECLARES = base.Traits(
    runs_programs=False,
    check_prompt=lambda config, prompt: base.golds(prompt),
    warm=StemVerifier.warm,
)
