r"""Mathematical notation brought to one form: `clean`, `compact`, and exact values of numbers.

Everything here is string work, linear in the length of the answer; nothing is evaluated. What a
reader would call the same spelling (`\dfrac12`, `\frac{1}{2}`; `10\,000`, `10,000`; `5.`, `5`)
becomes the same text; what is the same *value* is left to `number`, which is exact.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 4000  # Python refuses to convert longer integers
MAX_POWER_BITS = 4096

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
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^\s*(?:\$\$?|\\\(|\\\[)|(?<!\\)(?:\$\$?|\\\)|\\\])\s*\.?\s*$", ""),
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
        (r"\\(?:text|textrm|textbf|textit|textup|mathrm|mathbf|mathit|mbox|operatorname|rm|bf)\s*"
         r"\{([^{}]*)\}", r" \1 "),
        (r"(?<![a-zA-Z\\])sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"(?<![a-zA-Z\\])infinity(?![a-zA-Z])", r"\\infty"),
        (r"(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi"),
        (r"\*\*", "^"),
        (r"\s*(?:percent|per cent)\s*\.?$", "%"),
        (r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}"),
        (r"\\frac\s*(\d)\s*\{", r"\\frac{\1}{"),
        (r"\\sqrt\s*(\d)(?!\d)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*\{\s*-\s*1\s*\}", "i"),
        (r"\s+", " "),
    )
)  # fmt: skip
_UNIT = re.compile(
    r"(?<=[\d}%)\]])\s*(?:(?:square|cubic|sq|cu)\.?\s+)?(?:per\s+|/\s*)?"
    r"(?:cm|mm|km|kg|mg|ml|mL|ft|mph|kph|lbs?|oz|dollars?|cents?|degrees?|radians?|feet|foot"
    r"|inch(?:es)?|miles?|yards?|hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?"
    r"|years?|met(?:er|re)s?|centimet(?:er|re)s?|kilomet(?:er|re)s?|grams?|kilograms?|lit(?:er|re)s?"
    r"|gallons?|pounds?|ounces?|units?|points?|people|students?|ways?|square|cubic)"
    r"(?:\s*\^\s*\{?[23]\}?)?\s*\.?$"
)
_TEXT_UNIT = re.compile(
    r"(?<=[\d}%)\]])[\s\\,;:!~]*\\(?:text|textrm|textbf|mathrm|mbox)\s*"
    r"\{\s*([a-zA-Z][a-zA-Z/ .]{0,30})\}(?:\s*\^\s*\{?\s*[23]\s*\}?)?[\s.$]*$"
)
_HEDGE = re.compile(r"(?<![a-zA-Z])(?:or|and|to|mod|if|for|when|where)(?![a-zA-Z])")
_TIGHT = re.compile(r"(?<![0-9a-zA-Z]) | (?![0-9a-zA-Z])")
_ONE_CHARACTER_GROUP = re.compile(r"([\^_])\{(\w)\}")

_PLAIN = r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+"
_NUMERAL = re.compile(rf"({_PLAIN})")
_RATIO = re.compile(
    rf"\\frac ?\{{ ?(-?)({_PLAIN}) ?\}} ?\{{ ?(-?)({_PLAIN}) ?\}}|(-?)({_PLAIN}) ?/ ?(-?)({_PLAIN})"
)
_MIXED = re.compile(r"(\d+) ?(?:\+ ?)?\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}|(\d+) (\d+) ?/ ?(\d+)")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline ?\{ ?(\d+) ?\}")
_SCIENTIFIC = re.compile(rf"({_PLAIN}) ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?\{{? ?(-?\d{{1,3}}) ?\}}?")
_POWER = re.compile(r"(\d{1,9}) ?\^ ?\{? ?(\d{1,4}) ?\}?")


@dataclass(frozen=True, slots=True)
class Number:
    """The exact value of a numeral; a percentage stands for itself and for its hundredth."""

    value: Fraction
    is_percent: bool = False

    def equals(self, other: Number) -> bool:
        if self.is_percent == other.is_percent:
            return self.value == other.value
        percent, plain = (self, other) if self.is_percent else (other, self)
        return plain.value in (percent.value, percent.value / 100)


def clean(text: str) -> str:
    """One spelling: Unicode signs in LaTeX; no delimiters, spacing commands, units, degrees."""
    for sign, latex in _SYMBOLS.items():
        text = text.replace(sign, latex)
    text = _SUPERSCRIPT.sub(lambda m: "^{" + m.group().translate(_SUPERSCRIPTS) + "}", text)
    text = _VULGAR.sub(lambda m: " " + unicodedata.normalize("NFKC", m.group()) + " ", text)
    text = unicodedata.normalize("NFKC", text).replace("⁄", "/")
    text = _ROOT.sub(lambda m: r"\sqrt{" + next(g for g in m.groups() if g is not None) + "}", text)
    unit = _TEXT_UNIT.search(text)
    if unit and not _HEDGE.search(unit[1]) and unit[1].strip() not in ("percent", "per cent"):
        text = text[: unit.start()]
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip().rstrip(".,;: ")
    return _UNIT.sub("", text).strip()


def compact(text: str) -> str:
    """A cleaned text without the spaces that carry no meaning, for comparison as a string."""
    return _ONE_CHARACTER_GROUP.sub(r"\1\2", _TIGHT.sub("", text))


def number(text: str) -> Number | None:
    """The exact value of a cleaned text that is one numeral; None for anything else.

    Covers signs, thousands separators, decimals, repeating decimals, fractions, mixed numbers,
    percentages, scientific notation and small integer powers.
    """
    if len(text) > MAX_DIGITS:
        return None
    text = _unwrap(text.strip())
    is_percent = text.endswith("%")
    text = text.rstrip("% ")
    sign = 1
    if text[:1] in ("-", "+"):
        sign = -1 if text[0] == "-" else 1
        text = _unwrap(text[1:].strip())
    value = _value(text)
    return None if value is None else Number(sign * value, is_percent)


def depth(text: str) -> int:
    """Deepest nesting of brackets."""
    level = deepest = 0
    for character in text:
        if character in "([{":
            level += 1
            deepest = max(deepest, level)
        elif character in ")]}":
            level -= 1
    return deepest


def parts(text: str) -> list[str]:
    """Top-level items of a list written with commas, semicolons, `or` and `and`."""
    text = re.sub(r"(?<![a-zA-Z\\])(?:or|and)(?![a-zA-Z])", ";", text)
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "\0", text)
    items, level, start = [], 0, 0
    for index, character in enumerate(text):
        if character in "([{":
            level += 1
        elif character in ")]}":
            level -= 1
        elif character in ",;" and level == 0:
            items.append(text[start:index])
            start = index + 1
    items.append(text[start:])
    return [item.replace("\0", ",").strip() for item in items if item.strip()]


def _unwrap(text: str) -> str:
    inner = text[1:-1]
    while text[:1] + text[-1:] in ("{}", "()") and not any(c in "(){}" for c in inner):
        text, inner = inner.strip(), inner.strip()[1:-1]
    return text


def _plain(digits: str) -> Fraction:
    return Fraction("0" + digits.replace(",", "").replace(" ", "").rstrip("."))


def _value(text: str) -> Fraction | None:
    if _NUMERAL.fullmatch(text):
        return _plain(text)
    if match := _RATIO.fullmatch(text):
        a, top, b, bottom = match.groups()[:4] if match[2] else match.groups()[4:]
        divisor = _plain(bottom)
        return (-1 if bool(a) != bool(b) else 1) * _plain(top) / divisor if divisor else None
    if match := _MIXED.fullmatch(text):
        whole, top, bottom = match.groups()[:3] if match[1] else match.groups()[3:]
        return int(whole) + Fraction(int(top), int(bottom)) if int(bottom) else None
    if match := _REPEATING.fullmatch(text):
        whole, fixed, cycle = match.groups()
        tail = Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed))
        return Fraction(int((whole + fixed) or "0"), 10 ** len(fixed)) + tail
    if match := _SCIENTIFIC.fullmatch(text):
        return _plain(match[1]) * Fraction(10) ** int(match[2])
    if match := _POWER.fullmatch(text):
        base, exponent = int(match[1]), int(match[2])
        return Fraction(base**exponent) if base.bit_length() * exponent < MAX_POWER_BITS else None
    return None
