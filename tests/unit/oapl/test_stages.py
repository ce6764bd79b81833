"""The stages of a recipe: what each one is, resolved."""

import dataclasses

import pytest

from oapl.config import RunConfig
from oapl.config.stages import PARTS, changes, stages_of
from oapl.config.toml import load_config, to_toml
from oapl.errors import InputError

RECIPE = """
run.name = "x"
run.max_steps = 200
optimizer.lr = 1e-5
reward.verifiers = { math = 0.5, format = 0.5 }
objective = { name = "grpo", kl_coefficient = 0.1 }

[[stages]]
name = "imitate"
objective.name = "sft"
run.max_steps = 10

[[stages]]
reward.verifiers = { function = 1.0 }
objective.eps_high = 0.4
data.sources = [{ name = "a", path = "a.jsonl" }]

[[stages]]
name = "longer"
reset = ["reference"]
patience = 2
"""


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def test_a_stage_is_the_recipe_with_settings_of_its_own(recipe):
    first, second, third = stages_of(load_config(recipe))
    assert [stage.name for stage in (first, second, third)] == ["imitate", "train-2", "longer"]
    assert [stage.number for stage in (first, second, third)] == [1, 2, 3]
    assert first.config.objective == {"name": "sft"}, "another objective has none of its options"
    assert second.config.objective == {"name": "grpo", "kl_coefficient": 0.1, "eps_high": 0.4}
    assert second.config.reward.verifiers == {"function": 1.0}, "all of them"
    assert third.config.reward.verifiers == {"math": 0.5, "format": 0.5}
    assert [source.name for source in second.config.data.sources] == ["a"]
    assert (first.config.run.max_steps, third.config.run.max_steps) == (10, 200)
    assert (third.own.reset, third.own.patience) == (("reference",), 2)
    assert not first.config.is_staged
    assert second.says == {"reward.verifiers.function", "objective.eps_high", "data.sources"}


def test_what_a_stage_does_not_say_follows_the_recipe_and_its_overrides(recipe):
    first, second, _ = stages_of(load_config(recipe, ["optimizer.lr=3e-5", "run.max_steps=9"]))
    assert (first.config.run.max_steps, second.config.run.max_steps) == (10, 9)
    assert first.config.optimizer.lr == second.config.optimizer.lr == 3e-5
    first, second, _ = stages_of(load_config(recipe, ["stages.0.optimizer.lr=1e-3"]))
    assert (first.config.optimizer.lr, second.config.optimizer.lr) == (1e-3, 1e-5)


def test_a_recipe_of_stages_reads_back_from_what_was_written_of_it(recipe, tmp_path):
    config = load_config(recipe)
    (tmp_path / "config.toml").write_text(to_toml(config))
    again = load_config(tmp_path / "config.toml")
    assert again == config
    assert stages_of(again) == stages_of(config)
    assert not load_config(tmp_path / "config.toml", ["stages=[]"]).is_staged


def test_rounds_are_short_for_stages_that_each_begin_from_the_model_before():
    config = RunConfig(rounds=2, filters=[{"name": "solvable"}])
    stages = stages_of(config)
    assert [(stage.name, stage.kind) for stage in stages] == [
        ("generate-1", "generate"),
        ("filter-1", "filter"),
        ("train-1", "train"),
        ("generate-2", "generate"),
        ("filter-2", "filter"),
        ("train-2", "train"),
    ]
    assert stages[5].own.reset == PARTS
    assert stages[5].config.replay.source == "stored"
    assert stages[1].filters == ({"name": "solvable"},)
    unfiltered = stages_of(dataclasses.replace(config, filters=()))
    assert [stage.kind for stage in unfiltered] == ["generate", "train"] * 2


def test_the_filters_of_a_stage_come_before_those_of_the_recipe():
    own = {"kind": "filter", "filters": [{"name": "solvable"}]}
    config = RunConfig(stages=[{"kind": "filter"}, own], filters=[{"name": "zero_variance"}])
    names = [[table["name"] for table in stage.filters] for stage in stages_of(config)]
    assert names == [["zero_variance"], ["solvable"]]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stages.0.optimiser.lr=1", "stages.0.optimiser: unknown setting; did you mean"),
        ("stages.0.optimizer.lr=fast", 'stages.0.optimizer.lr = "fast": must be a number'),
        ("stages.1.kind=tran", 'stages.1.kind = "tran": did you mean train?'),
        ("stages.1.patiense=3", "stages.1.patiense: unknown setting"),
        ("stages.1.reset=[all]", "stages.1.reset"),
        ("stages.1.stages=[]", "stages.1.stages: is of the whole recipe"),
        ("stages.1.data.sources.3.path=x", "stages.1"),
        ("rounds=2", "rounds = 2: is short for stages, and the recipe has 3 of its own"),
    ],
)
def test_what_is_wrong_in_a_stage_is_named_with_its_number(recipe, override, says):
    with pytest.raises(InputError) as caught:
        stages_of(load_config(recipe, [override]))
    assert says in str(caught.value)


def test_changes_name_settings_as_one_writes_them(recipe):
    first, second, third = (stage.config for stage in stages_of(load_config(recipe)))
    found = changes(first, third)
    assert found["objective.name"] == ('"sft"', '"grpo"')
    assert found["objective.kl_coefficient"] == ("-", "0.1")
    assert found["run.max_steps"] == ("10", "200")
    assert changes(first, second)["data.sources"] == ("none", "a")
    assert changes(third, third) == {}


def test_a_stage_may_be_like_an_earlier_one_but_for_what_it_says(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(
        """
        model.path = "m"
        data.sources = [{ name = "a", path = "a" }, { name = "b", path = "b" }]
        [[stages]]
        [[stages]]
        name = "more"
        data.sources.2 = { name = "c", path = "c" }
        model.path = "other"
        [[stages]]
        like = "more"
        data.sources.0.verifiers = { math = 1.0, shaping = 1.0 }
        rollout.group_size = 32
        """
    )
    first, second, third = stages_of(load_config(path))
    names = [[source.name for source in stage.config.data.sources] for stage in (first, second)]
    assert names == [["a", "b"], ["a", "b", "c"]]
    assert [source.name for source in third.config.data.sources] == ["a", "b", "c"]
    assert third.config.data.sources[0].verifiers == {"math": 1.0, "shaping": 1.0}
    assert (third.config.rollout.group_size, third.config.model.path) == (32, "other")
    assert "model.path" in third.says
    with pytest.raises(InputError, match=r'stages.0.like = "more": .* before this one; there are'):
        stages_of(load_config(path, ["stages.0.like=more"]))
