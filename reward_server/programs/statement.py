"""What a programming problem's text says of its tests: precision, case, the function's name."""

from __future__ import annotations

import ast
import re

MAX_TOLERANCE_EXPONENT = 15

_ANY_CASE = re.compile(
    r"(?:any|either|arbitrary) (?:letter )?case\b(?!,)"
    r"|(?:upper|lower)(?: ?case)? or (?:upper|lower) ?case",
    re.IGNORECASE,
)
_POWER = re.compile(
    r"10\s*(?:\^|<sup>|\*\*)\s*\{?\s*[-\u2212\u2013]\s*(\d{1,2})(?!\d)"  # 10^{-6}
    r"|\b10[-\u2212\u2013]([3-9])\b"  # 10-5, which has lost its superscript
    r"|\b1e-0?(\d{1,2})\b"
    r"|\b0\.(0{2,8}1)\b"
)
_PRECISION = re.compile(r"error|precision|differ|accepted|toleran|accura|correct", re.IGNORECASE)
_METHODS = re.compile(r"class\s+Solution\b")
_FUNCTION = re.compile(r"^\s*def\s+(?!_)(\w+)", re.MULTILINE)


def ignores_case(question: str) -> bool:
    """Whether letters may be printed in any case."""
    return bool(_ANY_CASE.search(question))


def tolerance_of(question: str) -> float:
    """Read the error that a problem's statement allows; 0 where it allows none.

    A small power of ten counts where its sentence speaks of errors or of what is accepted.
    """
    for match in _POWER.finditer(question):
        start = max(0, question.rfind("\n", 0, match.start()), match.start() - 160)
        around = question[start : match.end() + 80]
        if not _PRECISION.search(around):
            continue
        digits = match[1] or match[2] or match[3]
        exponent = int(digits) if digits else len(match[4])
        if 0 < exponent <= MAX_TOLERANCE_EXPONENT:
            return 10.0**-exponent
    return 0.0


def stub_of(question: str, entry: str) -> str:
    """Give the question itself where it is Python that defines `entry`; else nothing.

    Args:
        question: The problem's text: HumanEval's are a function's head and its docstring.
        entry: The function that the tests call; empty where nothing names it.
    """
    if not entry or f"def {entry}" not in question:
        return ""
    try:
        tree = ast.parse(question)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return question if any(getattr(n, "name", "") == entry for n in tree.body) else ""


def entry_of(name: str, starter: str, question: str) -> str:
    """Say what tests call: `name`, or `Class().name`; empty where nothing says it.

    Args:
        name: The function's name, where the data have it.
        starter: Code that the data give to begin with.
        question: The problem's text, which may have such code.
    """
    code = starter if "def " in starter else question
    is_method = bool(_METHODS.search(code))
    if not name:
        found = list(dict.fromkeys(_FUNCTION.findall(code)))
        name = found[0] if found and (is_method or starter or len(found) == 1) else ""
    return f"Solution().{name}" if name and is_method and "." not in name else name
