"""Sections, their strictness, and the rules that span fields."""

import dataclasses

import pytest
from pydantic import ValidationError

from deploy.checks.settings import check
from oapl.config import RunConfig, messages
from oapl.config.fields import Count, section
from oapl.config.listing import field_at, section_at, settings
from oapl.config.plugins import parse
from oapl.config.sections import DataSource, SyncSection
from oapl.errors import InputError
from oapl.sampling import protocol_of
from tests.support.planted import OBJECTIVE, plant


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


def test_the_defaults_pass_the_check():
    check(config())


def test_imitation_passes_with_groups_of_one():
    check(config(objective={"name": "sft"}, rollout={"group_size": 1, "max_tokens": 64}))


def test_a_group_of_one_and_cut_sampling_are_fine_where_the_objective_declares_so(
    tmp_path, monkeypatch
):
    name = plant(tmp_path, "lonely", OBJECTIVE)
    monkeypatch.syspath_prepend(tmp_path)
    check(config(objective={"name": name}, rollout={"group_size": 1, "top_p": 0.9}))


def test_no_samples_are_fine_with_greedy_answers():
    check(config(eval={"num_samples": 0}))
    with pytest.raises(InputError, match=r"eval.ks = \[1\]"):
        check(config(eval={"num_samples": 0, "ks": [1]}))


@pytest.mark.parametrize(
    ("number", "ks"), [(0, ()), (1, (1,)), (5, (1, 2, 4)), (8, (1, 2, 4, 8)), (9, (1, 2, 4, 8))]
)
def test_the_ks_of_pass_at_k_are_those_that_the_number_of_samples_allows(number, ks):
    asked = config(eval={"num_samples": number})
    check(asked)
    assert asked.eval.ks == ks
    assert config(eval={"num_samples": number, "ks": [3]}).eval.ks == (3,), "what is said stays"


def test_a_set_with_a_number_of_its_own_has_the_ks_that_this_allows():
    own = {"num_samples": 4, "sources": [{"name": "s", "path": "x", "answers": {"num_samples": 2}}]}
    made = config(eval=own)
    assert protocol_of(made, made.eval.sources[0]).ks == (1, 2)
    made = config(eval={**own, "ks": [1, 3]})
    assert protocol_of(made, made.eval.sources[0]).ks == (1, 3), "what is said stays"


def test_a_protocol_with_fewer_samples_than_it_says_keeps_the_ks_that_these_allow():
    made = config(eval={"protocol": "avg32_t1", "num_samples": 8})
    check(made)
    assert made.eval.ks == (1, 8)
    assert config(eval={"protocol": "avg32_t1"}).eval.ks == (1, 8, 32)


def test_a_min_lr_is_fine_at_the_end_of_a_slope():
    check(config(optimizer={"lr": 1e-3, "min_lr": 1e-3, "schedule": "cosine"}))


def test_options_of_a_plugin_are_checked_against_its_config():
    @section
    class Config:
        depth: Count = 3
        """How deep."""

    def refused(**options) -> str:
        with pytest.raises(InputError) as caught:
            parse(Config, options, "rollout.engine_options.")
        return str(caught.value)

    assert parse(Config, {"depth": 4}, "rollout.engine_options.").depth == 4
    assert (
        refused(depth=0)
        == "rollout.engine_options.depth = 0: must be at least 1 (How deep; default 3)"
    )
    assert refused(dept=4).startswith("rollout.engine_options.dept: unknown setting; did you mean")
    assert len(refused(depth=0, dept=4).splitlines()) == 2


def test_a_plugins_own_rule_is_told_under_the_key_of_its_options():
    @section
    class Config:
        low: Count = 1
        high: Count = 2

        def __post_init__(self):
            if self.low > self.high:
                raise ValueError("low is above high; lower it")

    with pytest.raises(InputError, match=r"^objective: low is above high; lower it$"):
        parse(Config, {"low": 3}, "objective.")


def test_a_plugin_without_options_takes_none():
    with pytest.raises(
        InputError, match=r"^objective.x: unknown setting; section objective has no"
    ):
        check(config(objective={"name": "sft", "x": 1}, rollout={"group_size": 1}))


def test_every_name_that_a_message_says_to_set_instead_is_a_setting():
    keys = {one.key for one in settings()}
    own = {"objective"}  # its options are in its own file
    named = [*messages.ELSEWHERE.values(), *messages.RENAMED.values()]
    assert [key for key in named if key not in keys and key.split(".")[0] not in own] == []
    assert not keys & messages.RENAMED.keys(), "what has a new name has not the old one too"


def test_nothing_that_there_is_stands_among_what_there_is_not_unless_that_names_it():
    for beginning, words in messages.ABSENT.items():
        there = [one.key for one in settings() if one.key.split(".")[-1].startswith(beginning)]
        assert [key for key in there if key not in words] == [], beginning
