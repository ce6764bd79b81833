"""Whole runs, killed without grace and started again, beside ones that nobody disturbed.

They train on stored groups, so that the same batches come: what differs at the end was lost. With
rates, critic, reference, entropy's switch and loss scale all of the learner's states are in it.
"""

import json
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from learner.checkpoints.by_name import Pieces
from learner.checkpoints.contents import REPLAY, read_pickle
from learner.shares import Stretch
from tests.support.exact import relative_error
from tests.support.whole_runs import Run, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.by_hand, pytest.mark.timeout(1800)]

BOUND = 1e-4
"""Of the parameters after six of Adam's steps with another number of ranks."""
GRPO = (
    *("objective.name=grpo", "objective.kl_coefficient=0.1", "objective.entropy_coefficient=0.01"),
    *("objective.entropy_target=99.0", "reference.reset_every=5", "learner.precision=fp16"),
)
PPO = ("objective.name=ppo", "objective.kl_coefficient=0.1", "learner.mini_batches=2")
WAYS = {
    "oapl": ("learner.zero_stage=2",),
    "grpo": GRPO,
    "ppo": PPO,
    "written beside": ("checkpoint.beside=true", "learner.zero_stage=3"),
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("resumed"))


@pytest.fixture(scope="module")
def stored(recipe) -> tuple[str, ...]:
    """Settings of a run on groups that were made before."""
    made = Run(recipe, "made", verb="generate")
    code, output = made.end()
    assert code == 0, output
    return ("replay.source=stored", f"replay.path={made.folder / 'groups'}", "checkpoint.keep=9")


def trained(recipe, name, *settings) -> Run:
    run = Run(recipe, name, *settings)
    code, output = run.end()
    assert code == 0, output
    return run


def killed(recipe, name, *settings) -> Path:
    """Stopped between two checkpoints; returns its folder."""
    run = Run(recipe, name, *settings)
    run.wait_for_step(6)
    run.kill(signal.SIGKILL)
    run.end()
    assert run.left(seconds=120) == []
    saved = [int(path.name.removeprefix("step-")) for path in run.folder.glob("checkpoints/step-*")]
    assert 0 < max(saved) < 12, "else nothing is made again"
    return run.folder


def everything(folder: Path) -> dict[str, torch.Tensor]:
    """What the last checkpoint says of policy, critic and copies of the policy."""
    found = {}
    for part in sorted(folder.glob("checkpoints/step-12/trainer/*/")):
        pieces = Pieces(part, "model.path")
        for key in pieces.written():
            found[f"{part.name} {key}"] = pieces.read(key, Stretch(0, pieces.size(key)))
        found |= {f"{part.name} step|{n}": torch.tensor(s) for n, s in pieces.steps.items()}
    return found


def numbers(folder: Path) -> list[dict[str, float]]:
    """What each step's line says, but for times, memory and what adds up over restarts."""
    timely = ("time/", "perf/", "seconds/", "total/", "idle/", "faults/", "alarms/")
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [
        {name: value for name, value in line.items() if not name.startswith(timely)}
        for line in lines
        if "time/step_s" in line
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_killed_run_ends_as_the_undisturbed_one_bit_for_bit(recipe, stored, way):
    settings, name = (*stored, *WAYS[way]), way.replace(" ", "-")
    whole = trained(recipe, f"{name}-whole", *settings).folder
    killed(recipe, f"{name}-killed", *settings)
    again = trained(recipe, f"{name}-killed", *settings).folder
    one, other = everything(whole), everything(again)
    kinds = {key.partition("|")[0] for key in one}
    assert one.keys() == other.keys()
    assert {"policy weight", "policy exp_avg", "policy exp_avg_sq"} <= kinds
    assert ("policy set.reference" in kinds) == (way in ("grpo", "ppo"))
    assert ("critic exp_avg" in kinds) == (way == "ppo")
    assert [key for key in one if not torch.equal(one[key], other[key])] == []
    for file in ("trainer/state.json", "state.json"):
        texts = [(run / "checkpoints/step-12" / file).read_text() for run in (whole, again)]
        assert texts[0] == texts[1], file
    cursors = [read_pickle(run / "checkpoints/step-12" / REPLAY) for run in (whole, again)]
    for cursor in cursors:
        del cursor["counts"]  # of what is yet to be told, an object; lines are compared below
    assert cursors[0] == cursors[1]
    assert numbers(whole) == numbers(again)
    models = [load_file(run / "model" / "model.safetensors") for run in (whole, again)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])


@pytest.mark.parametrize("layout", [(2, 3), (2, 1), (1, 0)], ids=str)
def test_a_killed_run_goes_on_with_other_ranks_and_at_another_stage(recipe, stored, layout):
    ranks, stage = layout
    settings = (*stored, "learner.zero_stage=2")
    other = (f"learner.num_ranks={ranks}", f"learner.zero_stage={stage}")
    whole = trained(recipe, f"as-it-was-{ranks}-{stage}", *settings).folder
    killed(recipe, f"moved-{ranks}-{stage}", *settings)
    moved = trained(recipe, f"moved-{ranks}-{stage}", *stored, *other).folder
    models = [load_file(run / "model" / "model.safetensors") for run in (whole, moved)]
    away = relative_error(models[1], models[0])
    print(f"{ranks} ranks at stage {stage} in place of one at stage 2: parameters {away:.1e}")
    assert away < BOUND
    steps = [[line["step"] for line in numbers(run)] for run in (whole, moved)]
    assert steps == [[*range(1, 13)]] * 2
