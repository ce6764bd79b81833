"""A plugin is a module found by its file's name, or by a dotted path outside the tree.

No registry and no decorator. What the files of a folder have in common is in `oapl.config.kinds`;
here are their names, their modules, and how the options that a user wrote become a file's `Config`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from oapl.config.messages import explain, shown
from oapl.errors import InputError

C = TypeVar("C")


def names(package: str) -> list[str]:
    """Plugin files of a package; `base` and helpers, `_name`, are none."""
    files = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return sorted(f.name for f in files if f.name != "base" and not f.name.startswith("_"))


def find(package: str, name: object, setting: str = "") -> str:
    """The module of a plugin; a name with a dot is a module path of the user's own.

    Args:
        package: Dotted, `oapl.objectives`.
        name: As the user wrote it: file name without `.py`, or a dotted module path.
        setting: Config key to name in the error.

    Raises:
        InputError: There is none of that name; the nearest one, and what there is.
    """
    where, known = f"{setting} = " if setting else "", names(package)
    if not isinstance(name, str) or not name:
        raise InputError(
            f"{where}{shown(name)}: must be the name of a file of {package}; "
            f"there are {', '.join(known)}"
        )
    if name in known or ("." in name and _exists(name)):
        return name if "." in name else f"{package}.{name}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(
        f"{where}{name!r} is not one of {package}; {hint}"
        f"there are {', '.join(known)}, or a dotted module path of your own"
    )


def parse(config: type[C], options: Mapping[str, Any], prefix: str) -> C:
    """A plugin's `Config` made of its own options.

    Args:
        config: The `Config` of the plugin's file.
        options: As the user wrote them, without the plugin's name.
        prefix: Dotted key of the options with its dot, `reward.options.math.`.

    Raises:
        InputError: One line per problem: key, value and rule, or the nearest key.
    """
    try:
        return config(**options)
    except ValidationError as error:
        raise InputError("\n".join(explain(error, config, prefix))) from error


def resolve(dotted: str) -> Any:
    """The object at `package.module:name`."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
