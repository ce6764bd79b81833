"""The commands that `reader` knows, and what they become in a tree."""

from __future__ import annotations

FUNCTIONS = {
    **{rf"\{name}": name for name in (
        "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "exp", "ln", "lg", "log",
        "arcsin", "arccos", "arctan", "arccot",
    )},
    r"\tg": "tan", r"\ctg": "cot", r"\arctg": "arctan", r"\asin": "arcsin", r"\acos": "arccos",
    r"\atan": "arctan",
}  # fmt: skip
"""Commands of functions of one argument, and what they are called in a tree."""
OF_SEVERAL = {rf"\{name}": name for name in ("gcd", "lcm", "max", "min")}
RELATION = {
    "=": "=", "<": "<", r"\lt": "<", r"\le": "<=", r"\ne": "!=", r"\equiv": "equiv",
    ">": ">", r"\gt": ">", r"\ge": ">=",
}  # fmt: skip
TURNED = {">": "<", ">=": "<="}
TIMES, OVER = (r"\cdot", r"\times", "*"), ("/", r"\div")
CLOSED_BY = {"(": ")", "[": "]", "{": "}"}
ENCLOSED = {
    "|": ("|", "abs"), r"\lfloor": (r"\rfloor", "floor"), r"\lceil": (r"\rceil", "ceil"),
    r"\Vert": (r"\Vert", "norm"),
}  # fmt: skip
OF_TWO = {
    r"\binom": "binomial", r"\dbinom": "binomial", r"\tbinom": "binomial", r"\C": "binomial",
    r"\P": "permutations", r"\A": "permutations",
}  # fmt: skip
OPERATORS = {r"\sum": "sum", r"\prod": "product", r"\int": "integral", r"\lim": "limit"}
STARTING = {
    *FUNCTIONS, *OF_SEVERAL, *OPERATORS, *OF_TWO, *CLOSED_BY, r"\lfloor", r"\lceil", r"\frac",
    r"\sqrt",
}  # fmt: skip
