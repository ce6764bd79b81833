"""A reward function of the user's own: `def reward(prompt, response, reference) -> float`.

`[reward.options.function] function = "path/to/file.py:reward"`, or `"package.module:reward"`, or
`"package.module.reward"`. It receives the prompt's question (or the whole prompt, by `context`),
the response's text (or prompt and response in one, by `response`), and the reference: the answer
itself where `answer` is the only column, else the table of all columns. A file is read where the
run is launched and travels as text, so that every node has it; its own folder is importable where
it exists. The code is loaded in the worker process and nowhere else; an exception in it gives the
configured reward and is counted `error`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from oapl.config.fields import section
from oapl.errors import InputError
from oapl.records import Prompt, Rollout, Verdict
from reward_server.verifiers import base

SETTING = "reward.options.function"
SIGNATURE = "def reward(prompt, response, reference) -> float"


@section
class Config:
    """Options of the user's own reward function."""

    function: str = ""
    """path/to/file.py:NAME, package.module:NAME or package.module.NAME."""
    source: str = ""
    """Text of the file; filled in where the run is launched."""
    context: Literal["question", "text"] = "question"
    """What the function sees of the prompt: the user's question, or the text after templating."""
    response: Literal["response", "context"] = "response"
    """What it sees as the response: itself, or the whole context, prompt text and response."""
    truncated: base.Truncated = "judge"
    """A response cut off before EOS: 0 without a look, or let the function judge it."""
    sandbox: bool = False
    """Jail the process: no network, no files but Python's own."""
    memory_gib: Annotated[float, Field(ge=0)] = 0.0
    """Most address space of the process; 0 means no limit (torch reserves a great deal)."""


class FunctionVerifier:
    """Calls the user's function. See `oapl.interfaces.Verifier`.

    The code is loaded by `start`, in the worker process.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._function: Callable[[str, str, Any], float] | None = None

    def start(self, level: str) -> None:
        """Load the user's code."""
        self._function = load(self._config)

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Call the user's function."""
        cut = base.cut_off(rollout, self._config.truncated, 0.0)
        if cut:
            return cut
        if self._function is None:
            self.start("none")
        assert self._function is not None
        question = prompt.text if self._config.context == "text" else prompt.question or prompt.text
        is_whole = self._config.response == "context"
        response = prompt.text + rollout.text if is_whole else rollout.text
        reward = float(self._function(question, response, _reference(prompt)))
        return Verdict(kind="accepted" if reward > 0 else "wrong_answer", reward=reward)


def build(config: Config) -> FunctionVerifier:
    """See `VerifierFile`."""
    return FunctionVerifier(config)


def limits(config: Config) -> base.Limits:
    """See `Traits`."""
    return base.Limits(is_jailed=config.sandbox, memory_bytes=int(config.memory_gib * base.GIB))


def check(config: Config) -> None:
    """Read the function's source, without running it.

    Raises:
        InputError: No such file, module or function; a syntax error; not three parameters.
    """
    place, name = _split(config.function)
    text = config.source or _text(place)
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise InputError(
            f"{SETTING}.function: {place}, line {error.lineno}: {error.msg}"
        ) from error
    _check_function(tree, place, name)


def prepare(config: Config) -> dict[str, Any]:
    """The file's text, and its path made absolute.

    Raises:
        InputError: No such file.
    """
    place, name = _split(config.function)
    if not place.endswith(".py") or config.source:
        return {}
    path = Path(place).expanduser().absolute()
    return {"function": f"{path}:{name}", "source": _text(place)}


def load(config: Config) -> Callable[[str, str, Any], float]:
    """Run the function's module and return the function."""
    place, name = _split(config.function)
    if not place.endswith(".py"):
        return getattr(importlib.import_module(place), name)
    path = Path(place).expanduser().absolute()
    if path.parent.is_dir() and str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = types.ModuleType("oapl_reward_function")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    exec(compile(config.source or _text(place), str(path), "exec"), module.__dict__)
    return getattr(module, name)


def _reference(prompt: Prompt) -> Any:
    if set(prompt.reference) == {"answer"}:
        return prompt.reference["answer"]
    return dict(prompt.reference)


def _split(function: str) -> tuple[str, str]:
    place, colon, name = function.rpartition(":")
    if not colon and not function.endswith(".py"):
        place, _, name = function.rpartition(".")
    if not place or not name.isidentifier():
        raise InputError(
            f"{SETTING}.function = {function!r} names no function; write path/to/file.py:reward or "
            f"package.module:reward, where that is {SIGNATURE}"
        )
    return place, name


def _text(place: str) -> str:
    path = Path(place).expanduser()
    if not place.endswith(".py"):
        path = _module_file(place)
    try:
        return path.read_text()
    except OSError as error:
        raise InputError(
            f"{SETTING}.function: {path.absolute()} cannot be read ({error.strerror}); give the "
            "path of a Python file, relative to where you launch, or package.module:NAME"
        ) from error


def _module_file(module: str) -> Path:
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        found = None
    if found is None or not found.origin or not found.origin.endswith(".py"):
        raise InputError(
            f"{SETTING}.function: there is no module {module!r} on Python's path; for a file write "
            "path/to/file.py:NAME"
        )
    return Path(found.origin)


def _check_function(tree: ast.Module, place: str, name: str) -> None:
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    if name not in functions:
        if name in _assigned(tree):
            return
        known = ", ".join(functions) or "none"
        raise InputError(
            f"{SETTING}.function: {place} has no function {name!r}; its functions are {known}"
        )
    arguments = functions[name].args
    positional = arguments.posonlyargs + arguments.args
    required = len(positional) - len(arguments.defaults)
    needs_keyword = any(default is None for default in arguments.kw_defaults)
    fits = required <= 3 and (len(positional) >= 3 or arguments.vararg) and not needs_keyword
    if not fits:
        raise InputError(
            f"{SETTING}.function: {name} in {place}, line {functions[name].lineno}, takes "
            f"{len(positional)} parameters, but it is called with three: {SIGNATURE}"
        )


def _assigned(tree: ast.Module) -> set[str]:
    """Names a module gets otherwise: by import or assignment; what they are shows in the worker."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
    return names


DECLARES = base.Traits(runs_programs=False, limits=limits, check=check, prepare=prepare)
