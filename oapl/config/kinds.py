"""A kind of plugin is a folder of files that all declare the same things.

    class DeviceFile(Protocol):
        TORCH_DEVICE: Annotated[str, "torch's name of the device", 'TORCH_DEVICE = "cpu"']
        def resources(self, config: RunConfig) -> dict[str, Any]: "What a Ray actor asks for."

    DEVICES: Kind[DeviceFile] = Kind("oapl.devices", DeviceFile)
    DEVICES.load("cpu").TORCH_DEVICE

The Protocol stands in the folder's `base`, beside the kind (of objectives: in
`oapl.config.objective`). A file that lacks a declaration is refused when it is loaded, with what is
missing, what it means and an example; so nothing looks for a declaration that may not be there.
"""

from __future__ import annotations

import collections.abc
import importlib
import inspect
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar, cast

from pydantic import ValidationError

from oapl.config import plugins
from oapl.config.listing import is_section
from oapl.config.messages import explain
from oapl.errors import InputError

F = TypeVar("F")


@dataclass(frozen=True, slots=True)
class Kind(Generic[F]):
    """Where the plugins of a kind lie, and what each of them declares.

    Attributes:
        package: Dotted.
        file: The Protocol of a file: its attributes `NAME: Annotated[TYPE, MEANING, EXAMPLE]`, and
            as its methods the functions that a file has, whose docstrings are their meaning.
    """

    package: str
    file: type

    def names(self) -> list[str]:
        """The files there are."""
        return plugins.names(self.package)

    def load(self, name: object, setting: str = "") -> F:
        """Import the file of that name, or a module of the user's own by its dotted path.

        Args:
            name: As the user wrote it.
            setting: Config key to name in the error.

        Raises:
            InputError: There is none, or it lacks a declaration; one line each.
        """
        where = f"{setting} = {name!r}" if setting else repr(name)
        target = plugins.find(self.package, name, setting)
        try:
            module = importlib.import_module(target)
        except ValidationError as error:  # of a declaration, which checks itself when it is made
            lines = _explained(error, self.file)
            raise InputError("\n".join(f"{where}: {target}, {line}" for line in lines)) from error
        if lines := list(_lacks(module, self.file)):
            raise InputError("\n".join(f"{where}: {module.__file__} {line}" for line in lines))
        return cast(F, module)


def _explained(error: ValidationError, file: type) -> list[str]:
    for name, (wanted, *_) in _attributes(file).items():
        if getattr(wanted, "__name__", "") == error.title:
            return explain(error, wanted, f"{name}.")
    raise error  # of something else that the module makes


def _lacks(module: ModuleType, file: type) -> Iterator[str]:
    """What a module lacks to be such a file."""
    there = vars(module)
    for name, (wanted, meaning, example) in _attributes(file).items():
        if name not in there:
            yield f"has no {name}, {meaning}; add: {example}"
        elif not _is(there[name], wanted):
            kind = "section" if wanted is type else getattr(wanted, "__name__", wanted)
            yield f"has a {name} that is no {kind}, but {meaning}; write: {example}"
    for name, function in _functions(file).items():
        call = f"{name}{function}"
        meaning = _meaning(file, name)
        if name not in there:
            yield f"has no function {name}: {meaning}; add: def {call}"
        elif not (callable(there[name]) and _takes(there[name], function)):
            yield f"has a {name} that cannot be called so: {meaning}; write: def {call}"


def _attributes(file: type) -> dict[str, tuple[Any, ...]]:
    """Type, meaning and example of each."""
    hints = typing.get_type_hints(file, include_extras=True)
    return {name: typing.get_args(hint) for name, hint in hints.items()}


def _functions(file: type) -> dict[str, inspect.Signature]:
    """The functions that a file has, as it writes them: without `self`."""
    found = {}
    for name, function in vars(file).items():
        if inspect.isfunction(function) and not name.startswith("_"):
            signature = inspect.signature(function)
            _, *parameters = signature.parameters.values()
            found[name] = signature.replace(parameters=parameters)
    return found


def _meaning(file: type, name: str) -> str:
    return (inspect.getdoc(getattr(file, name)) or "").partition("\n")[0].rstrip(".")


def _is(value: object, wanted: Any) -> bool:
    if wanted is type:  # the only class that files have in common: their options
        return is_section(value)
    if typing.get_origin(wanted) is collections.abc.Callable:
        return callable(value)
    return isinstance(value, wanted)


def _takes(function: Callable[..., Any], wanted: inspect.Signature) -> bool:
    """Whether it can be called as its kind's are."""
    by_name = {p.name: None for p in wanted.parameters.values() if p.kind is p.KEYWORD_ONLY}
    by_place = [None] * (len(wanted.parameters) - len(by_name))
    try:
        inspect.signature(function).bind(*by_place, **by_name)
    except TypeError:
        return False
    return True
