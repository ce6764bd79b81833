"""Tests that are Python: run here, in a process without a model's text.

What they call lies beyond the channel, in the process of the program under test: arguments go
there, plain data comes back. Each assertion counts, and a failed one does not hide the next.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from reward_server.sandbox import report, values
from reward_server.sandbox.execute import HEADER, MAX_LINE, main_module


class Remote:
    """A name of the program under test, called beyond the channel.

    Args:
        path: `name`, or `Class().name`.
        tolerance: Error allowed in numbers that come back.
    """

    num_calls = 0

    def __init__(self, path: str, tolerance: float) -> None:
        self._path, self._tolerance = path, tolerance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._path[0].isupper() and not args and not kwargs and "." not in self._path:
            return Remote(self._path + "()", self._tolerance)
        call = {
            "path": self._path,
            "args": [values.encode(item) for item in args],
            "kwargs": {key: values.encode(item) for key, item in kwargs.items()},
        }
        Remote.num_calls += 1
        report.write(report.CHANNEL, call)
        line = _ANSWERS.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            raise RuntimeError("the program under test has ended")
        answer = json.loads(line)
        if "value" not in answer:
            raise _raised(str(answer.get("error"))[: report.MAX_ERROR])
        value = values.decode(answer["value"])
        return _near(value, self._tolerance) if self._tolerance else value

    def __getattr__(self, name: str) -> Remote:
        if name.startswith("__"):
            raise AttributeError(name)
        return Remote(f"{self._path}.{name}", self._tolerance)


_OF_TESTS = (AssertionError, StopIteration, StopAsyncIteration)
"""Raised among tests these would be the tests' own."""


def _raised(line: str) -> Exception:
    """The program's exception, of its own type where Python has that: tests may expect it."""
    name, _, message = line.partition(":")
    kind = vars(builtins).get(name)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind not in _OF_TESTS:
        with contextlib.suppress(TypeError):  # one that wants more than a message
            return kind(message.strip())
    return RuntimeError(line)


class Near(float):
    """A number equal to all that the problem's tolerance allows."""

    tolerance = 0.0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, int | float):
            return NotImplemented
        return abs(float(self) - other) <= self.tolerance * max(1.0, abs(other))

    __hash__ = float.__hash__


def _near(value: Any, tolerance: float) -> Any:
    if isinstance(value, float):
        near = Near(value)
        near.tolerance = tolerance
        return near
    if isinstance(value, list | tuple):
        return type(value)(_near(item, tolerance) for item in value)
    return value


class _Counting(ast.NodeTransformer):
    """Each assertion is counted, and a failed one does not hide the next."""

    def __init__(self) -> None:
        self.count = 0

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        if isinstance(node.test, ast.Constant):
            return node
        self.count += 1
        passed, failed = ast.parse("_counts_.passed()\n_counts_.failed()").body
        handler = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [failed])
        return ast.Try(body=[node, passed], handlers=[handler], orelse=[], finalbody=[])


class _AssertionCounts:
    def __init__(self) -> None:
        self.num_passed, self.num_failed, self.error = 0, 0, ""

    def passed(self) -> None:
        self.num_passed += 1

    def failed(self) -> None:
        self.num_failed += 1
        if not self.error:
            self.error = report.line(sys.exc_info()[1])


_ANSWERS: Any = None


def harness(program: Mapping[str, Any]) -> NoReturn:
    """Run tests, report how many assertions held, and end the process."""
    global _ANSWERS
    _ANSWERS = open(report.CHANNEL, "rb", closefd=False)  # noqa: SIM115
    counts, counting = _AssertionCounts(), _Counting()
    namespace = main_module().__dict__
    namespace |= HEADER | values.NODES | _helpers() | {"_counts_": counts}
    ending: dict[str, Any] = {}
    try:
        exec(report.compiled(program["prelude"]), namespace)
        tree = ast.parse(program["source"])
        _call_check(tree, program["entry"])
        remote = _names_of_program(tree, program["entry"], namespace)
        namespace |= {name: Remote(name, program["tolerance"]) for name in remote}
        tree = ast.fix_missing_locations(counting.visit(tree))
        exec(compile(tree, "<tests>", "exec"), namespace)
        if not Remote.num_calls:
            raise ValueError("they call nothing of the program; `entry_point` names its function")
    except BaseException as error:  # noqa: BLE001 - told outside: a failed test, or a broken one
        ending = report.ending(error)
        if not Remote.num_calls:  # before the program had any part in it: the tests are broken
            report.send(ending)
            os._exit(1)
        counts.num_failed += 1
        counts.error = counts.error or ending["error"]
    total = max(counts.num_passed + counts.num_failed, counting.count)
    report.send({**ending, "passed": counts.num_passed, "total": total, "failure": counts.error})
    os._exit(0)


def _call_check(tree: ast.Module, entry: str) -> None:
    """`check(ENTRY)` at the end, where the tests define `check` and leave the call to us."""
    defines = any(isinstance(n, ast.FunctionDef) and n.name == "check" for n in tree.body)
    calls = any(
        isinstance(n, ast.Expr)
        and isinstance(n.value, ast.Call)
        and isinstance(n.value.func, ast.Name)
        and n.value.func.id == "check"
        for n in tree.body
    )
    if defines and not calls and entry:
        tree.body += ast.parse(f"check({entry})").body


def _names_of_program(tree: ast.Module, entry: str, namespace: Mapping[str, Any]) -> list[str]:
    """Names that the program under test must define.

    These are the entry and whatever the tests use and nobody here defines. Where that is nothing,
    the tests call something of a name that is given to them as well, as `add` and `gcd` are.
    """
    used, defined = _used_and_defined(tree)
    foreign = used - defined - set(dir(builtins))
    unknown = foreign - set(namespace)
    if entry or unknown:
        return [name for name in (entry, *sorted(unknown)) if name]
    return sorted(_always_called(tree, foreign))


def _always_called(tree: ast.Module, names: set[str]) -> set[str]:
    """Those that every assertion calls, but for what is only wrapped around another of them."""
    found = [_calls(node) for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    common = names.intersection(*found) if found else set[str]()
    wrapping = {
        name for calls in found for name, call in calls.items() if common & {*_calls(call)} - {name}
    }
    return common - wrapping


def _calls(tree: ast.AST) -> dict[str, ast.Call]:
    """The first call of each name."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {call.func.id: call for call in reversed(calls) if isinstance(call.func, ast.Name)}


def _used_and_defined(tree: ast.Module) -> tuple[set[str], set[str]]:
    used, defined = set[str](), set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).partition(".")[0])
    return used, defined


def _helpers() -> dict[str, Any]:
    def same(left: Any, right: Any) -> bool:
        return values.encode(left) == values.encode(right)

    return {
        "list_node": values.list_node,
        "tree_node": values.tree_node,
        "is_same_list": same,
        "is_same_tree": same,
    }
