"""`make oracle`: install TRL in a folder of its own over the pinned set, and record its losses.

The record stands in `trl_losses.json`: TRL's version, each case's settings in TRL's names and in
ours, the numbers that went in, and loss and gradient as TRL's own method gives them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TRL = "trl==1.16.0"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder]
        subprocess.run([*pip, TRL], check=True)
        path = os.pathsep.join([folder, str(Path(__file__).parents[2])])
        subprocess.run(
            [sys.executable, "-m", "tests.oracle.trl_losses"],
            env={**os.environ, "PYTHONPATH": path},
            check=True,
        )


if __name__ == "__main__":
    main()
