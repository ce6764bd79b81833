"""A recipe of a published setting has the values that `tests/paper_values.toml` claims."""

import re
import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from deploy.checks.generation import generating
from deploy.checks.settings import check
from oapl.config.stages import stages_of
from oapl.config.toml import load_config
from tests.support.paper_recipes import FOLDER, PUBLISHED

STATUSES = ("published", "confirmed", "derived", "reading")
OF_THE_METHOD = ("objective", "optimizer", "critic", "sync")
"""Tables of which a published recipe names nothing that is not claimed."""


@dataclass(frozen=True)
class Claim:
    recipe: str
    key: str
    value: Any
    source: str
    status: str


def claims() -> list[Claim]:
    file = Path(__file__).parents[2] / "paper_values.toml"
    return [
        Claim(recipe, key, value, table["source"], table["status"])
        for table in tomllib.loads(file.read_text())["claims"]
        for recipe in table["recipes"]
        for key, value in table["values"].items()
    ]


CLAIMS = claims()


def read(recipe: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{recipe}.toml").read_text())


@cache
def loaded(recipe: str, *overrides: str) -> dict[str, Any]:
    return asdict(load_config(FOLDER / f"{recipe}.toml", overrides))


def at(table: Any, key: str) -> Any:
    for part in key.split("."):
        table = table[int(part) if isinstance(table, list | tuple) else part]
    return list(table) if isinstance(table, tuple) else table


def of(recipe: str) -> list[Claim]:
    return [claim for claim in CLAIMS if claim.recipe == recipe]


def differing(recipe: str, *overrides: str) -> list[str]:
    found = loaded(recipe, *overrides)
    return [claim.key for claim in of(recipe) if at(found, claim.key) != claim.value]


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_published_recipe_has_the_values_that_the_paper_claims(recipe):
    assert of(recipe)
    assert differing(recipe) == []


def test_every_claim_is_of_a_recipe_that_exists_and_is_made_once():
    assert {claim.recipe for claim in CLAIMS} <= set(PUBLISHED)
    places = [(claim.recipe, claim.key) for claim in CLAIMS]
    assert sorted(set(places)) == sorted(places)
    assert {claim.status for claim in CLAIMS} == set(STATUSES)
    assert all(claim.source for claim in CLAIMS)


@pytest.mark.parametrize(
    ("recipe", "override", "key"),
    [
        ("oapl_math_l50", "optimizer.clip_norm=1.0", "optimizer.clip_norm"),
        ("oapl_math_l100", "sync.interval=50", "sync.interval"),
        ("pcl_offline_rl", "reward.options.judge.range=zero_one", "reward.options.judge.range"),
        ("remix_ppo_7b", "objective.share=0.3", "objective.share"),
        ("perplexity_grpo", "eval.sources.0.template=pcl", "eval.sources.0.template"),
    ],
)
def test_a_changed_value_is_found(recipe, override, key):
    assert differing(recipe, override) == [key]


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_what_a_paper_states_stands_in_the_recipe_and_is_left_to_no_default(recipe):
    table = read(recipe)
    assert all(at(table, claim.key) == claim.value for claim in of(recipe))


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_published_recipe_names_nothing_of_the_method_that_no_paper_states(recipe):
    claimed = {claim.key for claim in of(recipe)}
    table = read(recipe)
    tables = {"": table, **{f"stages.{i}.": s for i, s in enumerate(table.get("stages", ()))}}
    named = {
        f"{place}{name}.{key}"
        for place, one in tables.items()
        for name in OF_THE_METHOD
        for key in one.get(name, {})
    }
    assert named - claimed == set()


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_reading_has_a_comment_on_its_line(recipe):
    lines = (FOLDER / f"{recipe}.toml").read_text().splitlines()
    for claim in of(recipe):
        if claim.status != "reading":
            continue
        names = [claim.key.split(".")[-1], "sources"]  # sources.0.set stands in a list
        found = [one for name in names for one in lines if re.match(rf"([\w.]+\.)?{name} = ", one)]
        line = found[0]
        assert "reading" in line.partition("# ")[2], f"{claim.key}: {line}"


@pytest.mark.parametrize(
    "recipe", [r for r in PUBLISHED if "replay" in read(r) and "stages" not in read(r)]
)
def test_the_recipe_that_trains_on_stored_groups_also_makes_them(recipe):
    check(generating(load_config(FOLDER / f"{recipe}.toml", [])))
    made, kept = f"runs/{loaded(recipe)['run']['name']}/groups", loaded(recipe)["replay"]["path"]
    head = (FOLDER / f"{recipe}.toml").read_text()
    assert f"oapl filter {made} --out {kept[0]} " in head


def test_the_eight_runs_of_prorl_are_what_the_paper_says():
    stages = stages_of(load_config(FOLDER / "prorl_staged.toml", []))
    configs = [stage.config for stage in stages]
    assert [config.rollout.group_size for config in configs] == [16, 16, 16, 16, 16, 32, 32, 16]
    assert [config.rollout.context_tokens for config in configs] == [8096] * 7 + [16384]
    assert [len(config.data.sources) for config in configs] == [4, 4, 5, 5, 5, 5, 5, 5]
    penalised = [
        all("shaping" in source.verifiers for source in config.data.sources) for config in configs
    ]
    assert penalised == [False] * 3 + [True] * 5
    resets = [number for number, stage in enumerate(stages, 1) if "reference" in stage.own.reset]
    assert resets == [2, 6, 7]
    assert {config.objective["kl_coefficient"] for config in configs} == {1e-4}


def test_the_recipes_of_one_method_differ_in_what_they_are_named_for():
    def differences(one: str, other: str) -> set[str]:
        first, second = loaded(one), loaded(other)
        return {
            f"{section}.{key}"
            for section, values in first.items()
            if isinstance(values, dict)
            for key, value in values.items()
            if value != second[section].get(key)
        }

    assert differences("oapl_math_l50", "oapl_math_l100") == {"run.name", "sync.interval"}
    machine = {"rollout.num_engines", "learner.num_ranks", "learner.zero_stage"}
    for on in ("ppo", "grpo"):
        apart = differences(f"remix_{on}_1_5b", f"remix_{on}_7b")
        assert apart == {"run.name", "model.path", *machine}
