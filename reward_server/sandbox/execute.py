"""Runs a program under test: as `__main__`, or by calling what it defines."""

from __future__ import annotations

import atexit
import builtins
import json
import os
import sys
import threading
import types
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from reward_server.sandbox import report, streams, values

MAX_LINE = 8 * 2**20
RECURSION = 50_000  # of functions; a script says it itself


def script(program: Mapping[str, Any]) -> NoReturn:
    """Run as `__main__`, and end as Python ends: threads, then atexit, then a flush."""
    module = main_module()
    code = 1
    try:
        exec(report.compiled(program["source"]), module.__dict__)
        code = 0
    except SystemExit as stop:
        code = _code(stop)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is how it ended
        report.send(report.ending(error))
    failed = _finish()
    streams.flush_rest(module.__dict__)
    os._exit(failed or code)


def _finish() -> int:
    """What Python does at its end; 1 where the output could not be written."""
    failed = 0
    for act in (threading._shutdown, atexit._run_exitfuncs, streams.flush):  # type: ignore[attr-defined]
        try:
            act()
        except SystemExit as stop:
            failed = _code(stop)
        except BaseException as error:  # noqa: BLE001 - the program's own, told like any other
            report.send(report.ending(error))
            failed = 1
    return failed


def _code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    return stop.code & 0xFF if isinstance(stop.code, int) else 1


def main_module(name: str = "__main__") -> types.ModuleType:
    """Make an empty module in the place of ours, as a script of its own would have it.

    Args:
        name: What the module takes itself for; it is found under this name and as `__main__`.
    """
    module = types.ModuleType(name)
    module.__dict__.update(
        __builtins__=builtins, __file__="solution.py", __cached__=None, __annotations__={}
    )
    sys.modules["__main__"] = sys.modules[name] = module
    sys.argv = ["solution.py"]
    return module


def function(program: Mapping[str, Any]) -> NoReturn:
    """Define, call once, report the value."""
    namespace = _defined(program)
    report.send(called(namespace, {}, {"path": program["entry"], "args": program["args"]}))
    os._exit(0)


def serve(program: Mapping[str, Any]) -> NoReturn:
    """Define, then answer calls until the channel closes."""
    namespace = _defined(program)
    objects: dict[str, Any] = {}
    with open(report.CHANNEL, "rb", closefd=False) as calls:
        while line := calls.readline(MAX_LINE):
            answer = called(namespace, objects, json.loads(line))
            report.write(report.CHANNEL, answer)
    os._exit(0)


def _defined(program: Mapping[str, Any]) -> dict[str, Any]:
    """The namespace once the program has run; a program that fails to is the end of it.

    It is imported, not run: `if __name__ == "__main__"` is false. What it may take for granted
    stands behind its own names, as built-in names do, so that none passes for one of its own.
    """
    sys.setrecursionlimit(RECURSION)
    namespace = main_module("solution").__dict__
    namespace["__builtins__"] = _GIVEN
    try:
        exec(report.compiled(program["prelude"]), namespace)
        exec(report.compiled(program["source"]), namespace)
    except BaseException as error:  # noqa: BLE001 - how the program ended, told outside
        report.send(report.ending(error))
        os._exit(1)
    return namespace


def called(
    namespace: dict[str, Any], objects: dict[str, Any], call: Mapping[str, Any]
) -> dict[str, Any]:
    """Make one call, and say what it gave or how it failed.

    Args:
        namespace: What the program defines.
        objects: Class to its one object; a class that is called for the first time is added.
        call: `path`, `args` and perhaps `kwargs`, encoded.

    Returns:
        `value`, encoded, or what `report.ending` makes of the exception.
    """
    nodes = {name: namespace.get(name, kind) for name, kind in values.NODES.items()}
    try:
        found = _entry(namespace, objects, call["path"])
        arguments = [values.decode(item, nodes) for item in call["args"]]
        named = {key: values.decode(v, nodes) for key, v in call.get("kwargs", {}).items()}
        return {"value": values.encode(found(*arguments, **named))}
    except BaseException as error:  # noqa: BLE001 - SystemExit too: it is no value
        return report.ending(error)


def _entry(namespace: dict[str, Any], objects: dict[str, Any], path: str) -> Callable[..., Any]:
    """`name`, or `Class().name`; of each class there is one object.

    Whether a function stands in `class Solution` or alone is the program's choice.
    """
    holder, _, name = path.rpartition("().")
    if holder not in namespace and name in namespace:
        holder = ""
    elif not holder and name not in namespace and hasattr(namespace.get("Solution"), name):
        holder = "Solution"
    if (holder or name) not in namespace:
        raise NameError(f"the program defines no {path}")
    if not holder:
        return namespace[name]
    if holder not in objects:
        objects[holder] = namespace[holder]()
    return getattr(objects[holder], name)


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
_GIVEN: dict[str, Any] = {}


def prepare() -> None:
    """Put together once what programs that are called may take for granted."""
    _GIVEN.update(vars(builtins) | HEADER | values.NODES)
