"""Waits without a deadline, found in source text: for threads, processes, sockets, Ray, ranks.

A wait is one of the calls below. It is bounded where the call has a limit of its own, or stands
inside `within(...)`, `call_within(...)`, `asyncio.wait_for(...)` or a block of
`asyncio.timeout(...)`. What a function awaits of our own functions is not followed: each is looked
at where it waits itself.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LIMITS = ("timeout", "timeout_s", "timeout_ms", "seconds")
WITHOUT_ARGUMENTS = {
    "join",
    "wait",
    "acquire",
    "result",
    "exception",
    "get",
    "communicate",
    "accept",
}
"""Methods that wait for ever when they are given nothing."""
OUTCOMES = {"result", "exception"}
"""In a coroutine these are asyncio's, which do not wait: they raise where nothing has come yet."""
WITH_A_LIMIT = {
    "ray.get": 2,
    "ray.wait": 3,
    "asyncio.wait": 9,
    "subprocess.run": 99,
    "subprocess.call": 99,
    "subprocess.check_call": 99,
    "subprocess.check_output": 99,
    "socket.create_connection": 2,
    "urllib.request.urlopen": 3,
    "concurrent.futures.wait": 2,
    "futures.wait": 2,
    "select.select": 4,
    "wait_for": 2,
    "init_process_group": 99,
    "init_distributed": 99,
    "TCPStore": 99,
    "OpenAI": 99,
    "AsyncOpenAI": 99,
}
"""Calls that take a limit by name, or as this positional argument at the latest. `wait_for` is that
of a condition; `init_*` give all collectives theirs."""
NEVER_LIMITED = {
    "recv",
    "recv_into",
    "recvmsg",
    "recv_fds",
    "waitpid",
    "flock",
    "as_completed",
    "monitored_barrier",
}
"""Calls whose limit, if any, is set elsewhere: each is listed with its own."""
OF_OTHERS = ("handle", "remote")
"""Names in a chain of calls, by which another process is asked."""
BOUNDS = ("within", "call_within", "asyncio.wait_for", "asyncio.timeout", "asyncio.timeout_at")


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait without a deadline.

    Attributes:
        path: Of the file, from the root.
        line: Where.
        function: Around it, `Class.method`.
        call: What waits.
    """

    path: str
    line: int
    function: str
    call: str

    @property
    def place(self) -> str:
        """By what the list of allowed waits knows it: lines move."""
        return f"{self.path}:{self.function}:{self.call}"


def naked_waits(file: Path, root: Path) -> Iterator[Wait]:
    """Find the waits without a deadline of a module.

    Args:
        file: Its source.
        root: From where paths are told.
    """
    walker = _Walker(str(file.relative_to(root)))
    walker.visit(ast.parse(file.read_text()))
    yield from walker.found


class _Walker(ast.NodeVisitor):
    def __init__(self, path: str) -> None:
        self.found: list[Wait] = []
        self._path = path
        self._names: list[str] = []
        self._bounds = 0
        self._is_async = False

    def _named(self, node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        # A function that is defined inside a bounded block is not called there alone.
        outer = self._bounds, self._is_async
        self._bounds, self._is_async = 0, isinstance(node, ast.AsyncFunctionDef)
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()
        self._bounds, self._is_async = outer

    visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _named

    def visit_AsyncWith(self, node: ast.AsyncWith) -> None:
        is_bound = any(_name(item.context_expr) in BOUNDS for item in node.items)
        self._bounded(node, is_bound)

    def visit_Call(self, node: ast.Call) -> None:
        is_outcome = self._is_async and _name(node).rpartition(".")[2] in OUTCOMES
        if self._bounds == 0 and not is_outcome and _is_naked(node):
            self._add(node)
        self._bounded(node, _name(node) in BOUNDS)

    def visit_Await(self, node: ast.Await) -> None:
        name = _name(node.value)
        if self._bounds == 0 and any(part in OF_OTHERS for part in name.split(".")):
            self._add(node.value)
        self.generic_visit(node)

    def _bounded(self, node: ast.AST, is_bound: bool) -> None:
        self._bounds += is_bound
        self.generic_visit(node)
        self._bounds -= is_bound

    def _add(self, node: ast.AST) -> None:
        function = ".".join(self._names) or "module"
        self.found.append(Wait(self._path, node.lineno, function, _name(node)))  # type: ignore[attr-defined]


def _is_naked(call: ast.Call) -> bool:
    name = _name(call)
    last = name.rpartition(".")[2]
    limits = {word.arg for word in call.keywords}
    if limits & {*LIMITS}:
        return False
    for known, position in WITH_A_LIMIT.items():
        if name == known or ("." not in known and last == known and name != "asyncio.wait_for"):
            return len(call.args) < position
    if last in NEVER_LIMITED:
        return True
    is_method = isinstance(call.func, ast.Attribute)
    return is_method and last in WITHOUT_ARGUMENTS and not call.args and not call.keywords


def _name(node: ast.AST) -> str:
    """Dotted, as it is written: of a call what is called, calls and items within it left out."""
    if isinstance(node, ast.Call):
        return _name(node.func)
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""
