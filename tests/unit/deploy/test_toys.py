"""Each published recipe has a toy twin, which differs from it in scale and in nothing else."""

import functools
import re
import tomllib
from dataclasses import asdict
from pathlib import Path

import pytest

from deploy.checks.generation import generating
from deploy.checks.preflight import preflight
from deploy.recipes import toy_judge, toys
from oapl.config import RunConfig
from oapl.config.recipes import laid_over, read_recipe
from oapl.config.stages import stages_of
from oapl.config.toml import load_config
from tests.support.paper_recipes import FOLDER, PUBLISHED
from tests.support.toy_recipes import PIPELINE, STARTS, TOYS, commands_of

TWIN_OF = {
    **{recipe: f"{recipe}_toy" for recipe in PUBLISHED},
    "remix_ppo_7b": "remix_ppo_1_5b_toy",
    "remix_grpo_7b": "remix_grpo_1_5b_toy",
}
SCALE = {
    *("run.name", "run.dir", "run.max_steps", "model.path", "model.dtype", "cluster.device"),
    *("rollout.num_engines", "rollout.tensor_parallel_size", "rollout.max_groups_in_flight"),
    *("rollout.max_tokens", "rollout.context_tokens", "eval.max_tokens", "reward.workers"),
    *("learner.num_ranks", "learner.batch_size", "learner.micro_batch_tokens", "optimizer.lr"),
    *("learner.precision", "tracking.console", "tracking.wandb", "checkpoint.every_syncs"),
}
"""What a twin may change: the machine, the model, lengths, the batch and the number of steps, and
the learning rate, which goes with the model's size."""
PLACE = re.compile(r"(data|eval)\.sources\.\d+\.(path|dataset|subset|split|sample)|replay\.path\.0")
"""Where data lie, and how much of them there is."""
OF_A_STAGE = re.compile(r"^stages\.\d+\.")
"""In front of a setting of one stage."""
TIMES = {"objective.until", "objective.lambda_delay", "objective.lambda_interval"}
"""ReMix's T and lambda(t), in iterations, of which a twin makes fewer."""
MORE = {
    "oapl_math_l50": {"objective.beta2"},  # goes with the length of answers, as its help says
    "oapl_math_l100": {"objective.beta2"},
    "oapl_code": {"objective.beta2", "sync.interval"},
    "oapl_code_round1": {"objective.beta2", "sync.interval"},  # a period is the whole run
    "pcl_sft": {"sync.interval"},  # an epoch, as published
    "pcl_offline_rl": {
        *("learner.offload", "reward.options.judge.base_url", "reward.options.judge.model"),
    },
    "prorl_staged": {f"eval.sources.2.{key}" for key in ("name", "task", "size")},
    "remix_ppo_1_5b": TIMES | {"critic.lr"},
    "remix_ppo_7b": TIMES | {"critic.lr", "learner.zero_stage"},
    "remix_grpo_1_5b": TIMES,
    "remix_grpo_7b": TIMES | {"learner.zero_stage"},
}
"""What else a recipe's twin changes, and why: its head says so too."""


def flat(table, key=""):
    if isinstance(table, dict | list | tuple) and table:
        items = table.items() if isinstance(table, dict) else enumerate(table)
        for name, value in items:
            yield from flat(value, f"{key}.{name}" if key else str(name))
    elif not isinstance(table, dict | list | tuple):
        yield key, table


def settings(recipe: str) -> dict[str, object]:
    return dict(flat(asdict(load_config(FOLDER / f"{recipe}.toml"))))


def changed(recipe: str) -> set[str]:
    """Settings in which a twin is another one; an evaluation that the recipe lacks is no change."""
    old, new = settings(recipe), settings(TWIN_OF[recipe])
    keys = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    keys = {OF_A_STAGE.sub("", key) for key in keys}
    if not load_config(FOLDER / f"{recipe}.toml").eval.sources:
        keys = {key for key in keys if not key.startswith("eval.sources.")}
    return keys


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_twin_differs_from_its_recipe_in_scale_and_in_nothing_else(recipe):
    allowed = SCALE | MORE.get(recipe, set())
    assert {key for key in changed(recipe) if not PLACE.fullmatch(key)} - allowed == set()


def test_every_twin_is_one_and_no_exception_is_made_in_vain():
    assert set(TWIN_OF.values()) == set(TOYS) - {*STARTS, PIPELINE}
    for recipe, more in MORE.items():
        assert more <= changed(recipe), recipe


@pytest.mark.parametrize("toy", TOYS)
def test_a_twin_extends_its_recipe_and_writes_nothing_of_it_again(toy):
    table = tomllib.loads((FOLDER / f"{toy}.toml").read_text())
    own = dict(flat({key: value for key, value in table.items() if key != "extends"}))
    if toy not in (*STARTS, PIPELINE):
        assert table["extends"] == [f"{toy.removesuffix('_toy')}.toml", "_toy_scale.toml"]
        files = (FOLDER / name for name in table["extends"])
        merged = functools.reduce(laid_over, map(read_recipe, files))
        base = dict(flat(asdict(RunConfig(**merged))))
        assert [key for key, value in own.items() if base.get(key) == value] == []


OF_THE_PIPELINE = re.compile(
    r"(run\.name|model\.path|replay\.path|checkpoint|sync\.interval|filters|data\.epochs)(\..+)?"
)
"""Where it is, what hands over what, and how often it publishes to engines that only evaluate."""


@pytest.mark.parametrize(
    ("name", "twin"), [("sft", "pcl_sft_toy"), ("offline-rl", "pcl_offline_rl_toy")]
)
def test_the_stages_of_the_pipeline_have_the_settings_of_the_twins(name, twin):
    (stage,) = (
        stage for stage in stages_of(load_config(FOLDER / f"{PIPELINE}.toml")) if stage.name == name
    )
    old, new = settings(twin), dict(flat(asdict(stage.config)))
    differing = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    assert {key for key in differing if not OF_THE_PIPELINE.fullmatch(key)} == set()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    return toys.make(folder / "toys")


@pytest.mark.parametrize("toy", TOYS)
def test_the_data_made_for_a_twin_are_read_by_the_sets_that_the_recipe_names(toy, made):
    config = load_config(FOLDER / f"{toy}.toml")
    overrides = [f"model.path={made / 'model'}", f"run.dir={made / 'runs'}"]
    for section in ("data", "eval"):
        for index, source in enumerate(getattr(config, section).sources):
            if source.task:
                continue
            path = made / Path(source.path).relative_to("build/toys")
            overrides.append(f"{section}.sources.{index}.path={path}")
    config = load_config(FOLDER / f"{toy}.toml", overrides)
    is_stored = config.replay.source == "stored"
    report = preflight(
        generating(config) if is_stored else config, purpose="generate" if is_stored else "train"
    )
    read = [text for name, text in report.facts.items() if name.startswith(("data ", "eval "))]
    assert read
    for text in read:
        number, _, rest = text.partition(" of ")
        assert rest.startswith(f"{number} "), f"{text}: rows were dropped"


@pytest.mark.parametrize("toy", TOYS)
def test_the_commands_of_a_twin_are_those_that_its_head_names(toy):
    commands = commands_of(FOLDER / f"{toy}.toml")
    assert all(command[0] in ("generate", "filter", "train", "sft") for command in commands)
    config = load_config(FOLDER / f"{toy}.toml")
    verbs = [command[0] for command in commands]
    if config.replay.source == "stored" and not config.is_staged:
        assert verbs == ["generate", "filter", "train"]
        assert commands[1][1:4] == [
            f"{config.run.dir}/{config.run.name}/groups",
            "--out",
            config.replay.path[0],
        ]
    assert [word for command in commands for word in command if word.endswith(".toml")] == [
        f"deploy/recipes/{toy}.toml" for verb in verbs if verb != "filter"
    ]


def test_the_same_data_are_made_each_time_and_what_is_there_is_kept(made, tmp_path):
    again = toys.make(tmp_path / "toys")
    for file in made.glob("*.jsonl"):
        assert file.read_bytes() == (again / file.name).read_bytes()
    (again / "orz.jsonl").write_text("")
    toys.make(again)
    assert (again / "orz.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("response", "verdict"),
    [(r"so \boxed{7}", "CORRECT"), (r"\boxed{7} or \boxed{8}", "INCORRECT"), ("7", "INCORRECT")],
)
def test_the_toy_judge_compares_the_last_box_with_the_reference(response, verdict):
    text = f"[REFERENCE]\n7\n[/REFERENCE]\n\n[CANDIDATE]\n{response}\n[/CANDIDATE]\n"
    said = toy_judge.judge({"messages": [{"role": "user", "content": text}]})
    assert said == f"VERDICT: {verdict}"
