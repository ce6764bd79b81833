"""A recipe that extends others is what they are, with what it says itself laid over them."""

import pytest

from oapl.config.recipes import files_of, laid_over, read_recipe
from oapl.config.toml import load_config
from oapl.errors import InputError


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    write("base.toml", "[sync]\ninterval = 10\n[objective]\nname = 'oapl'\nbeta1 = 5.0\n")
    return write


def test_what_a_recipe_says_itself_is_laid_over_what_it_extends(write):
    recipe = write("mine.toml", "extends = 'base.toml'\nobjective.beta2 = 0.1\nsync.interval = 20")
    config = load_config(recipe, ["sync.max_lead=3"])
    assert (config.sync.interval, config.sync.max_lead) == (20, 3)
    assert config.objective == {"name": "oapl", "beta1": 5.0, "beta2": 0.1}


def test_of_several_the_later_one_comes_first_and_each_may_extend_others(write):
    write("one.toml", "extends = 'base.toml'\nrun.name = 'one'\nrun.seed = 1\n")
    write("two.toml", "run.name = 'two'\n")
    recipe = write("mine.toml", "extends = ['one.toml', 'two.toml']\n")
    config = load_config(recipe)
    assert (config.run.name, config.run.seed, config.sync.interval) == ("two", 1, 10)
    assert [path.name for path in files_of(recipe)] == [
        *("base.toml", "one.toml", "two.toml", "mine.toml")
    ]


def test_a_path_is_relative_to_the_file_that_it_stands_in(write, monkeypatch):
    recipe = write("below/mine.toml", "extends = '../base.toml'\n")
    monkeypatch.chdir("/")
    assert load_config(recipe).sync.interval == 10


def test_a_base_that_two_recipes_share_is_no_circle(write):
    for name in ("left", "right"):
        write(f"{name}.toml", "extends = 'base.toml'\n")
    recipe = write("mine.toml", "extends = ['left.toml', 'right.toml']\n")
    assert load_config(recipe).sync.interval == 10
    assert len(files_of(recipe)) == 4


@pytest.mark.parametrize("read", [read_recipe, files_of])
def test_a_recipe_that_extends_itself_is_refused_with_the_way(write, read):
    write("one.toml", "extends = 'two.toml'\n")
    path = write("two.toml", "extends = 'one.toml'\n")
    with pytest.raises(InputError, match=r"extends itself: .*two.toml extends .*one.toml extends"):
        read(path)


def test_a_base_that_is_missing_is_named_with_who_asks_for_it(write):
    path = write("mine.toml", "extends = 'bass.toml'\n")
    with pytest.raises(InputError, match=r"mine.toml: extends names .*bass.toml, which is no file"):
        load_config(path)


@pytest.mark.parametrize("given", ["3", "['base.toml', 3]", "''", "{ a = 1 }"])
def test_what_is_no_path_is_refused(write, given):
    path = write("mine.toml", f"extends = {given}\n")
    with pytest.raises(InputError, match=r"extends = .*must be the path of a recipe"):
        load_config(path)


def test_an_element_of_a_list_is_changed_by_its_number_and_the_next_one_appended():
    base = {"data": {"sources": [{"name": "a", "path": "x"}, {"name": "b"}]}}
    own = {"data": {"sources": {"2": {"name": "c"}, "0": {"path": "y"}}}}
    assert laid_over(base, own)["data"]["sources"] == [
        {"name": "a", "path": "y"},
        {"name": "b"},
        {"name": "c"},
    ]
    assert base["data"]["sources"][0]["path"] == "x"
    assert laid_over(base, {"data": {"sources": []}})["data"]["sources"] == []


def test_a_number_that_is_no_place_in_the_list_is_refused(write):
    write("base.toml", "eval.ks = [1, 2]\n")
    path = write("mine.toml", "extends = 'base.toml'\neval.ks.3 = 8\n")
    with pytest.raises(InputError, match=r"mine.toml: eval.ks.3: is no place in a list of 2"):
        load_config(path)


def test_another_objective_replaces_the_whole_of_it(write):
    path = write("mine.toml", "extends = 'base.toml'\n[objective]\nname = 'grpo'\neps_low = 0.1\n")
    assert load_config(path).objective == {"name": "grpo", "eps_low": 0.1}


def test_verifiers_are_given_whole(write):
    write("base.toml", "reward.verifiers = { judge = 1.0 }\nreward.options.math.mode = 'prorl'\n")
    path = write("mine.toml", "extends = 'base.toml'\n[reward]\nverifiers = { math = 0.5 }\n")
    config = load_config(path)
    assert config.reward.verifiers == {"math": 0.5}
    assert config.reward.options == {"math": {"mode": "prorl"}}
