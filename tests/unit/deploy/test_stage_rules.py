"""Stages that cannot work are refused before anything starts, the stage in front."""

import pytest

from deploy.checks.handing_over import awaited, groups_of, made_by, ready, taken_over
from deploy.checks.stage_table import table
from deploy.checks.stages import check_all, check_stages, look_at_stages
from oapl.config import RunConfig
from oapl.config.stages import stages_of
from oapl.errors import InputError
from tests.support.makers import make_model

SUMS = {"name": "sums", "path": "sums.jsonl"}
WORKED = {"name": "worked", "path": "worked.jsonl"}
SFT = {
    "name": "imitate",
    "objective": {"name": "sft"},
    "rollout": {"group_size": 1},
    "data": {"sources": [WORKED]},
    "run": {"max_steps": 5},
}
GRPO = {"name": "grpo", "kl_coefficient": 0.1}


def config_of(*stages, **sections) -> RunConfig:
    given = {
        "run": {"name": "mine", "dir": "runs", "max_steps": 20},
        "model": {"path": "start"},
        "data": {"sources": [SUMS]},
        "objective": GRPO,
        **sections,
    }
    return RunConfig(**given, stages=stages)


def resolved(*stages, **sections):
    return stages_of(config_of(*stages, **sections))


def kept(*stages, **sections):
    found = resolved(*stages, **sections)
    return set(taken_over(found, found[-1]))


def test_grpo_after_grpo_takes_over_all_and_what_it_resets_is_begun_anew():
    assert kept({}, {}) == {"optimizer", "reference", "data"}
    assert kept({}, {"reset": ["optimizer"]}) == {"reference", "data"}
    assert kept({}, {"reset": ["optimizer", "reference", "data"]}) == set()


def test_another_objective_begins_with_the_weights_alone():
    assert kept(SFT, {}) == set()
    assert kept({}, {"objective": {"name": "oapl"}}) == {"data"}


def test_what_there_is_not_is_not_taken_over():
    assert kept({}) == set(), "the first one"
    assert kept({}, {"objective": {"kl_coefficient": 0.0}}) == {"optimizer", "data"}
    assert kept({}, {"model": {"path": "other"}}) == set(), "it begins from a model that it names"
    assert kept({}, {"data": {"epochs": 2}}) == {"optimizer", "reference"}, "its passes are its own"


def test_a_stage_leaves_out_what_the_recipe_says_and_its_objective_ignores():
    said = {
        "sync": {"max_lead": 5},
        "reward": {"verifiers": {"math": 0.5}},
        "reference": {"reset_every": 3},
        "replay": {"surplus": 0.1},
    }
    stages = resolved(SFT, {}, **said)
    config = ready(stages, stages[0])
    assert (config.sync.max_lead, config.reference.reset_every, config.replay.surplus) == (0, 0, 0)
    assert config.reward.verifiers == {"math": 1.0}
    assert ready(stages, stages[1]).sync.max_lead == 5
    check_stages(stages)
    with pytest.raises(InputError, match=r"stage 1 \(imitate\): sync.max_lead = 5"):
        check_stages(resolved({**SFT, "sync": {"max_lead": 5}}, {}))


def test_each_stage_gets_what_the_ones_before_have_left(tmp_path):
    generate, filtered = {"kind": "generate"}, {"kind": "filter", "filters": [{"name": "solvable"}]}
    train = {"replay": {"source": "stored"}, "reset": ["optimizer", "reference", "data"]}
    stages = resolved(generate, filtered, train)
    assert made_by(stages, stages[2]) is stages[1]
    to_come = ready(stages, stages[2])
    assert to_come.replay.path == (str(groups_of(stages[1])),)
    there = ready(stages, stages[2], str(tmp_path / "model"), tmp_path / "groups")
    assert there.model.path == str(tmp_path / "model")
    assert there.replay.path == (str(tmp_path / "groups"),)
    assert there.folder == stages[2].config.folder, "one run folder"
    made = ready(stages, stages[0])
    assert made.replay.source == "live"
    assert made.folder == stages[0].config.folder / "stages" / "generate-1"
    named = resolved(generate, {**train, "replay": {"source": "stored", "path": "set"}})
    assert made_by(named, named[1]) is None


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([{"name": "a"}, {"name": "a"}], 'stages.1.name = "a": another stage has it'),
        ([{"name": "a/b"}], 'stages.0.name = "a/b": must be letters'),
        ([{"kind": "generate", "patience": 2}], "stage 1 (generate-1): patience = 2: belongs to"),
        ([{"filters": [{"name": "solvable"}]}], "filters = "),
        ([{"kind": "filter"}], "no stage before it makes groups"),
        ([{"kind": "generate"}, {"kind": "filter"}], "filters = []: nothing would be filtered"),
        (
            [{"kind": "generate"}, {"kind": "filter", "filters": [{"name": "solveable"}]}],
            "stage 2 (filter-2): filters.0.name",
        ),
        ([{"replay": {"source": "stored"}}], "trains on what a stage of kind generate or filter"),
        ([{}, {"patience": 2}], "stage 2 (train-2): patience = 2: counts evaluations"),
        ([{}, {"run": {"max_hours": 2.0}}], "stage 2 (train-2): run.max_hours: all stages have"),
        ([{"kind": "evaluate"}], "stage 1 (evaluate-1): eval.sources is empty"),
        ([{}, {"learner": {"precision": "fp32"}}], "optimizer and reference cannot be taken over"),
        ([{}, {"learner": {"batch_size": 12}}], "stage 2 (train-2): learner.batch_size = 12"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_stage_that_cannot_work_is_named(stages, says):
    with pytest.raises(InputError) as caught:
        check_stages(resolved(*stages))
    assert says in str(caught.value)


def test_another_shape_is_no_problem_where_nothing_is_taken_over():
    anew = {"reset": ["optimizer", "reference"], "learner": {"precision": "fp32"}}
    check_stages(resolved({}, anew))


def test_a_stage_may_have_other_ranks_and_share_them_out_otherwise():
    check_stages(resolved({}, {"learner": {"zero_stage": 2, "num_ranks": 2}}))


def test_a_run_without_stages_has_the_rules_that_it_had():
    check_all(config_of())
    with pytest.raises(InputError, match=r"^learner.batch_size"):
        check_all(config_of(learner={"batch_size": 12}))


def test_the_table_tells_how_a_stage_ends_what_it_takes_over_and_what_is_other():
    later = {
        "name": "later",
        "patience": 3,
        "reset": ["reference"],
        "rollout": {"group_size": 16},
        "eval": {"every_syncs": 1, "sources": [SUMS]},
    }
    lines = table(resolved(SFT, {"name": "rl"}, later))
    assert lines[0] == "stage 1/3 imitate: train, 5 steps, or `oapl next`"
    assert lines[1] == "    begins from start"
    text = "\n".join(lines)
    assert "takes over weights from imitate; anew: optimizer, reference, data" in text
    assert 'objective.name = "grpo" (was "sft")' in text
    assert "takes over weights, optimizer, data from rl; anew: reference" in text
    assert "20 steps, or 3 evaluations in a row no better than its best, or `oapl next`" in text
    assert "rollout.group_size = 16 (was 8)" in text


def test_a_dry_run_looks_at_every_stage_and_names_the_one_that_cannot_work(tmp_path):
    make_model(tmp_path / "model")
    for name in ("sums", "worked"):
        rows = '{"prompt": "1+1=", "answer": "2", "response": "2"}\n' * 8
        (tmp_path / f"{name}.jsonl").write_text(rows)

    def look(*stages):
        return look_at_stages(
            config_of(
                *stages,
                run={"name": "mine", "dir": str(tmp_path / "runs"), "max_steps": 4},
                model={"path": str(tmp_path / "model")},
                data={"sources": [{"name": "sums", "path": str(tmp_path / "sums.jsonl")}]},
                rollout={"max_tokens": 8},
            ),
            is_dry=True,
        )

    worked = {"name": "worked", "path": str(tmp_path / "worked.jsonl")}
    imitate = {**SFT, "data": {"sources": [worked]}}
    generate, train = {"kind": "generate"}, {"replay": {"source": "stored"}}
    told = str(look(imitate, {"name": "rl"}, generate, train))
    assert "# stage 2/4 rl: train, 4 steps, or `oapl next`" in told
    assert "# stage 2 (rl)" in told
    assert "data worked" in told
    assert "those that stage generate-3 will have made" in told
    twice = str(look(imitate, {"name": "rl"}, {"name": "more"}))
    assert "# stage 2 (rl)\n" in twice
    assert "# stage 3 (more): as the one before" in twice
    assert twice.count("# memory ") == 2, "once of the stages that train alike"
    missing = {"name": "rl", "data": {"sources": [{"name": "no", "path": "no.jsonl"}]}}
    with pytest.raises(InputError, match=r"^stage 2 \(rl\): .*no.jsonl"):
        look(imitate, missing)


def test_what_an_earlier_stage_will_have_made_is_awaited():
    generate, train = {"kind": "generate"}, {"replay": {"source": "stored"}}
    stages = resolved(generate, train, generate, train)
    names = [one and one.name for one in (awaited(stages, stage) for stage in stages)]
    assert names == [None, "generate-1", "train-2", "generate-3"]
    own = resolved({}, {"kind": "generate", "model": {"path": "other"}})
    assert awaited(own, own[1]) is None


def test_a_stage_that_samples_nothing_sets_no_engines_aside_by_its_recipe():
    """One of two is for stages that sample; where nothing is sampled all of them only evaluate."""
    section = {"every_steps": 5, "engines": 1, "sources": [SUMS]}
    recipe = {"rollout": {"num_engines": 2, "group_size": 8}, "eval": section}
    imitate, train = stages_of(config_of(SFT, {"name": "rl"}, **recipe, sync={"interval": 5}))
    made = [ready((imitate, train), one, "m", None) for one in (imitate, train)]
    assert [config.eval.engines for config in made] == [0, 1]
    both = {**SFT, "eval": {**section, "engines": 2}}
    imitate, train = stages_of(config_of(both, {"name": "rl"}, **recipe, sync={"interval": 5}))
    assert ready((imitate, train), imitate, "m", None).eval.engines == 2
