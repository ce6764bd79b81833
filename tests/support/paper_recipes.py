"""The recipes of published settings."""

from pathlib import Path

import deploy

FOLDER = Path(deploy.__file__).parent / "recipes"
OF_MACHINES = ("cpu_", "cuda_", "npu_", "toy_", "_")
TOY = "_toy"
PUBLISHED = sorted(
    path.stem
    for path in FOLDER.glob("*.toml")
    if not path.stem.startswith(OF_MACHINES) and not path.stem.endswith(TOY)
)
