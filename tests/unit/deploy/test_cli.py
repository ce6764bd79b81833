"""Recipes and overrides become a configuration, and a configuration becomes a recipe."""

import tomllib
from pathlib import Path

import pytest

from deploy.commands._settings import help_text
from oapl.config import RunConfig
from oapl.config.listing import settings
from oapl.config.toml import load_config, to_toml
from oapl.errors import InputError

RECIPE = """\
[run]
name = "first"

[[data.sources]]
name = "sums"
path = "sums.jsonl"

[reward]
verifiers = { format = 0.1 }

[objective]
beta1 = 5.0

[sync]
interval = 10
"""


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_nothing_given_is_the_defaults():
    assert load_config(None, []) == RunConfig()


def test_a_recipe_is_laid_over_the_defaults_and_overrides_over_it(recipe):
    config = load_config(recipe, ["sync.interval=20", "sync.interval=30", "objective.beta2=0.1"])
    assert config.sync.interval == 30
    assert config.run.name == "first"
    assert config.objective == {"name": "oapl", "beta1": 5.0, "beta2": 0.1}
    assert config.optimizer == RunConfig().optimizer


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.lr=1e-6", lambda c: c.optimizer.lr == 1e-6),
        ("optimizer.lr = 3e-4", lambda c: c.optimizer.lr == 3e-4),
        ("eval.greedy=false", lambda c: c.eval.greedy is False),
        ("eval.ks=[1, 4]", lambda c: c.eval.ks == (1, 4)),
        ("optimizer.betas=[0.8, 0.99]", lambda c: c.optimizer.betas == (0.8, 0.99)),
        ("run.name=second", lambda c: c.run.name == "second"),
        ('run.name="second"', lambda c: c.run.name == "second"),
        ("run.name=2024", lambda c: c.run.name == "2024"),
        ("run.name=1e5", lambda c: c.run.name == "1e5"),
        ("model.path=a=b", lambda c: c.model.path == "a=b"),
        ("cluster.address=", lambda c: c.cluster.address == ""),
        ("data.system_prompt=Say yes\nor no", lambda c: c.data.system_prompt == "Say yes\nor no"),
        ("run.name=1\nmax_steps = 2", lambda c: c.run.name == "1\nmax_steps = 2"),
        ("data.sources.0.path=b.jsonl", lambda c: c.data.sources[0].path == "b.jsonl"),
        ("data.sources.1={name='x',task='y'}", lambda c: c.data.sources[1].task == "y"),
        ("reward.verifiers.math=1", lambda c: c.reward.verifiers == {"format": 0.1, "math": 1}),
        ("reward.verifiers={math=1}", lambda c: c.reward.verifiers == {"math": 1}),
        (
            "reward.options.function.target=mine.py:reward",
            lambda c: c.reward.options["function"] == {"target": "mine.py:reward"},
        ),
        (
            'rollout.engine_options.name="3"',
            lambda c: c.rollout.engine_options == {"name": "3"},
        ),
    ],
)
def test_an_override_is_a_toml_value_or_bare_text(recipe, override, value):
    assert value(load_config(recipe, [override]))


def test_a_source_can_be_added_by_overrides_alone():
    config = load_config(None, ["data.sources.0.name=a", "data.sources.0.path=a.jsonl"])
    assert [(s.name, s.path) for s in config.data.sources] == [("a", "a.jsonl")]


def test_overrides_do_not_change_the_defaults():
    load_config(None, ["reward.verifiers.format=1", "objective.beta1=2"])
    assert load_config(None, []) == RunConfig()


def test_a_missing_recipe_is_named_with_what_is_there(recipe):
    with pytest.raises(InputError, match=r"recipe.tml does not exist.*has recipe.toml"):
        load_config(recipe.with_name("recipe.tml"))


def test_malformed_toml_is_refused_with_its_line(recipe):
    recipe.write_text(RECIPE + "[optimizer]\nlr = \n")
    with pytest.raises(InputError, match=r"recipe.toml is not valid TOML.*line 17"):
        load_config(recipe)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_recipe_that_is_no_text_is_refused(tmp_path, content):
    path = tmp_path / "recipe.toml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(InputError, match=r"recipe.toml cannot be read"):
        load_config(path)


def test_problems_of_a_recipe_are_listed_under_its_name_dotted_key_first(recipe):
    recipe.write_text('[sync]\nintervall = 3\n[optimizer]\nlr = "fast"\n')
    with pytest.raises(InputError) as caught:
        load_config(recipe, ["run.seed=-1"])
    first, *lines = str(caught.value).splitlines()
    assert first == f"{recipe}:"
    assert sorted(line.split()[0].rstrip(":") for line in lines) == [
        "optimizer.lr",
        "run.seed",
        "sync.intervall",
    ]


@pytest.mark.parametrize("override", ["", "=", "=3", "a", ".a=3", "a..b=3", "a b=3", "-x=3"])
def test_a_malformed_override_is_refused(override):
    with pytest.raises(InputError, match=r"is not section.key=value"):
        load_config(None, [override])


def test_an_override_sets_one_key_only():
    with pytest.raises(InputError, match=r"sync.interval = .*must be a whole number"):
        load_config(None, ["sync.interval=1\nrun.max_steps = 2"])


def test_an_override_cannot_reach_into_a_value(recipe):
    with pytest.raises(InputError, match="inside 'first', which is no section"):
        load_config(recipe, ["run.name.x.y=3"])


def test_the_resolved_configuration_reads_back_equal(recipe, tmp_path):
    config = load_config(
        recipe,
        [
            "data.sources.1.name=b",
            "data.sources.1.task=chain_sum",
            "data.sources.1.options.operators=['+']",
            "optimizer.lr=1e-7",
            'data.system_prompt="two\\nlines, \\"quoted\\""',
            "rollout.engine_options.max_num_seqs=3",
        ],
    )
    written = tmp_path / "config.toml"
    written.write_text(to_toml(config))
    assert load_config(written) == config
    assert tomllib.loads(written.read_text())["sync"]["timeout_s"] == 600.0, "defaults are in it"


def test_an_option_that_toml_cannot_hold_is_refused():
    config = RunConfig(objective={"name": "oapl", "beta1": None})
    with pytest.raises(InputError, match=r"cannot be written to config.toml"):
        to_toml(config)


def test_help_shows_every_setting_with_default_and_sentence():
    text = " ".join(help_text().split())
    for setting in settings():
        assert f" {setting.key}" in text
        assert setting.help in text
    assert "sync.interval = 50 L: learner steps" in text
    assert "data.overlong" in text
    assert "[drop | truncate | error]" in text
    assert "objective.beta2 = 0.001" in text, "the options of plugins are settings too"
    assert "rollout.engine_options.max_num_seqs" in text


def test_recipes_that_come_with_the_program_are_readable():
    folder = Path(__file__).parents[3] / "deploy" / "recipes"
    recipes = sorted(folder.glob("*.toml"))
    assert recipes
    for path in recipes:
        load_config(path)
