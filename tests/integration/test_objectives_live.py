"""Each objective trains the quickstart's model on real Ray, vLLM, DeepSpeed and reward servers.

Two of them in every run of the tests, all with `make objectives`. Rewards are a coin's, so that
groups differ from the first step on: this shows that the parts hold together, not that it learns.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.commands import quickstart
from deploy.run import program
from learner.checkpoints.contents import REPLAY, read_pickle
from oapl.config.toml import load_config
from oapl.objectives.base import build
from tests.support import objectives

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

STEPS, INTERVAL, GROUPS = 32, 4, 8
USUAL = ("grpo", "ppo")
"""Those of every run."""
SIZES = {"sft": 1200, "train": 600, "eval": 8}
REWARD = "def reward(prompt, response, reference):\n    return float(len(response) % 2)\n"
NAMES = [
    pytest.param(name, marks=() if name in USUAL else pytest.mark.by_hand)
    for name in objectives.names()
]


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """The quickstart's problems and untrained model, and a function that judges."""
    folder = tmp_path_factory.mktemp("objectives")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart, "SIZES", SIZES)
        quickstart.prepare(folder, seed=0)
    (folder / "coin.py").write_text(REWARD)
    return folder


def config_of(start: Path, runs: Path, name: str):
    """The quickstart's own recipe, with another objective, L = 4 and no lead."""
    example = objectives.example(name)
    overrides = [
        *quickstart.placeholders(),
        f"run.dir={json.dumps(str(runs))}",
        f"run.name={name}",
        f"run.max_steps={STEPS}",
        f"sync.interval={INTERVAL}",
        "sync.max_lead=0",
        "rollout.max_tokens=16",
        "checkpoint.every_syncs=0",
        'tracking.console="off"',
        'tracking.wandb="off"',
        f"learner.mini_batches={example.mini_batches}",
        f"learner.updates_per_batch={example.updates_per_batch}",
    ]
    config = load_config(quickstart.RECIPES / "cpu_quickstart.toml", overrides)
    config = quickstart.reinforcement(config, start, start / "model")
    (source,) = config.data.sources
    return replace(
        config,
        objective={"name": name, **example.options},
        data=replace(config.data, sources=(replace(source, verifiers={"function": 1.0}),)),
        reward=replace(
            config.reward, options={"function": {"function": f"{start / 'coin.py'}:reward"}}
        ),
        eval=replace(config.eval, sources=()),
    )


def imitation_of(start: Path, runs: Path, name: str):
    config = quickstart.imitation(config_of(start, runs, "oapl"), start)
    run = replace(config.run, name=name, max_steps=STEPS)
    return replace(config, run=run, objective={"name": name})


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def found(lines: list[dict], name: str) -> list[float]:
    return [line[name] for line in lines if name in line]


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_trains_for_32_steps_at_an_interval_of_four(
    ray_cluster, start: Path, tmp_path: Path, name: str
):
    options = {"name": name, **objectives.example(name).options}
    samples = build(options).declares.samples
    config = (config_of if samples else imitation_of)(start, tmp_path, name)
    outcome = program.train(config)
    assert outcome.step == STEPS
    lines = lines_of(config.folder)
    made = [line for line in lines if "time/step_s" in line]
    assert found(made, "step") == list(range(1, STEPS + 1))
    odd = {key: value for line in lines for key, value in line.items() if not is_finite(value)}
    assert not odd
    assert not any(found(lines, "faults/skipped_steps"))
    assert min(found(lines, "policy/grad_norm")) > 0
    assert (config.folder / "model" / "model.safetensors").is_file()
    if samples:
        assert_published(lines)
        assert_every_draw_ended_once(config, lines)


def is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def assert_published(lines: list[dict]) -> None:
    """Every four steps, as the learner has it."""
    assert found(lines, "weights/version") == list(range(0, STEPS, INTERVAL))
    assert max(found(lines, "weights/probe")) < 1.001


def assert_every_draw_ended_once(config, lines: list[dict]) -> None:
    """And those that were trained on did so within a period; history is older by design."""
    replay = read_pickle(config.folder / "checkpoints" / f"step-{STEPS}" / REPLAY)
    places = sum(len(replay[place]) for place in ("queue", "in_flight", "buffer", "ahead"))
    assert replay["drawn"] == places + sum(replay["fates"].values())
    trained = sum(n for (kind, _), n in replay["fates"].items() if kind == "trained")
    taken = STEPS * GROUPS // config.learner.updates_per_batch
    if build(config.objective).declares.history:
        assert 0 < trained < taken
    else:
        assert trained == taken
        assert max(found(lines, "replay/lag_max")) <= INTERVAL - 1
