"""Files of the user's that Ray's workers would import in the place of ours or of a library.

Ray puts the working directory, and the folder of the program, in front of what its workers import
from, and a job is `python -m oapl` in it; a command started as `oapl` looks nowhere near them, and
so would find nothing wrong. What `python -m` itself imports before the first line of ours cannot be
looked at by us: `oapl`, or `python -P -m oapl`, does without.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.processes.ray_cluster import OWN, PACKAGES
from oapl.errors import InputError
from oapl.shadows import importable

ROOT = Path(__file__).resolve().parents[2]


def check_working_directory() -> None:
    """Refuse such a file in the folders that workers look in first.

    Raises:
        InputError: Names the file, and what it stands in the place of.
    """
    program = str(Path(sys.argv[0]).resolve().parent)
    folders = [str(Path.cwd()), *([program] if program in sys.path else [])]
    for folder in dict.fromkeys(folders):
        for name, path in importable(folder).items():
            if what := _shadowed(name, Path(path).resolve()):
                raise InputError(
                    f"{path}: Ray's workers look in {folder} first, and would import it in the "
                    f"place of {what}; rename it, or give the command in another directory"
                )


def check_shipped(folder: Path) -> None:
    """Refuse such a file in what becomes the working directory of a job.

    A whole copy of oapl there is no such file: it is the one that will run.

    Args:
        folder: That is shipped.

    Raises:
        InputError: Names the file, and what it stands in the place of.
    """
    there = importable(str(folder))
    is_a_copy = all(name in there and Path(there[name]).is_dir() for name in OWN)
    for name, path in there.items():
        is_fine = is_a_copy and name in OWN
        if not is_fine and (what := _shadowed(name, Path(path).resolve())):
            raise InputError(
                f"{path}: a job looks in its working directory first, and would import it in the "
                f"place of {what}; rename it, or give the command in another directory"
            )


def _shadowed(name: str, path: Path) -> str:
    """What a module stands in the place of; empty where it does not."""
    if name in OWN:
        return "" if path == ROOT / name else f"oapl's own package {name}"
    if name in sys.stdlib_module_names:
        return f"Python's own module {name}"
    loaded = getattr(sys.modules.get(name), "__file__", None)
    is_elsewhere = loaded is not None and not Path(loaded).resolve().is_relative_to(path)
    return f"the library {name}" if is_elsewhere or name in PACKAGES else ""
