"""The published comparisons are commands whose cells break no rule."""

import re
import shlex
from pathlib import Path

import pytest

from deploy import commands
from deploy.checks.settings import check
from deploy.sweeping.grid import grid
from oapl.config.toml import load_config
from tests.support.paper_recipes import FOLDER

TEXT = re.sub(r"\\\n\s*", "", (FOLDER / "SWEEPS.md").read_text())
SWEEPS = [line.strip() for line in TEXT.splitlines() if line.startswith("    oapl sweep ")]


@pytest.mark.parametrize("line", SWEEPS, ids=lambda line: line[11:90])
def test_every_cell_of_a_published_comparison_is_a_configuration_whose_rules_hold(line):
    options = commands._parse(shlex.split(line)[1:])
    recipe = Path(__file__).parents[3] / options.recipe
    common, cells = grid(options.overrides, options.cases)
    assert len(cells) > 1
    found = [load_config(recipe, [*common, *cell.overrides]) for cell in cells]
    for config in found:
        check(config)
    assert all(one != other for one in found for other in found if one is not other)
