r"""Units of measure: what stands behind a number, with its dimensions and its exact factor to SI.

Symbols take SI prefixes and are read as written (`m` is no `M`); names are read in any case and in
the plural. Quantities that differ by more than a factor (temperatures) or whose length is a matter
of convention (years) have dimensions of their own, so that they never turn into one another.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH = 60
MAX_EXPONENT = 9

_PREFIXES = {
    "Q": 30, "R": 27, "Y": 24, "Z": 21, "E": 18, "P": 15, "T": 12, "G": 9, "M": 6, "k": 3, "h": 2,
    "da": 1, "d": -1, "c": -2, "m": -3, "µ": -6, "u": -6, "n": -9, "p": -12, "f": -15, "a": -18,
}  # fmt: skip
_PREFIX_NAMES = {
    "tera": 12, "giga": 9, "mega": 6, "kilo": 3, "hecto": 2, "deci": -1, "centi": -2, "milli": -3,
    "micro": -6, "nano": -9, "pico": -12, "femto": -15,
}  # fmt: skip

# symbol, or name: factor, dimensions as powers of base symbols
_PREFIXED = {
    "m": "1 m", "g": "1/1000 kg", "s": "1 s", "A": "1 A", "K": "1 K", "mol": "1 mol", "cd": "1 cd",
    "Hz": "1 s-1", "N": "1 kg m s-2", "J": "1 kg m2 s-2", "W": "1 kg m2 s-3", "Pa": "1 kg m-1 s-2",
    "C": "1 A s", "V": "1 kg m2 s-3 A-1", "Ω": "1 kg m2 s-3 A-2", "F": "1 kg-1 m-2 s4 A2",
    "T": "1 kg s-2 A-1", "Wb": "1 kg m2 s-2 A-1", "H": "1 kg m2 s-2 A-2", "L": "1/1000 m3",
    "l": "1/1000 m3", "eV": "1602176634/10000000000000000000000000000 kg m2 s-2",
    "cal": "4184/1000 kg m2 s-2", "bar": "100000 kg m-1 s-2", "M": "1000 mol m-3", "B": "1 byte",
    "Wh": "3600 kg m2 s-2", "Bq": "1 s-1", "Gy": "1 m2 s-2", "Sv": "1 m2 s-2",
}  # fmt: skip
_PREFIXED_NAMES = {
    "meter": "m", "metre": "m", "gram": "g", "second": "s", "ampere": "A", "amp": "A",
    "kelvin": "K", "mole": "mol", "candela": "cd", "hertz": "Hz", "newton": "N", "joule": "J",
    "watt": "W", "pascal": "Pa", "coulomb": "C", "volt": "V", "ohm": "Ω", "farad": "F",
    "tesla": "T", "weber": "Wb", "henry": "H", "liter": "L", "litre": "L", "electronvolt": "eV",
    "calorie": "cal", "molar": "M", "byte": "B",
}  # fmt: skip
_PLAIN = {
    "min": "60 s", "h": "3600 s", "hr": "3600 s", "hrs": "3600 s", "sec": "1 s", "secs": "1 s",
    "mins": "60 s", "d": "86400 s", "day": "86400 s", "week": "604800 s", "minute": "60 s",
    "hour": "3600 s", "month": "1 month", "year": "12 month", "yr": "12 month", "in": "254/10000 m",
    "inch": "254/10000 m", "inches": "254/10000 m", "ft": "3048/10000 m", "foot": "3048/10000 m",
    "feet": "3048/10000 m", "yd": "9144/10000 m", "yard": "9144/10000 m", "mi": "1609344/1000 m",
    "mile": "1609344/1000 m", "lb": "45359237/100000000 kg", "lbs": "45359237/100000000 kg",
    "pound": "45359237/100000000 kg", "oz": "45359237/1600000000 kg",
    "ounce": "45359237/1600000000 kg", "ton": "1 ton", "tonne": "1000 kg", "t": "1000 kg",
    "gal": "3785411784/1000000000000 m3", "gallon": "3785411784/1000000000000 m3",
    "mph": "44704/100000 m s-1", "kph": "5/18 m s-1", "cc": "1/1000000 m3",
    "atm": "101325 kg m-1 s-2", "torr": "101325/760 kg m-1 s-2", "Torr": "101325/760 kg m-1 s-2",
    "mmHg": "101325/760 kg m-1 s-2", "Å": "1/10000000000 m", "angstrom": "1/10000000000 m",
    "ha": "10000 m2", "hectare": "10000 m2", "acre": "40468564224/10000000 m2",
    "erg": "1/10000000 kg m2 s-2", "ergs": "1/10000000 kg m2 s-2", "dyn": "1/100000 kg m s-2",
    "dyne": "1/100000 kg m s-2", "AU": "149597870700 m", "ly": "9460730472580800 m", "pc": "1 pc",
    "u": "1 u", "amu": "1 u", "Da": "1 u", "rad": "1 rad", "radian": "1 rad", "deg": "1 deg",
    "degree": "1 deg", "°": "1 deg", "°C": "1 celsius", "celsius": "1 celsius",
    "°F": "1 fahrenheit", "fahrenheit": "1 fahrenheit", "$": "1 dollar", "dollar": "1 dollar",
    "USD": "1 dollar", "cent": "1/100 dollar", "EUR": "1 euro", "euro": "1 euro", "rpm": "1 rpm",
    "bit": "1/8 byte",
}  # fmt: skip
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:mu|micro)(?![a-zA-Z])\s*|μ", "µ"),
        (r"\\(?:Omega|ohm)(?![a-zA-Z])|Ω", "Ω"),
        (r"\\(?:AA|angstrom)(?![a-zA-Z])|Å", "Å"),
        (r"\\(?:text|textrm|textbf|textit|mathrm|mathbf|mbox|operatorname|rm)\s*"
         r"\{([^{}]*)\}", r"\1"),
        (r"(?:\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])|°)\s*", "°"),
        (r"(?i)\b(?:degrees?|deg)\s+(?=celsius|fahrenheit|[CF]\b)", "°"),
        (r"°(?i:celsius)", "°C"),
        (r"°(?i:fahrenheit)", "°F"),
        (r"\\(?:cdot|times|,|;|:|!|\s)|~|[·⋅*×]|\\q?quad", " "),
        (r"\s+per\s+|\s*/\s*", "/"),
        (r"\^?\s*\{\s*([+-]?\d)\s*\}", r"^\1"),
        (r"(?<=[A-Za-zΩµ])\s*(?:\*\*|\^)\s*|(?<=[A-Za-z])(?=[+-]?\d)", "^"),
    )
)  # fmt: skip
_RAISED = re.compile("([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹])")
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺−", "0123456789-+-")
_TOKEN = re.compile(r"\s*(?:([/()])|([A-Za-zΩµÅ°$]+|%)(?:\^([+-]?\d))?)")
_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}
_AFTER = {"squared": 2, "cubed": 3}


@dataclass(frozen=True, slots=True)
class Unit:
    """Dimensions (base symbol, power; sorted) and the factor to SI base units."""

    dimensions: tuple[tuple[str, int], ...]
    factor: Fraction

    def fits(self, other: Unit) -> bool:
        """Whether one can be expressed in the other."""
        return self.dimensions == other.dimensions


def parse(text: str) -> Unit | None:
    """The unit that a text names; None when it is not one, through and through.

    A slash or `per` divides by the next symbol, or by the next pair of parentheses.
    """
    if len(text) > MAX_LENGTH:
        return None
    text = _RAISED.sub(r"^\1", text).translate(_SUPERSCRIPTS)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _parse(text.strip(" ."))


def _parse(text: str) -> Unit | None:
    dimensions: Counter[str] = Counter()
    factor = Fraction(1)
    end, sign, inside, power, last = 0, 1, False, 1, None
    while end < len(text):
        token = _TOKEN.match(text, end)
        if not token:
            return None
        end = token.end()
        sign_of_token, name, exponent = token.groups()
        if sign_of_token == "/":
            sign = -1
        elif sign_of_token == "(":
            inside = True
        elif sign_of_token == ")":
            inside, sign = False, 1
        elif name.lower() in _POWERS:
            power = _POWERS[name.lower()]
        else:
            if name.lower() in _AFTER:
                if last is None:
                    return None
                unit, times = last[0], last[1] * (_AFTER[name.lower()] - 1)
            else:
                found = _named(name)
                if found is None:
                    return None
                unit, times = found, sign * power * int(exponent or 1)
                last = unit, times
            for symbol, amount in unit.dimensions:
                dimensions[symbol] += amount * times
            factor *= unit.factor**times
            power, sign = 1, sign if inside else 1
    if last is None or power != 1:
        return None
    powers = tuple(sorted((symbol, n) for symbol, n in dimensions.items() if n))
    return Unit(powers, factor) if all(abs(n) <= MAX_EXPONENT for _, n in powers) else None


@functools.cache
def _table() -> dict[str, Unit]:
    table = {name: _entry(text) for name, text in (_PREFIXED | _PLAIN).items()}
    for symbol in _PREFIXED:
        for prefix, exponent in _PREFIXES.items():
            table.setdefault(prefix + symbol, _scaled(table[symbol], exponent))
    for name, symbol in _PREFIXED_NAMES.items():
        table.setdefault(name, table[symbol])
        for prefix, exponent in _PREFIX_NAMES.items():
            table.setdefault(prefix + name, _scaled(table[symbol], exponent))
    return table


def _named(name: str) -> Unit | None:
    table = _table()
    if name in table:
        return table[name]
    word = name.lower()
    if len(word) < 3:  # symbols are not words: `KM` is none
        return None
    singular = word.removesuffix("s"), word.removesuffix("es")
    return table.get(word) or table.get(singular[0]) or table.get(singular[1])


def _scaled(unit: Unit, exponent: int) -> Unit:
    return Unit(unit.dimensions, unit.factor * Fraction(10) ** exponent)


def _entry(text: str) -> Unit:
    factor, *symbols = text.split()
    split = [re.fullmatch(r"([a-zA-Z]+)(-?\d)?", symbol) for symbol in symbols]
    powers = sorted((match[1], int(match[2] or 1)) for match in split if match)
    return Unit(tuple(powers), Fraction(factor))
