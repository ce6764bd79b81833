"""The command `oapl` (`python -m oapl VERB`): are the five packages ours? Then `deploy.commands`.

Distributions called actors, learner and deploy exist, and a file of the user's may be called json.
Nothing imports this module; it is the one place of `oapl` that imports `deploy`.
"""

import os
import sys

from oapl import shadows

PACKAGES = ("oapl", "actors", "learner", "reward_server", "deploy")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if wrong := _wrong_place():
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    from deploy import commands

    return commands.main(arguments)


def _wrong_place() -> str:
    """What would be imported in the place of something else, and the remedy; empty if nothing."""
    if file := shadows.of_python(sys.path[0] or os.curdir):
        return (
            f"{file} is found before Python's own module of that name; rename it, or give the "
            "command in another directory"
        )
    root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    for name in PACKAGES:
        found = _place_of(name)
        if found != root:
            return (
                f"package {name} comes from {found}, not from {root}: a file or distribution of "
                "that name is found first; rename the file, or uninstall the distribution or use "
                "an environment of its own"
            )
    return ""


def _place_of(name: str) -> str:
    """The folder of a package, or the file that stands in its place; nothing of it is run."""
    from importlib.util import find_spec

    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return "nowhere"
    origin = os.path.realpath(spec.origin)
    is_package = os.path.basename(origin) == "__init__.py"
    return os.path.dirname(os.path.dirname(origin)) if is_package else origin


if __name__ == "__main__":
    sys.exit(main())
