"""The standard streams of a program: as Python makes them, by their device names, at the end.

There is no /proc in a jail and so no /dev/stdin: a program that opens one of its own streams by
name is given another descriptor of it. That opens nothing that the program does not have.
"""

from __future__ import annotations

import builtins
import io
import os
import sys
import types
from collections.abc import Mapping
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")
_PATHS = {
    path: number
    for number, name in enumerate(_NAMES)
    for path in (f"/dev/{name}", f"/dev/fd/{number}", f"/proc/self/fd/{number}")
}
_python_open, _system_open = builtins.open, os.open
_METHODS = (types.BuiltinMethodType, types.MethodType)
_FILE: Any = io.IOBase.__base__  # a plain class: to ask the abstract one costs each program 0.3 ms
_first_output: list[Any] = []  # standard output as it was made, and the buffer behind it


def prepare() -> None:
    """Make the streams for the programs to come, once; what is behind them changes.

    Output is made over a pipe, as programs will have it: streams remember whether they can seek.
    """
    reader, writer = os.pipe()
    null = os.dup(1)
    os.dup2(writer, 1)
    for number, name in enumerate(_NAMES):
        stream = _text(number, "w" if number else "r", f"<{name}>")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.dup2(null, 1)
    for descriptor in (reader, writer, null):
        os.close(descriptor)
    _first_output[:] = sys.stdout, sys.stdout.buffer
    builtins.open = io.open = _open  # type: ignore[assignment]
    os.open = _open_descriptor


def _text(descriptor: int, mode: str, name: str) -> Any:
    buffer: Any = _python_open(descriptor, mode + "b", closefd=False)
    buffer.raw.name = name
    stream: Any = io.TextIOWrapper(buffer, encoding="utf-8", errors="surrogateescape")
    stream.mode = mode
    return stream


def _open(file: Any, *args: Any, **kwargs: Any) -> Any:
    """`open`, which knows the standard streams by name."""
    number = _number(file)
    return _python_open(file if number is None else os.dup(number), *args, **kwargs)


def _open_descriptor(path: Any, *args: Any, **kwargs: Any) -> int:
    """`os.open`, likewise."""
    number = _number(path)
    return _system_open(path, *args, **kwargs) if number is None else os.dup(number)


def _number(path: Any) -> int | None:
    if isinstance(path, int):
        return None
    try:
        return _PATHS.get(os.fsdecode(path))
    except TypeError:  # no path at all, which the real one will say
        return None


def flush() -> None:
    """Flush standard output, where the program still has one; what that raises is its failure."""
    stream: Any = getattr(sys, "stdout", None)
    try:
        is_gone = stream is None or getattr(stream, "closed", False)
    except ValueError:  # detached
        return
    if not is_gone and hasattr(stream, "flush"):
        stream.flush()


def flush_rest(namespace: Mapping[str, Any]) -> None:
    """Flush what nobody closed: the first standard output, and the files that globals hold.

    Also files of which they hold a method: `write = open(1, "w").write`. Python flushes these when
    it takes itself apart, and says nothing of what fails there. Every program pays for this, and a
    function that is called for the first time in a fork costs it a copy of the function's page: so
    none is.

    Args:
        namespace: The globals of the program.
    """
    now = getattr(sys, "stdout", None)
    for value in (*namespace.values(), *_first_output):
        kind = type(value)
        if kind in _METHODS:
            value = value.__self__
            kind = type(value)
        if value is not now and issubclass(kind, _FILE):
            try:
                if not value.closed:
                    value.flush()
            except BaseException:  # noqa: BLE001 - detached; or flush is the program's own
                pass
