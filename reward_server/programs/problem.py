"""The tests of a programming problem, from the forms in which data sets carry them.

* `{"inputs": [...], "outputs": [...]}`, with `fn_name` for calls (APPS, TACO, CodeContests);
* `[{"input": ..., "output": ..., "testtype": "stdin" | "functional"}, ...]` (LiveCodeBench,
  Codeforces), a call's arguments one JSON value per line;
* Python that asserts (`check(candidate)` of HumanEval, `{"functional": ...}` of LeetCode).

The first two may also be JSON text. Calls need the function's name: `fn_name`, or `func_name` in a
test's `metadata`, or the `class Solution` of `starter_code` or of the question.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StdinTest:
    """Standard input, and what must be printed."""

    stdin: str
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTest:
    """Arguments of a call, and the value that must come back."""

    args: tuple[Any, ...]
    expected: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTests:
    """What a submission is tested by.

    Attributes:
        stdin_tests: Runs from standard input to standard output.
        call_tests: Calls of `entry`.
        script: Python that asserts; empty where there is none.
        entry: What is called: `name`, or `Class().name`.
        prelude: Python that stands before the submission: the stub that the question consists of.
        tolerance: Absolute or relative error allowed in numbers; 0 where the problem says nothing.
        ignores_case: It says that letters may be printed in any case.
    """

    stdin_tests: tuple[StdinTest, ...] = ()
    call_tests: tuple[CallTest, ...] = ()
    script: str = ""
    entry: str = ""
    prelude: str = ""
    tolerance: float = 0.0
    ignores_case: bool = False

    @property
    def num_tests(self) -> int:
        """The number of tests that is known before they are run: those of `script` are not."""
        return len(self.stdin_tests) + len(self.call_tests)


def read(reference: Mapping[str, Any], question: str) -> ProgramTests:
    """Read the tests of a prompt's problem.

    Args:
        reference: The columns of its row; `tests` is needed.
        question: Its text, which may name the function and the precision.

    Raises:
        ValueError: There are no tests, or none that can be run; the message says which rule.
    """
    tests = reference.get("tests")
    if isinstance(tests, str) and tests.lstrip()[:1] in ("[", "{"):
        tests = _json(tests)
    tolerance = reference.get("tolerance")
    tolerance = tolerance_of(question) if tolerance is None else float(tolerance)
    if isinstance(tests, Mapping) and isinstance(tests.get("functional"), str):
        tests = tests["functional"]
    if isinstance(tests, str) and tests.strip():
        entry = str(reference.get("entry_point") or "")
        prelude = stub_of(question, entry)
        return ProgramTests(script=tests, entry=entry, prelude=prelude, tolerance=tolerance)
    if isinstance(tests, Mapping):
        tests = _pairs(tests)
    if not isinstance(tests, Sequence) or isinstance(tests, str | bytes) or not tests:
        raise ValueError("it has no `tests`")
    entry = _entry(reference, tests, question)
    stdin_tests = tuple(_stdin_test(t) for t in tests if not _is_call(t))
    call_tests = tuple(_call_test(t) for t in tests if _is_call(t)) if entry else ()
    if not stdin_tests and not call_tests:
        raise ValueError(
            "its tests call a function, but nothing names it: `fn_name`, `starter_code` or "
            "`metadata.func_name`"
        )
    return ProgramTests(
        stdin_tests=stdin_tests,
        call_tests=call_tests,
        entry=entry,
        tolerance=tolerance,
        ignores_case=bool(_ANY_CASE.search(question)),
    )


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
MAX_TOLERANCE_EXPONENT = 15


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


def _pairs(tests: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Columns of inputs and outputs as a row per test."""
    inputs, outputs = tests.get("inputs"), tests.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs:
        raise ValueError("its `tests` have neither inputs and outputs nor a functional script")
    if len(inputs) != len(outputs):
        raise ValueError(f"its tests have {len(inputs)} inputs, but {len(outputs)} outputs")
    name = tests.get("fn_name")
    kind = "functional" if name else "stdin"
    extra = {"metadata": {"func_name": name}} if name else {}
    return [
        {"input": given, "output": expected, "testtype": kind, **extra}
        for given, expected in zip(inputs, outputs, strict=True)
    ]


def _is_call(test: Mapping[str, Any]) -> bool:
    return test.get("testtype") == "functional"


def _stdin_test(test: Mapping[str, Any]) -> StdinTest:
    return StdinTest(stdin=_lines(test.get("input")), expected=_lines(test.get("output")))


def _lines(value: Any) -> str:
    """Text, or a list of lines as some sets have it."""
    if isinstance(value, list):
        return "\n".join(map(str, value)) + "\n"
    return "" if value is None else str(value)


def _call_test(test: Mapping[str, Any]) -> CallTest:
    given, expected = test.get("input"), test.get("output")
    if isinstance(given, str):
        args = tuple(_json(line) for line in given.split("\n") if line.strip())
    else:
        args = tuple(given) if isinstance(given, list) else (given,)
    return CallTest(args=args, expected=_json(expected) if isinstance(expected, str) else expected)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a test is no JSON: {text[:80]!r}") from error


def _entry(reference: Mapping[str, Any], tests: Sequence[Mapping[str, Any]], question: str) -> str:
    """What calls call, by whatever names it first."""
    name = reference.get("fn_name")
    for test in tests:
        metadata = test.get("metadata")
        if not name and isinstance(metadata, Mapping):
            name = metadata.get("func_name")
    starter = str(reference.get("starter_code") or "")
    code = starter if "def " in starter else question
    is_method = bool(re.search(r"class\s+Solution\b", code))
    if not name and (is_method or starter):
        first = re.search(r"^\s*def\s+(?!_)(\w+)", code, re.MULTILINE)
        name = first[1] if first else None
    if not name:
        return ""
    name = str(name)
    return f"Solution().{name}" if is_method and "." not in name else name
