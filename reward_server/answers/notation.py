r"""Mathematical notation brought to one form: `read`, `clean`, `compact`.

Everything here is string work, linear in the length of the answer; nothing is evaluated. What a
reader would call the same spelling (`\dfrac12`, `\frac{1}{2}`; `10\,000`, `10,000`; `5.`, `5`)
becomes the same text; what is the same *value* is left to `answers.numerals`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from reward_server.answers import numerals, units
from reward_server.answers.units import Unit

_MULTIPLIERS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}


def _brace(match: re.Match[str]) -> str:
    return r"\{" if match.group() == r"\lbrace" else r"\}"


def _multiplier(match: re.Match[str]) -> str:
    return rf"\times 10^{_MULTIPLIERS[match[1]]}"


_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ]+")
_VULGAR = re.compile("[¼½¾⅐-⅞]")
_SYMBOLS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "⋅": r"\cdot ",
    "·": r"\cdot ", "∗": "*", "÷": "/", "∞": r"\infty ", "π": r"\pi ", "θ": r"\theta ",
    "α": r"\alpha ", "β": r"\beta ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "±": r"\pm ",
    "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "°": r"^\circ ", "⁄": "/", "≈": r"\approx ", "’": "'", "→": r"\to ",
}  # fmt: skip
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+|[a-zA-Z]))")
_DELIMITERS = re.compile(r"^\s*(?:\$\$?|\\\(|\\\[)|(?<!\\)(?:\$\$?|\\\)|\\\])\s*[.,]?\s*$|[€£¥]")
# What people put around an answer without meaning anything by it.
_MARKUP = re.compile(
    r"(\*\*|__|[*_`])(?!\s)(?P<inside>(?:(?!\1).)+?)(?<!\s)\1[\s.]*|#+\s+(?P<heading>.+)"
)
_VECTOR = r"\\(?:vec|overrightarrow|mathbf|boldsymbol|bm|hat)\s*(?:\{\s*\\?\w+\s*\}|\\?\w+)"
_Replacement = str | Callable[[re.Match[str]], str]
_REWRITES: tuple[tuple[re.Pattern[str], _Replacement], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\\$|(?<!\\)\$", ""),
        (r"\\%", "%"),
        (r"\{,\}", ","),
        (r"\\(?:left|right|[bB]igg?[lr]?)\s*\.", ""),
        (r"\\(?:left|right|[bB]igg?[lr]?)(?![a-zA-Z])\s*", ""),
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])", " "),
        (r"\\(?:displaystyle|limits|textstyle|normalsize)(?![a-zA-Z])", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\varnothing(?![a-zA-Z])", r"\\emptyset"),
        (r"\\(?:leq|leqslant)(?![a-zA-Z])", r"\\le"),
        (r"\\(?:geq|geqslant)(?![a-zA-Z])", r"\\ge"),
        (r"\\neq(?![a-zA-Z])", r"\\ne"),
        (r"\^\s*\{?\s*\\(?:circ|degree)\s*\}?|\\degree(?![a-zA-Z])", ""),
        (rf"({_VECTOR})\s*\\times(?![a-zA-Z])", r"\1\\cross "),
        (rf"(?<![\d\s])\s*\\times\s*({_VECTOR})", r"\\cross \1"),
        (r"\\operatorname\*?\s*\{\s*([a-zA-Z]+)\s*\}", r"\\\1 "),
        (r"\\(?:text|textrm|textbf|textit|textup|mathrm|mathbf|mathit|mbox|operatorname|rm|bf)\s*"
         r"\{([^{}]*)\}", r" \1 "),
        (r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![a-zA-Z\\])infinity(?![a-zA-Z])", r"\\infty"),
        (r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi"),
        (r"\*\*", "^"),
        (r"\^ ?\{? ?((?:\\prime ?)+)\}?", lambda match: "'" * match[1].count("prime")),
        (r"\\[lr]brace(?![a-zA-Z])", _brace),
        (r"(?<=\}) ?- ?(?=\\\{)", r"\\setminus "),
        (r"\{([^{}]*)\\over(?![a-zA-Z])([^{}]*)\}", r"\\frac{\1}{\2}"),
        (r"\(([0-9A-F]+)\)\s*_", r"\1_"),
        (r"(?<=\d) ?(thousand|million|billion|trillion)(?![a-zA-Z])", _multiplier),
        (r"(?<=[\d.])\\dot ?\{? ?(\d) ?\}?(?:(\d*)\\dot ?\{? ?(\d) ?\}?)?", r"\\overline{\1\2\3}"),
        (r"(\.\d{0,9}?)(\d{1,9}?)\2+ ?(?:\\[lc]?dots(?![a-zA-Z])|\.\.\.+|…)", r"\1\\overline{\2}"),
        (r"\s*(?:percent|per cent)\s*\.?$", "%"),
        (r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"\\sqrt\s*(\d)(?!\d)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*\{\s*-\s*1\s*\}", "i"),
        (r"\s+", " "),
    )
)  # fmt: skip
_QUOTE = r"\\(?:text|textrm|textbf|textit|textup|mathrm|mathbf|mbox|operatorname|rm)\s*"
_QUOTED = re.compile(_QUOTE + r"\{\s*([^{}]*[a-zA-Z]{2}[^{}]*)\}[\s.]*")
_QUOTED_QUANTITY = re.compile(
    _QUOTE + r"\{\s*(?P<number>\\?\$?[+-]?(?:\d[\d,]*(?:\.\d*)?|\.\d+)(?:\s*/\s*\d+)?)(?![\d:/.,])"
    r"(?P<behind>[^{}]*)\}[\s.]*"
)
_POWERS_IN_TEXT = re.compile(
    _QUOTE + r"\{(?:[^{}^]|\^\s*+(?:\{\s*+[+-]?\d\s*+\})?+)*+\}"
)  # `\mathrm{m\,s^{-2}}`
_BRACED_POWER = re.compile(r"\^\s*\{\s*([+-]?\d)\s*\}")
_POWER_IN_DOLLARS = re.compile(r"\$\s*(\^[+-]?\d)\s*\$")
_QUOTED_NUMERAL = re.compile(_QUOTE + r"\{\s*([\d.,]*\d)\s*\}")
_OF_DEGREES = re.compile(
    r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\s*\^\s*\{?\s*\d\s*\}?)?)\s*([({])?\s*(\d+(?:\.\d+)?)"
    r"\s*(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z]))(?(2)\s*[)}])"
)
# What may stand behind a number: words, written as text or bare, powers, slashes.
_BEHIND = re.compile(
    r"(?:(?<=[\d})\]%.])|(?<=\\pi)|(?<=π)"
    rf"|(?<=[a-zA-Z])(?=[\s~]*{_QUOTE}))"
    r"((?:\s|\\[,;:! ]|~|\\cdot(?![a-zA-Z])|/|\((?=[a-zA-Z])|(?<=[a-zA-Z])\)"
    rf"|{_QUOTE}\{{[^{{}}]*\}}"
    r"|\^\s*\{?\s*\\(?:circ|degree)\s*\}?|(?<=[a-zA-Z}\s])\^\s*\{?\s*[+-]?\d\s*\}?"
    r"|\\(?:mu|Omega|AA)(?![a-zA-Z])|[a-zA-ZµμΩÅ.])++)$"
)
_HEAD = re.compile(r"\d|\\pi|π")
_NOUN = re.compile(r"[a-zA-Z'\-]{2,}(?:[ .]+[a-zA-Z'\-]{2,}){0,3}[ .]*(?:\^ ?\{? ?[23] ?\}?)?")
_BARE_NOUN = re.compile(r"\s+[a-z]{4,}(?:\s+[a-z\-]{2,}){0,3}\.?")
_NO_NOUN = re.compile(
    r"\b(?:or|and|to|is|integers?|mod|if|for|when|where|else|maybe|plus|minus|times|over|squared|cubed|factorial"
    r"|dozen|hundred|thousand|million|billion|trillion|[ap]m|percent|per cent|alpha|beta|gamma"
    r"|delta|theta|lambda|sigma|omega)\b",
    re.IGNORECASE,
)
_BARE_UNITS = {"cm", "mm", "km", "kg", "mg", "ml", "mL", "ft", "lb", "oz", "Hz", "eV", "kJ", "kW"}
HEDGE = re.compile(r"(?<![a-zA-Z])(?:or|and|to|mod|if|for|when|where)(?![a-zA-Z])")
_TIGHT = re.compile(r"(?<![0-9a-zA-Z]) | (?![0-9a-zA-Z])")
_BARE_POWER = re.compile(r"([\^_]) ?(\w)")

_CHOICE = re.compile(
    r"(?:(?:option|choice|answer) ?)?(?:\(([A-Ja-j])\)|([A-Ja-j])[).:]|([A-Ja-j]))", re.IGNORECASE
)
_LABEL = re.compile(r"(?:\([A-J]\)[.:]?|[A-J][).:])\s*(?=\S)")


@dataclass(frozen=True, slots=True)
class Spelled:
    """An answer in one spelling, without the unit behind it.

    Attributes:
        text: What `clean` makes of it.
        unit: The unit of measure that stood behind a number; None if there was none, or a noun.
        is_quoted: It was written as text (`\\text{...}`), so that its letters are no variables.
    """

    text: str
    unit: Unit | None
    is_quoted: bool


def read(text: str, *, is_quantity: bool = False) -> Spelled:
    """One spelling: Unicode signs in LaTeX; no delimiters, spacing commands, units, degrees.

    Args:
        text: An answer as it was written.
        is_quantity: A single bare letter behind a number is a unit (`5 m`), and no variable.
    """
    text = text.strip()
    if numerals.is_plain(text):
        return Spelled(text.rstrip("."), None, False)
    if not text.isascii():
        text = _in_latex(text)
    text = _unmarked(text)
    text = _POWERS_IN_TEXT.sub(_with_bare_powers, text)
    text = _QUOTED_NUMERAL.sub(r"\1", text)
    text = _OF_DEGREES.sub(r"\1(\\frac{\3\\pi}{180})", text)
    is_quoted = _QUOTED.fullmatch(text) is not None
    text, unit = _without_unit(text, is_quantity)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return Spelled(text.strip().rstrip(".,;: "), unit, is_quoted)


def unquoted(text: str) -> str:
    r"""`12\text{ cm}` for `\text{12 cm}`, a quantity wholly written as text; else the text."""
    match = _QUOTED_QUANTITY.fullmatch(_POWERS_IN_TEXT.sub(_with_bare_powers, text.strip()))
    if not match or (match["behind"][:1].isalpha() and not units.parse(match["behind"])):
        return text
    return rf"{match['number']}\text{{ {match['behind'].strip()} }}"


def read_both(answer: str, gold: str) -> tuple[Spelled, Spelled]:
    r"""One spelling for an answer and its reference, each as the other makes it plain.

    A bare letter behind a number is a unit where the other has one, for 100 kg is not 100 g; and
    `\\text{12 cm}` is a quantity where the other is no text, or both have units.

    Args:
        answer: As it was written.
        gold: The reference, as it was written.
    """
    said, wanted = read(answer), read(gold)
    loose = read(unquoted(answer)), read(unquoted(gold))
    if said.is_quoted != wanted.is_quoted or (loose[0].unit and loose[1].unit):
        said, wanted = loose
    if said.unit and not wanted.unit:
        wanted = read(gold, is_quantity=True)
    elif wanted.unit and not said.unit:
        said = read(answer, is_quantity=True)
    return said, wanted


def clean(text: str) -> str:
    """The text of `read`."""
    return read(text).text


def compact(text: str) -> str:
    """A cleaned text without the spaces that carry no meaning, for comparison as a string."""
    return _TIGHT.sub("", _BARE_POWER.sub(r"\1{\2}", text))


def _with_bare_powers(match: re.Match[str]) -> str:
    """A text without braces around the powers in it, which its unit may have."""
    return _POWER_IN_DOLLARS.sub(r"\1", _BRACED_POWER.sub(r"^\1", match.group()))


def _unmarked(text: str) -> str:
    """Without delimiters, Markdown around the whole, and a space that lost its last character."""
    previous = None
    while previous != text:
        previous = text
        text = _DELIMITERS.sub("", text).strip()
        if match := _MARKUP.fullmatch(text):
            text = match["inside"] or match["heading"]
    return text.rstrip("\\ ")


def _in_latex(text: str) -> str:
    """Unicode signs as LaTeX commands, raised digits as powers."""
    for sign, latex in _SYMBOLS.items():
        text = text.replace(sign, latex)
    text = _SUPERSCRIPT.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda m: " " + unicodedata.normalize("NFKC", m.group()) + " ", text)
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/")
    return _ROOT.sub(lambda m: r"\sqrt{" + next(g for g in m.groups() if g is not None) + "}", text)


def choice(text: str) -> str | None:
    """The letter of a cleaned text that names one choice: `(C)`, `c`, `C. text`, `option C`."""
    if match := _CHOICE.fullmatch(text):
        return (match[1] or match[2] or match[3]).upper()
    beside = after_label(text)
    if not beside or HEDGE.search(beside) or _LABEL.search(beside):
        return None
    return text.lstrip("(")[0]


def after_label(text: str) -> str:
    """What stands behind the letter of a choice (`C. text`, `(C) text`); empty if there is none."""
    label = _LABEL.match(text)
    return text[label.end() :] if label else ""


def _without_unit(text: str, is_quantity: bool) -> tuple[str, Unit | None]:
    """What stands behind a number, if it is a unit of measure or a plain noun, is cut off."""
    behind = _BEHIND.search(text)
    for _ in range(2):  # of `2x \text{ cm}` the x is no part of the unit
        found = _cut(text[: behind.start()], behind[1], is_quantity) if behind else None
        if not behind or found:
            return found or (text, None)
        behind = _BEHIND.search(text, behind.start() + 1)
    return text, None


def _cut(head: str, tail: str, is_quantity: bool) -> tuple[str, Unit | None] | None:
    if re.search(_QUOTE, head):
        return None
    words = re.sub(_QUOTE + r"\{([^{}]*)\}", r" \1 ", tail)
    is_written_as_text = words != tail
    # A bare `m` may be a variable, a bare `cm` or `meters` hardly.
    names = re.findall(r"[a-zA-Z]+", words)
    is_number = _HEAD.search(head) is not None
    is_told = is_written_as_text or is_quantity or "circ" in tail or "degree" in tail
    if (is_number or is_written_as_text) and (
        is_told or any(name in _BARE_UNITS or len(name) > 2 for name in names)
    ):
        unit = units.parse(tail)
        if unit is not None:
            return head, unit
    noun = re.sub(r"\\[,;:! ]|~", " ", words).strip()
    is_noun = _NOUN.fullmatch(noun) if is_written_as_text else _BARE_NOUN.fullmatch(tail)
    return (head, None) if is_number and is_noun and not _NO_NOUN.search(noun) else None
