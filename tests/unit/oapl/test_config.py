"""Sections, their strictness, and the rules that span fields."""

import dataclasses

import pytest
from pydantic import ValidationError

from deploy.checks.plugins import plugin_options, verifiers_in_use
from deploy.checks.settings import check
from oapl.config import RunConfig
from oapl.config.fields import Count, section
from oapl.config.listing import field_at, section_at, settings
from oapl.config.sections import DataSource, SyncSection
from oapl.errors import InputError


def config(**sections) -> RunConfig:
    return RunConfig(**{"model": {"path": "m"}, **sections})


def test_a_section_may_be_given_as_a_table_or_as_an_object():
    assert RunConfig(sync={"interval": 7}) == RunConfig(sync=SyncSection(interval=7))


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().sync.interval = 3


@pytest.mark.parametrize(
    "sections",
    [
        {"sync": {"interval": "50"}},
        {"sync": {"interval": True}},
        {"sync": {"interval": 50.0}},
        {"optimizer": {"lr": "1e-4"}},
        {"optimizer": {"lr": float("inf")}},
        {"eval": {"greedy": 1}},
        {"run": {"name": 3}},
        {"reward": {"verifiers": {"math": float("nan")}}},
        {"sync": {"intervall": 50}},
    ],
)
def test_a_wrong_type_is_refused_even_where_it_could_be_converted(sections):
    with pytest.raises(ValidationError):
        RunConfig(**sections)


def test_a_whole_number_is_taken_where_a_number_is_wanted():
    assert RunConfig(optimizer={"clip_norm": 1}).optimizer.clip_norm == 1.0


def test_every_setting_has_one_sentence_of_help():
    unexplained = [setting.key for setting in settings() if len(setting.help) < 5]
    assert unexplained == []


def test_settings_are_found_by_their_path():
    assert section_at(("data", "sources", 0)) is DataSource
    assert section_at(("data", "sources", 0, "path")) is None
    assert section_at(("objective", "beta1")) is None
    assert field_at(("data", "sources", 3, "size")).default == 1000
    assert field_at(("data", "sizes")) is None
    assert "data.sources.N.prompt_key" in {setting.key for setting in settings()}


def test_home_is_expanded_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    source = {"name": "a", "path": "~/a.jsonl"}
    made = RunConfig(model={"path": "~/m"}, run={"dir": "~/runs"}, data={"sources": [source]})
    paths = made.model.path, made.run.dir, made.data.sources[0].path
    assert paths == ("/somewhere/m", "/somewhere/runs", "/somewhere/a.jsonl")


def test_an_objective_without_a_name_is_oapl():
    assert RunConfig(objective={"beta1": 2.0}).objective == {"name": "oapl", "beta1": 2.0}
    assert not RunConfig().is_imitation
    assert RunConfig(objective={"name": "sft"}).is_imitation


def test_the_defaults_pass_the_check():
    check(config())


def test_imitation_passes_with_groups_of_one():
    check(config(objective={"name": "sft"}, rollout={"group_size": 1, "max_tokens": 64}))


def test_a_group_of_one_is_fine_for_an_objective_that_compares_nothing(tmp_path, monkeypatch):
    (tmp_path / "lonely_objective.py").write_text(
        "from oapl.config.fields import section\n@section\nclass Config:\n    pass\n"
    )
    (tmp_path / "lonely").mkdir()
    (tmp_path / "lonely_objective.py").rename(tmp_path / "lonely" / "objective.py")
    monkeypatch.syspath_prepend(tmp_path)
    check(config(objective={"name": "lonely.objective"}, rollout={"group_size": 1, "top_p": 0.9}))


def test_no_samples_are_fine_with_greedy_answers():
    check(config(eval={"num_samples": 0}))
    with pytest.raises(InputError, match=r"eval.ks = \[1\]"):
        check(config(eval={"num_samples": 0, "ks": [1]}))


def test_a_min_lr_is_fine_at_the_end_of_a_slope():
    check(config(optimizer={"lr": 1e-3, "min_lr": 1e-3, "schedule": "cosine"}))


def test_verifiers_in_use_are_those_of_sources_and_the_default_for_the_others():
    own = {"name": "a", "task": "chain_sum", "verifiers": {"math": 1.0}}
    plain = {"name": "b", "task": "chain_sum"}
    reward = {"verifiers": {"format": 1.0}}
    assert set(verifiers_in_use(config(reward=reward))) == {"format"}
    assert set(verifiers_in_use(config(reward=reward, data={"sources": [own]}))) == {"math"}
    both = config(reward=reward, data={"sources": [own]}, eval={"sources": [plain]})
    assert set(verifiers_in_use(both)) == {"format", "math"}


def test_options_of_a_plugin_are_checked_against_its_config():
    class Plugin:
        __name__ = "package.plugin"

        @section
        class Config:
            depth: Count = 3
            """How deep."""

    assert plugin_options(Plugin(), {"depth": 4}, "rollout.engine_options.") == []
    (line,) = plugin_options(Plugin(), {"depth": 0}, "rollout.engine_options.")
    assert line == "rollout.engine_options.depth = 0: must be at least 1 (How deep; default 3)"
    (line,) = plugin_options(Plugin(), {"dept": 4}, "rollout.engine_options.")
    assert line.startswith("rollout.engine_options.dept: unknown setting; did you mean")


def test_a_plugin_without_options_takes_none():
    class Bare:
        __name__ = "package.bare"

    assert plugin_options(Bare(), {"x": 1}, "reward.options.bare.") == [
        "reward.options.bare.x = 1: bare has no options"
    ]
