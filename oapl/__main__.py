"""The command `oapl` (`python -m oapl VERB`): are the five packages ours? Then `deploy.commands`.

Distributions called actors, learner and deploy exist. Nothing imports this module; it is the one
place of `oapl` that imports `deploy`.
"""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("oapl", "actors", "learner", "reward_server", "deploy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    root = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        found = _place_of(name)
        if found != root:
            print(
                f"error: package {name} comes from {found}, not from {root}: a file or "
                "distribution of that name is found first; rename the file, or uninstall the "
                "distribution or use an environment of its own",
                file=sys.stderr,
            )
            return 2
    from deploy import commands

    return commands.main(arguments)


def _place_of(name: str) -> Path | None:
    """The folder of a package, or the file that stands in its place; nothing of it is run."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin).resolve()
    return origin.parents[1] if origin.name == "__init__.py" else origin


if __name__ == "__main__":
    sys.exit(main())
