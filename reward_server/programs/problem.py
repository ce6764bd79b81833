"""The tests of a programming problem, from the forms in which data sets carry them.

* `{"inputs": [...], "outputs": [...]}`, with `fn_name` for calls (APPS, TACO, CodeContests);
* `[{"input": ..., "output": ..., "testtype": "stdin" | "functional"}, ...]` (LiveCodeBench,
  Codeforces; `type` and `fn_name` in a test will do too);
* Python that asserts (`check(candidate)` of HumanEval, `{"functional": ...}` of LeetCode), or a
  list of assertions (MBPP, behind its `test_imports` and `test_setup_code`).

The first two may also be JSON text. Calls need the function's name: `fn_name`, `func_name` or
`entry_point` of the row, of a test or of its `metadata`, or the function in `starter_code` or in
the question. A call's arguments are a list, or text with one JSON value per line, beside which the
output is JSON as well; where text is no JSON, it may be a value as Python writes it.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reward_server.programs import statement

CALLS = ("functional", "function_call", "call")
NAMES = ("fn_name", "func_name", "entry_point")
_INTEGER = re.compile(r"-?[0-9]{1,18}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StdinTest:
    """Standard input, and what must be printed."""

    stdin: str
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTest:
    """Arguments of a call, and the value that must come back.

    Attributes:
        or_else: Values that will do as well, where the data's form may be read in two ways.
    """

    args: tuple[Any, ...]
    expected: Any
    or_else: tuple[Any, ...] = ()


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


def read(
    reference: Mapping[str, Any], question: str, *, skips_unnamed: bool = False
) -> ProgramTests:
    """Read the tests of a prompt's problem.

    Args:
        reference: The columns of its row; `tests` is needed.
        question: Its text, which may name the function and the precision.
        skips_unnamed: Leave out calls that nothing names, where there are other tests.

    Raises:
        ValueError: There are no tests, or some that cannot be run; the message says which rule.
    """
    tests = reference.get("tests")
    if isinstance(tests, str) and tests.lstrip()[:1] in ("[", "{"):
        tests = _json(tests)
    tolerance = reference.get("tolerance")
    tolerance = statement.tolerance_of(question) if tolerance is None else float(tolerance)
    script = _script(reference, tests)
    if script:
        entry = _name(reference, [])
        prelude = statement.stub_of(question, entry)
        return ProgramTests(script=script, entry=entry, prelude=prelude, tolerance=tolerance)
    rows = list(_rows(tests))
    name = _name(reference, [tests, *rows] if isinstance(tests, Mapping) else rows)
    calls = [row for row in rows if _is_call(row, name)]
    starter = str(reference.get("starter_code") or "")
    entry = statement.entry_of(name, starter, question) if calls else ""
    if calls and not entry:
        if not skips_unnamed or len(calls) == len(rows):
            raise ValueError(
                f"{len(calls)} of its {len(rows)} tests call a function, but nothing names it: "
                "give `fn_name`, `starter_code` or `metadata.func_name`, or leave them out of it "
                '(reward.options.code.unnamed_calls = "skip" does where there are other tests)'
            )
        rows, calls = [row for row in rows if not _is_call(row, name)], []
    return ProgramTests(
        stdin_tests=tuple(_stdin_test(row) for row in rows if not _is_call(row, name)),
        call_tests=tuple(_call_tests(calls, is_columns=isinstance(tests, Mapping))),
        entry=entry,
        tolerance=tolerance,
        ignores_case=statement.ignores_case(question),
    )


def _script(reference: Mapping[str, Any], tests: Any) -> str:
    """Tests that are Python; empty where they are data."""
    if isinstance(tests, Mapping) and isinstance(tests.get("functional"), str):
        tests = tests["functional"]
    if isinstance(tests, str):
        tests = [tests]
    if not isinstance(tests, list | tuple) or not all(isinstance(test, str) for test in tests):
        return ""
    if not any(map(str.strip, tests)):
        return ""
    before = [*(reference.get("test_imports") or ()), reference.get("test_setup_code") or ""]
    return "\n".join([*map(str, before), *tests])


def _rows(tests: Any) -> Iterator[Mapping[str, Any]]:
    """A mapping per test, columns of inputs and outputs made into such.

    Raises:
        ValueError: There are none, or one is none.
    """
    if not tests or not isinstance(tests, Mapping | list | tuple):
        raise ValueError("it has no `tests`")
    if not isinstance(tests, Mapping):
        for test in tests:
            if not isinstance(test, Mapping):
                raise ValueError(
                    f"one of its `tests` is no table of input and output: {test!r:.80}"
                )
            yield test
        return
    inputs, outputs = tests.get("inputs"), tests.get("outputs")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs:
        raise ValueError("its `tests` have neither inputs and outputs nor a functional script")
    if len(inputs) != len(outputs):
        raise ValueError(f"its tests have {len(inputs)} inputs, but {len(outputs)} outputs")
    for given, expected in zip(inputs, outputs, strict=True):
        yield {"input": given, "output": expected}


def _name(reference: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> str:
    """What calls call, where the data name it: the row, else its tests.

    Raises:
        ValueError: The tests name several functions.
    """
    found = dict.fromkeys(_names(reference)) or dict.fromkeys(
        name for test in tests for name in _names(test)
    )
    if len(found) > 1:
        raise ValueError(f"its tests call several functions: {', '.join(found)}")
    return next(iter(found), "")


def _names(table: Mapping[str, Any]) -> Iterator[str]:
    """The first name in a table, and else in its metadata, which may be JSON text."""
    metadata = table.get("metadata")
    if isinstance(metadata, str) and metadata.lstrip().startswith("{"):
        metadata = _json(metadata)
    for place in (table, metadata):
        if isinstance(place, Mapping) and (name := next(filter(None, map(place.get, NAMES)), None)):
            yield str(name)
            return


def _is_call(test: Mapping[str, Any], name: str) -> bool:
    """Whether a test calls; one that does not say so does where the data name a function."""
    kind = test.get("testtype") or test.get("type")
    return kind in CALLS if kind else bool(name)


def _stdin_test(test: Mapping[str, Any]) -> StdinTest:
    return StdinTest(stdin=_lines(test.get("input")), expected=_lines(test.get("output")))


def _lines(value: Any) -> str:
    """Text, or a list of lines as some sets have it."""
    if isinstance(value, list):
        return "\n".join(map(str, value)) + "\n"
    return "" if value is None else str(value)


def _call_tests(tests: Sequence[Mapping[str, Any]], *, is_columns: bool) -> Iterator[CallTest]:
    """The calls of a problem. Some sets wrap each value that must come back in a list.

    Where every one is a list of one value, that value will do too: so APPS and TACO have it, and so
    do those who write arguments as lists. A call's own JSON, one value per line, is taken at its
    word, as in LiveCodeBench.
    """
    readings = [_readings(test.get("input"), test.get("output")) for test in tests]
    may_wrap = is_columns or not any(isinstance(test.get("input"), str) for test in tests)
    if may_wrap and all(isinstance(r[-1], list | tuple) and len(r[-1]) == 1 for r in readings):
        readings = [[*reading, reading[-1][0]] for reading in readings]
    for test, (expected, *others) in zip(tests, readings, strict=True):
        args = _args(test.get("input"))
        if is_columns:
            args = tuple(map(_integer_keys, args))
        yield CallTest(args=args, expected=expected, or_else=tuple(others))


def _readings(given: Any, expected: Any) -> list[Any]:
    """What an output may mean. Text is JSON beside an input that is; else it may be itself."""
    if not isinstance(expected, str):
        return [expected]
    if isinstance(given, str):
        with contextlib.suppress(ValueError):
            return [_json(expected)]
    try:
        return [expected, _value(expected)]
    except ValueError:
        return [expected]


def _args(given: Any) -> tuple[Any, ...]:
    if isinstance(given, str):
        return tuple(_value(line) for line in given.split("\n") if line.strip())
    return tuple(given) if isinstance(given, list | tuple) else (given,)


def _integer_keys(value: Any) -> Any:
    """A table that JSON gave text as keys, with the integers that it had before (as in APPS)."""
    if isinstance(value, dict) and all(_INTEGER.fullmatch(str(key)) for key in value):
        return {int(key): item for key, item in value.items()}
    return value


def _value(text: str) -> Any:
    """What JSON means, or Python where it is none: `True`, `(1, 2)`."""
    with contextlib.suppress(ValueError):
        return _json(text)
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"a test is neither JSON nor a value of Python: {text[:80]!r}") from error


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"a test is no JSON: {text[:80]!r}") from error
