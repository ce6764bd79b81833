"""A user's module: found where the run is launched, read without running it, loaded in a worker."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterator
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

from oapl.errors import InputError

Function = ast.FunctionDef | ast.AsyncFunctionDef


def split(function: str, setting: str) -> tuple[str, str]:
    """Take `path/to/file.py:NAME`, `package.module:NAME` or `package.module.NAME` apart.

    Args:
        function: As the user wrote it.
        setting: Its key, for errors.

    Returns:
        File or module, and the function's name.

    Raises:
        InputError: It is none of them.
    """
    place, colon, name = function.rpartition(":")
    if not colon and not function.endswith(".py"):
        place, _, name = function.rpartition(".")
    if not place or not name.isidentifier():
        raise InputError(
            f"{setting} = {function!r} names no function; write path/to/file.py:reward or "
            "package.module:reward"
        )
    return place, name


def text_of(place: str, setting: str) -> str:
    """Read the source of a file or module.

    Args:
        place: A path, or a module's name.
        setting: The key that names it, for errors.

    Raises:
        InputError: There is none, or it cannot be read.
    """
    path = Path(place).expanduser() if place.endswith(".py") else _module_file(place, setting)
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"{setting}: {path.absolute()} cannot be read ({why}); give the path of a Python file, "
            "relative to where you launch, or package.module:NAME"
        ) from error


def functions_in(text: str, place: str, setting: str) -> tuple[dict[str, Function], set[str]]:
    """Read which functions a module has, without running it.

    Args:
        text: Its source.
        place: Of it, for errors.
        setting: The key that names it, for errors.

    Returns:
        The functions that it defines, and the names it gets otherwise, by import or assignment:
        what those are shows in the worker.

    Raises:
        InputError: A syntax error.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:  # ValueError: a NUL
        line = getattr(error, "lineno", None) or 1
        message = getattr(error, "msg", None) or str(error)
        raise InputError(f"{setting}: {place}, line {line}: {message}") from error
    functions: dict[str, Function] = {}
    assigned: set[str] = set()
    for node in _at_the_top(tree):
        if isinstance(node, Function):
            functions[node.name] = node
        elif isinstance(node, ast.ClassDef):
            assigned.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            assigned.add(node.id)
        elif isinstance(node, ast.alias):
            assigned.add(node.asname or node.name)
    return functions, assigned


def _at_the_top(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when the module is imported: branches too, but no function's or class's inside."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, Function | ast.ClassDef | ast.Lambda):
            yield from _at_the_top(child)


def signature_of(function: Function) -> Signature:
    """The signature of a function that was read and not run; every default is None."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    first_default = len(positional) - len(arguments.defaults)
    parameters = [
        Parameter(
            one.arg,
            Parameter.POSITIONAL_ONLY
            if index < len(arguments.posonlyargs)
            else Parameter.POSITIONAL_OR_KEYWORD,
            default=None if index >= first_default else Parameter.empty,
        )
        for index, one in enumerate(positional)
    ]
    if arguments.vararg:
        parameters.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        value = Parameter.empty if default is None else None
        parameters.append(Parameter(one.arg, Parameter.KEYWORD_ONLY, default=value))
    if arguments.kwarg:
        parameters.append(Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD))
    return Signature(parameters)


def absolute(place: str) -> Path:
    """Where a user's file lies, wherever it is asked for."""
    return Path(place).expanduser().absolute()


def load(place: str, text: str, setting: str) -> types.ModuleType:
    """Run the user's module; its folder is importable where it exists.

    Args:
        place: The file, or the module's name.
        text: The file's source; empty to read it here.
        setting: The key that names it, for errors.

    Raises:
        InputError: The file cannot be read.
    """
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path, text = absolute(place), text or text_of(place, setting)
    if path.parent.is_dir() and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = types.ModuleType("oapl_reward_function")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    return module


def member(module: types.ModuleType, name: str, setting: str) -> Callable[..., Any]:
    """Take a function out of a module that has run.

    Args:
        module: The user's.
        name: Of the function.
        setting: The key that names it, for errors.

    Raises:
        InputError: There is none of that name, or it cannot be called.
    """
    found = getattr(module, name, None)
    if not callable(found):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise InputError(f"{setting}: {name!r} in {module.__file__} is {kind}; name a function")
    return found


def _module_file(module: str, setting: str) -> Path:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise InputError(
            f"{setting}: there is no module {module!r} on Python's path; for a file write "
            "path/to/file.py:NAME"
        )
    return Path(found.origin)
