"""What a run finds in stored sets: counted where it can train on them, else refused in words."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from actors.data.fingerprints import header_of
from actors.data.tokenizer import load_tokenizer
from deploy.checks.preflight import preflight
from deploy.checks.stored import is_of_the_model, look_at_sets
from deploy.processes.roles import demands
from deploy.run.batches import build_stored
from oapl import groups_file
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.groups_file import StoredGroup, Writer
from oapl.records import Sampling
from tests.support.makers import make_group, make_model

GRPO = "objective.name=grpo"
INFERENCE = "objective.ratio_to=inference"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_model(folder / "model")
    make_model(folder / "other", vocab_size=120)
    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(4)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def config_of(files, path, *overrides):
    base = [f"run.dir={files / 'runs'}", f"model.path={files / 'model'}", "replay.source=stored"]
    return load_config(None, [*base, f"replay.path={json.dumps(path)}", *overrides])


def write(files, path, groups, model="model", **said):
    """A set of a model, as it says, with other words of the header in `said`."""
    config = load_config(None, [f"model.path={files / model}"])
    header = header_of(
        config, load_tokenizer(config.model.path, False), made_by="generate", logprobs="sampled"
    )
    with Writer(path, dataclasses.replace(header, **said)) as writer:
        for group in groups:
            writer.add(group)
    return path


def group(number, rewards=(1.0, 0.0), *, version=0, length=5, logprobs=True, **sampling):
    made = make_group(
        [length] * len(rewards), rewards=rewards, version=version, name=f"s:{number}@0", seed=number
    )
    inner = dataclasses.replace(made.group, sampling=Sampling(**sampling))
    if not logprobs:
        bare = (dataclasses.replace(one, inference_logprobs=None) for one in inner.rollouts)
        inner = dataclasses.replace(inner, rollouts=tuple(bare))
    return StoredGroup.from_scored(dataclasses.replace(made, group=inner))


GOOD = [group(0), group(1, (1.0, 1.0)), group(2, (0.0, 0.0, 1.0)).keeping(np.array([1, 0, 1]) > 0)]


def test_a_set_is_counted_and_steps_are_told_in_passes(files, tmp_path):
    write(files, tmp_path / "a", GOOD)
    write(files, tmp_path / "b", [group(3, length=9)])
    both = [str(tmp_path / "a"), str(tmp_path / "b")]
    asked = (GRPO, "objective.uniform=drop", "learner.batch_size=3", "run.max_steps=8")
    report = preflight(config_of(files, both, *asked, "data.epochs=2"))
    assert report.facts["stored groups"] == (
        f"4 groups, 8 of 9 rollouts, 48 tokens at temperature 1, made for {files / 'model'}, "
        "1 groups dropped by the objective"
    )
    assert report.facts["steps"] == "8 of 3 stored rollouts: 4.00 passes over the set"
    assert report.notes == ("the data ends after about 4 of run.max_steps = 8 (data.epochs = 2)",)
    assert "engine" not in report.facts
    assert "rollouts" not in report.facts
    assert report.trials == ()


def test_a_run_from_a_set_asks_for_ranks_alone_unless_it_evaluates(files, tmp_path):
    path = str(write(files, tmp_path / "a", GOOD))
    asked = {d.what: d.count for d in demands(config_of(files, path))}
    assert asked == {"learner rank": 1, "rollout worker": 0, "replay buffer": 0, "reward server": 0}
    sets = [f"eval.sources.0.path={files / 'test.jsonl'}", "eval.sources.0.name=test"]
    config = config_of(files, path, *sets, "rollout.max_tokens=64")
    asked = {d.what: d.count for d in demands(config)}
    assert asked == {"learner rank": 1, "rollout worker": 1, "replay buffer": 0, "reward server": 1}
    report = preflight(config)
    assert "engine" in report.facts
    assert [prompt.source for prompt in report.trials] == ["test"] * 3


REFUSED = {
    "another tokenizer": (
        {"model": "other"},
        GOOD,
        (),
        ("its tokens are of the tokenizer of", "other", "name that model"),
    ),
    "another template": (
        {"template": "0" * 32},
        GOOD,
        (),
        ("written by another template", "set data.template"),
    ),
    "no log-probs": (
        {"logprobs": None},
        [group(0, logprobs=False)],
        (GRPO, INFERENCE),
        ("has no log-probs", "grpo", "geometric, sft"),
    ),
    "two temperatures": (
        {},
        [group(0), group(1, temperature=0.6)],
        (GRPO,),
        ("sampled at temperatures 0.6 and 1", "divides logits", "sets of one temperature"),
    ),
    "greedy": ({}, [group(0, temperature=0.0)], (GRPO,), ("temperatures 0,", "above 0")),
    "a cut distribution": (
        {},
        [group(0, top_p=0.9)],
        (),
        ("group s:0@0: sampled with top_p = 0.9 and top_k = 0", "make the groups without"),
    ),
    "a lone rollout": (
        {},
        [group(0), group(1, (1.0,))],
        (GRPO,),
        ("group s:1@0: 1 rollout, but grpo needs at least 2", "geometric, sft"),
    ),
    "longer than the model reads": (
        {},
        [group(0, length=600)],
        (),
        ("606 tokens with its longest response, but the model reads 512", "take it out"),
    ),
    "an anchor of another model": (
        {"model": "other"},
        GOOD,
        ("objective.anchor=sampler", "model.path={files}/copy"),
        ("was made for", "start from that model", 'objective.anchor = "inference"'),
    ),
    "an anchor of another version": (
        {},
        [group(0), group(1, version=50)],
        ("objective.anchor=sampler",),
        ("group s:1@0: sampled by version 50", 'objective.anchor = "inference"'),
    ),
    "nothing but dropped groups": (
        {},
        GOOD[1:2],
        (GRPO, "objective.uniform=drop"),
        ("of 1 stored groups the objective drops all (uniform)",),
    ),
    "no group": ({}, [], (), ("holds no group", "oapl generate")),
}


def test_the_model_of_a_set_is_known_by_its_weights_and_else_by_its_name(files, tmp_path):
    """So a copy is the same one, and what was trained in its place since is another."""
    moved = shutil.copytree(files / "model", tmp_path / "moved")
    config = config_of(files, str(tmp_path / "set"), f"model.path={moved}")
    known = groups_file.header(write(files, tmp_path / "set", GOOD))
    assert known.model != config.model.path
    assert is_of_the_model(config, known)
    unknown = dataclasses.replace(known, weights="")
    assert not is_of_the_model(config, unknown)
    assert is_of_the_model(config, dataclasses.replace(unknown, model=str(moved)))
    make_model(moved, seed=1)
    assert not is_of_the_model(config, dataclasses.replace(known, model=str(moved)))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_trained_on_is_refused_in_words(files, tmp_path, name):
    said, groups, overrides, words = REFUSED[name]
    path = str(write(files, tmp_path / "set", groups, **said))
    if name == "an anchor of another model" and not (files / "copy").exists():
        make_model(files / "copy", vocab_size=120, seed=1)
    asked = [override.replace("{files}", str(files)) for override in overrides]
    with pytest.raises(InputError) as caught:
        preflight(config_of(files, path, *asked))
    assert str(caught.value).startswith("replay.path")
    for expected in words:
        assert expected in str(caught.value)
    assert not (files / "runs").exists()


def test_what_one_objective_refuses_another_trains_on(files, tmp_path):
    mixed = [group(0, logprobs=False), group(1, (1.0,), temperature=0.6, logprobs=False)]
    path = str(write(files, tmp_path / "set", mixed, logprobs=None))
    for name in ("geometric", "sft"):
        config = config_of(files, path, f"objective.name={name}", "learner.batch_size=2")
        assert "2 groups, 3 of 3 rollouts" in preflight(config).facts["stored groups"]
        assert len(build_stored(config)) == 3


def test_a_lone_rollout_with_a_v_star_is_trained_on_by_oapl(files, tmp_path):
    lone = group(0, (1.0,))
    prompt = dataclasses.replace(lone.prompt, reference={"v_star": 0.25})
    path = str(write(files, tmp_path / "set", [dataclasses.replace(lone, prompt=prompt)]))
    config = config_of(files, path, "objective.baseline=column", "learner.batch_size=1")
    preflight(config)
    (piece,) = build_stored(config).draw(1)
    assert piece.credit.values.tolist() == [0.75]
    with pytest.raises(InputError, match=r"oapl needs at least 2.*objective.baseline = .column."):
        preflight(config_of(files, path, "learner.batch_size=1"))


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_set_is_refused_before_anything_starts(files, tmp_path, damage):
    path = write(files, tmp_path / "set", GOOD)
    shard = path / "groups-00000.parquet"
    content = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(content[: len(content) // 2])
    else:
        content[content.index(b"s:0@0")] ^= 0xFF  # in a page, under its checksum
        shard.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged|holds no stored groups"):
        preflight(config_of(files, str(path)))


def test_a_run_would_go_on_over_the_same_set_only(files, tmp_path):
    path = str(write(files, tmp_path / "set", GOOD))
    config = config_of(files, path)
    tokenizer = load_tokenizer(config.model.path, False)
    assert look_at_sets(config, tokenizer).digest == build_stored(config).digest
