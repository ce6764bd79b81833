"""Every recipe is a configuration whose rules hold; the model and the data need not be here."""

from pathlib import Path

import pytest

import deploy
from oapl.checks import check
from oapl.cli import load_config
from oapl.devices.base import engine_name

RECIPES = sorted((Path(deploy.__file__).parent / "recipes").glob("*.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_breaks_no_rule(recipe):
    bare = load_config(recipe, [])
    filled = [] if bare.model.path else ["model.path=made-by-the-quickstart"]
    for section in ("data", "eval"):
        for index, source in enumerate(getattr(bare, section).sources):
            if not (source.path or source.dataset or source.task):
                filled.append(f"{section}.sources.{index}.path=made-by-the-quickstart")
    check(load_config(recipe, filled))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_fits_a_screen_and_its_first_line_says_what_for(recipe):
    lines = recipe.read_text().splitlines()
    assert len(lines) <= 60
    assert lines[0].startswith("# ")
    if load_config(recipe, []).cluster.device != "cpu":
        assert engine_name(load_config(recipe, [])) == "vllm_async"
