"""The toy twins of published recipes, and the commands that their heads name."""

import shlex
from pathlib import Path

from oapl.config.objective import verb_of
from oapl.config.toml import load_config
from tests.support.paper_recipes import FOLDER, TOY

STARTS = ("toy_start",)
"""What the others begin with."""
PIPELINE = "pcl_toy"
"""Two twins as the stages of one run."""
TOYS = (*STARTS, *sorted(path.stem for path in FOLDER.glob(f"*{TOY}.toml")))
BEFORE = "#   "
"""In front of a command in a recipe's head."""


def commands_of(recipe: Path) -> list[list[str]]:
    """The words behind `oapl` of each command, in order; where the head names none, to train."""
    lines = [
        line.removeprefix(BEFORE)
        for line in recipe.read_text().splitlines()
        if line.startswith(BEFORE)
    ]
    commands = " ".join(lines).replace("\\ ", " ").split("oapl ")[1:]
    if commands:
        return [shlex.split(command) for command in commands]
    return [[verb_of(load_config(recipe)), str(recipe.relative_to(FOLDER.parents[1]))]]
