"""The command `oapl` (`python -m oapl VERB`): are the five packages ours? Then `deploy.commands`.

Distributions called actors, learner and deploy exist. Nothing imports this module; it is the one
place of `oapl` that imports `deploy`.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("oapl", "actors", "learner", "reward_server", "deploy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    root = Path(__file__).resolve().parents[1]
    for name in PACKAGES:
        found = Path(str(importlib.import_module(name).__file__)).resolve().parents[1]
        if found != root:
            print(
                f"error: package {name} comes from {found}, not from {root}: another distribution "
                "of that name is installed; uninstall it or use an environment of its own",
                file=sys.stderr,
            )
            return 2
    from deploy import commands

    return commands.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
