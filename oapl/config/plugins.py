"""A plugin is a module found by its file's name, or by a dotted path outside the tree.

No registry and no decorator: `load("oapl.objectives", "oapl")` imports `oapl/objectives/oapl.py`.
A typo lists what exists; a dependency missing *inside* the plugin is reported as what it is.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from types import ModuleType
from typing import Any

from oapl.errors import InputError


def names(package: str) -> list[str]:
    """Plugin files of a package; `base` and helpers, `_name`, are none."""
    files = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return sorted(f.name for f in files if f.name != "base" and not f.name.startswith("_"))


def load(package: str, name: str, setting: str = "") -> ModuleType:
    """Import the plugin `name` of `package`; a name with a dot is a module path of the user's own.

    Args:
        package: Dotted package, `oapl.objectives`.
        name: File name without `.py`, or a dotted module path.
        setting: Config key to name in the error.

    Raises:
        InputError: No such plugin.
    """
    target = name if "." in name else f"{package}.{name}"
    known = names(package)
    exists = name in known if "." not in name else _exists(target)
    if not exists:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        where = f"{setting} = " if setting else ""
        raise InputError(
            f"{where}{name!r} is not one of {package}; {hint}"
            f"there are {', '.join(known)}, or a dotted module path of your own"
        )
    return importlib.import_module(target)


def resolve(dotted: str) -> Any:
    """The object at `package.module:name`."""
    module, _, name = dotted.partition(":")
    return getattr(importlib.import_module(module), name)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
