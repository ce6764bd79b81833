r"""Exact values of numerals: `1,000`, `3\frac{1}{2}`, `0.\overline{3}`, `2e-3`, `50\%`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_DIGITS = 4000  # Python refuses to convert longer integers
MAX_POWER_BITS = 4096

PLAIN = r"(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d{0,2}(?: \d{3})+|\d+)(?:\.\d*)?|\.\d+"
_NUMERAL = re.compile(rf"({PLAIN})")
_RATIO = re.compile(
    rf"\\frac ?\{{ ?(-?)({PLAIN}) ?\}} ?\{{ ?(-?)({PLAIN}) ?\}}|(-?)({PLAIN}) ?/ ?(-?)({PLAIN})"
)
_MIXED = re.compile(r"(\d+) ?(?:\+ ?)?\\frac ?\{ ?(\d+) ?\} ?\{ ?(\d+) ?\}|(\d+) (\d+) ?/ ?(\d+)")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline ?\{ ?(\d+) ?\}")
_SCIENTIFIC = re.compile(
    rf"({PLAIN})(?: ?(?:\\times|\\cdot|\*|x) ?10 ?\^ ?\{{? ?|[eE])([+-]?\d{{1,3}}) ?\}}?"
)
_POWER = re.compile(r"(\d{1,9}) ?\^ ?\{? ?(-?\d{1,4}) ?\}?")


@dataclass(frozen=True, slots=True)
class Number:
    """The exact value of a numeral; a percentage stands for itself and for its hundredth."""

    value: Fraction
    is_percent: bool = False

    def equals(self, other: Number) -> bool:
        """Whether the values are equal; against a plain number a percentage has two readings."""
        if self.is_percent == other.is_percent:
            return self.value == other.value
        percent, plain = (self, other) if self.is_percent else (other, self)
        return plain.value in (percent.value, percent.value / 100)


def is_plain(text: str) -> bool:
    """Whether a text is nothing but figures, a point and separators of thousands."""
    return text.isascii() and _NUMERAL.fullmatch(text) is not None


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
        if base.bit_length() * abs(exponent) >= MAX_POWER_BITS or (exponent < 0 and not base):
            return None
        return Fraction(base) ** exponent
    return None
