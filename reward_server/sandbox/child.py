"""What a fork of the zygote does: lock itself up, run one program, say how it ended.

Descriptors: 0 standard input, 1 standard output, 2 nothing, 3 the program (JSON), 4 the report, and
5, for calls, the channel to whoever calls. A program is run in one of four modes:

* `script`: as `__main__`, from standard input to standard output;
* `function`: defined, then called once; the value goes into the report;
* `serve`: defined, then called as often as the channel asks;
* `harness`: tests, not a model's text; what they call lies beyond the channel, in a `serve`.

The report is JSON and is believed by nobody: a program may write into it whatever it likes. It says
why something failed, or carries a value that is compared elsewhere.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import ctypes
import io
import json
import os
import resource
import signal
import sys
import threading
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from reward_server.sandbox import allowed, bpf, values

REPORT, CHANNEL, PROGRAM = 4, 5, 3
SET_PARENT_DEATH_SIGNAL = 1
STACK_BYTES = 120 * 2**20  # the room that the kernel left below the stack when Python started
MAX_LINE = 8 * 2**20
RECURSION = 50_000  # of functions; a script says it itself
MAX_ERROR = 300


@dataclass(frozen=True, slots=True)
class Lock:
    """What a fork is held to.

    Attributes:
        filter: The seccomp program; empty for none.
        memory_bytes: Most address space; 0 lifts all limits.
        num_tasks: Most threads of this user; 0 where the kernel would count others' too.
        cpu_s: Processor time, behind the deadline.
    """

    filter: bytes
    memory_bytes: int
    num_tasks: int
    cpu_s: int


def become(descriptors: list[int], parent: int, lock: Lock) -> NoReturn:
    """Turn this fork into the program. Never returns."""
    try:
        _rearrange(descriptors)
        libc = ctypes.CDLL(None)
        libc.prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        if lock.memory_bytes:
            _limit(lock)
        if lock.filter and not bpf.install(allowed.of_process(lock.filter, os.getpid())):
            os._exit(1)
        size = os.fstat(PROGRAM).st_size
        program = json.loads(os.pread(PROGRAM, size, 0))
        os.close(PROGRAM)
        MODES[program["mode"]](program)
    finally:
        os._exit(1)


def _rearrange(descriptors: list[int]) -> None:
    import fcntl

    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in descriptors]
    for target, descriptor in zip((0, 1, PROGRAM, REPORT, CHANNEL), high, strict=False):
        os.dup2(descriptor, target)
    os.closerange(3 + len(descriptors) - 2, 1024)


def _limit(lock: Lock) -> None:
    limits = {
        resource.RLIMIT_AS: lock.memory_bytes,
        resource.RLIMIT_CPU: lock.cpu_s,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 32,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_MEMLOCK: 0,
    }
    if lock.num_tasks:
        limits[resource.RLIMIT_NPROC] = lock.num_tasks
    for name, value in limits.items():
        _, hard = resource.getrlimit(name)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard == resource.RLIM_INFINITY or hard > STACK_BYTES:
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))


# A program with input and output


def script(program: Mapping[str, Any]) -> NoReturn:
    """Run as `__main__`, and end as Python ends: threads, then atexit, then a flush."""
    sys.stdin = sys.__stdin__ = _text(0, "r")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _text(1, "w")  # type: ignore[misc]
    module = _main()
    code = 1
    try:
        exec(_compiled(program["source"]), module.__dict__)
        code = 0
    except SystemExit as stop:
        code = _code(stop)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is how it ended
        _report(_ending(error))
    os._exit(_finish() or code)


def _finish() -> int:
    """What Python does at its end; 1 where the output could not be written."""
    failed = 0
    for act in (threading._shutdown, atexit._run_exitfuncs, _flush):  # type: ignore[attr-defined]
        try:
            act()
        except SystemExit as stop:
            failed = _code(stop)
        except BaseException as error:  # noqa: BLE001
            _report(_ending(error))
            failed = 1
    return failed


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None and not getattr(stream, "closed", True):
            stream.flush()


def _code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    return stop.code & 0xFF if isinstance(stop.code, int) else 1


def _text(descriptor: int, mode: str) -> io.TextIOWrapper:
    raw = open(descriptor, mode + "b", closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape")


def _main() -> types.ModuleType:
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __file__="solution.py")
    sys.modules["__main__"] = module
    sys.argv = ["solution.py"]
    return module


# Functions


def function(program: Mapping[str, Any]) -> NoReturn:
    """Define, call once, report the value."""
    namespace = _defined(program)
    _report(_called(namespace, {}, {"path": program["entry"], "args": program["args"]}))
    os._exit(0)


def serve(program: Mapping[str, Any]) -> NoReturn:
    """Define, then answer calls until the channel closes."""
    namespace = _defined(program)
    objects: dict[str, Any] = {}
    with open(CHANNEL, "rb", closefd=False) as calls:
        while line := calls.readline(MAX_LINE):
            answer = _called(namespace, objects, json.loads(line))
            _write(CHANNEL, answer)
    os._exit(0)


def _defined(program: Mapping[str, Any]) -> dict[str, Any]:
    """The namespace once the program has run; a program that fails to is the end of it."""
    sys.setrecursionlimit(RECURSION)
    namespace = _main().__dict__
    namespace |= HEADER | values.NODES
    try:
        exec(_compiled(program["prelude"]), namespace)
        exec(_compiled(program["source"]), namespace)
    except BaseException as error:  # noqa: BLE001
        _report(_ending(error))
        os._exit(1)
    return namespace


def _called(
    namespace: dict[str, Any], objects: dict[str, Any], call: Mapping[str, Any]
) -> dict[str, Any]:
    nodes = {name: namespace.get(name, kind) for name, kind in values.NODES.items()}
    try:
        found = _entry(namespace, objects, call["path"])
        arguments = [values.decode(item, nodes) for item in call["args"]]
        named = {key: values.decode(v, nodes) for key, v in call.get("kwargs", {}).items()}
        return {"value": values.encode(found(*arguments, **named))}
    except BaseException as error:  # noqa: BLE001 - SystemExit too: it is no value
        return _ending(error)


def _entry(namespace: dict[str, Any], objects: dict[str, Any], path: str) -> Callable[..., Any]:
    """`name`, or `Class().name`; of each class there is one object."""
    holder, _, name = path.rpartition("().")
    if not holder:
        return namespace[name]
    if holder not in objects:
        objects[holder] = namespace[holder]()
    return getattr(objects[holder], name)


# Tests that are a program themselves


class Remote:
    """A name of the program under test, called beyond the channel."""

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
        _write(CHANNEL, call)
        line = _ANSWERS.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            raise RuntimeError("the program under test has ended")
        answer = json.loads(line)
        if "value" not in answer:
            raise RuntimeError(str(answer.get("error"))[:MAX_ERROR])
        value = values.decode(answer["value"])
        return _near(value, self._tolerance) if self._tolerance else value

    def __getattr__(self, name: str) -> Remote:
        if name.startswith("__"):
            raise AttributeError(name)
        return Remote(f"{self._path}.{name}", self._tolerance)


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
        passed, failed = ast.parse("_tally_.passed()\n_tally_.failed()").body
        handler = ast.ExceptHandler(ast.Name("Exception", ast.Load()), None, [failed])
        return ast.Try(body=[node, passed], handlers=[handler], orelse=[], finalbody=[])


class _Tally:
    def __init__(self) -> None:
        self.num_passed, self.num_failed, self.error = 0, 0, ""

    def passed(self) -> None:
        self.num_passed += 1

    def failed(self) -> None:
        self.num_failed += 1
        if not self.error:
            self.error = _line(sys.exc_info()[1])


_ANSWERS: Any = None


def harness(program: Mapping[str, Any]) -> NoReturn:
    """Run tests; report how many assertions held."""
    global _ANSWERS
    _ANSWERS = open(CHANNEL, "rb", closefd=False)  # noqa: SIM115
    tally, counting = _Tally(), _Counting()
    namespace = _main().__dict__
    namespace |= HEADER | values.NODES | _helpers() | {"_tally_": tally}
    ending: dict[str, Any] = {}
    try:
        exec(_compiled(program["prelude"]), namespace)
        tree = ast.parse(program["source"])
        _call_check(tree, program["entry"])
        remote = [program["entry"], *_unknown(tree, namespace)]
        namespace |= {name: Remote(name, program["tolerance"]) for name in remote if name}
        tree = ast.fix_missing_locations(counting.visit(tree))
        exec(compile(tree, "<tests>", "exec"), namespace)
    except BaseException as error:  # noqa: BLE001
        ending = _ending(error)
        if not Remote.num_calls:  # before the program had any part in it: the tests are broken
            _report(ending)
            os._exit(1)
        tally.num_failed += 1
        tally.error = tally.error or ending["error"]
    total = max(tally.num_passed + tally.num_failed, counting.count)
    _report({**ending, "passed": tally.num_passed, "total": total, "failure": tally.error})
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


def _unknown(tree: ast.Module, namespace: Mapping[str, Any]) -> list[str]:
    """Names that the tests use and nobody here defines: the program under test must."""
    used, defined = set(), set(namespace) | set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.alias):
            defined.add((node.asname or node.name).partition(".")[0])
    return sorted(used - defined)


def _helpers() -> dict[str, Any]:
    def same(left: Any, right: Any) -> bool:
        return values.encode(left) == values.encode(right)

    return {
        "list_node": values.list_node,
        "tree_node": values.tree_node,
        "is_same_list": same,
        "is_same_tree": same,
    }


# Common ground


def _compiled(source: str) -> types.CodeType:
    try:
        return compile(source, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError) as error:
        _report({"end": "compile_error", "error": _line(error)})
        os._exit(1)


def _ending(error: BaseException) -> dict[str, Any]:
    kind = "raised"
    if isinstance(error, MemoryError):
        kind = "memory"
    elif isinstance(error, PermissionError) or getattr(error, "errno", 0) in (30,):
        kind = "denied"
    return {"end": kind, "error": _line(error)}


def _line(error: BaseException | None) -> str:
    """Type and message; the message is the program's own, and may itself raise."""
    name = type(error).__name__
    try:
        text = f"{name}: {error}"
    except BaseException:  # noqa: BLE001
        text = name
    return " ".join(text.split())[:MAX_ERROR]


def _report(message: Mapping[str, Any]) -> None:
    _write(REPORT, message)


def _write(descriptor: int, message: Mapping[str, Any]) -> None:
    try:
        data = json.dumps(message).encode() + b"\n"
    except (ValueError, RecursionError, TypeError) as error:
        data = json.dumps({"end": "raised", "error": _line(error)}).encode() + b"\n"
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


MODES: Mapping[str, Callable[[Mapping[str, Any]], NoReturn]] = {
    "script": script,
    "function": function,
    "serve": serve,
    "harness": harness,
}


def _header() -> dict[str, Any]:
    """Names that solutions to function problems take for granted, as the sites give them."""
    import bisect
    import collections
    import datetime
    import functools
    import heapq
    import itertools
    import math
    import operator
    import random
    import re
    import string
    import typing

    names: dict[str, Any] = {}
    for module in (typing, collections, itertools, functools, heapq, bisect, string, math):
        public = getattr(module, "__all__", None) or [n for n in vars(module) if n[0] != "_"]
        names |= {name: getattr(module, name) for name in public}
        names[module.__name__] = module
    del names["pow"]  # of math: the built-in one takes a modulus
    for name in ("itemgetter", "attrgetter", "xor", "or_", "and_", "add", "mul", "sub"):
        names[name] = getattr(operator, name)
    modules = (datetime, json, operator, random, re, sys)
    return names | {module.__name__: module for module in modules}


HEADER = _header()
