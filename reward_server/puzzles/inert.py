"""Which answers the scorers that evaluate them may be handed: those that do nothing but compute."""

from __future__ import annotations

import ast
import re

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

_NAMES = frozenset(
    (
        *("sin", "cos", "tan", "sec", "csc", "cot", "asin", "acos", "atan"),
        *("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
        *("exp", "log", "ln", "sqrt", "pi", "Abs", "abs", "E", "erf", "Ei", "Si", "Ci"),
    )
)
_EXPRESSION = re.compile(r"[0-9A-Za-z+\-*/^().,\s]*")
_ATTRIBUTE = re.compile(r"\.\s*[A-Za-z]")
_NO_CALLS = re.compile(r"[\w\s]*")


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
