"""Files of the user's that Python would import in the place of its own modules.

Imports nothing that such a file could stand in the place of.
"""

import os
import sys
from importlib.machinery import all_suffixes


def importable(folder: str) -> dict[str, str]:
    """What can be imported from a folder: names, and the paths of their files or folders."""
    found = {}
    for name in sorted(os.listdir(folder) if os.path.isdir(folder) else ()):
        path = os.path.join(folder, name)
        stem, dot, suffix = name.partition(".")
        if os.path.isfile(os.path.join(path, "__init__.py")):
            found[name] = path
        elif dot + suffix in all_suffixes() and os.path.isfile(path):
            found[stem] = path
    return found


def of_python(folder: str) -> str:
    """The first file of a folder that has the name of a module of Python's; empty if none has."""
    files = importable(folder)
    return next((path for name, path in files.items() if name in sys.stdlib_module_names), "")
