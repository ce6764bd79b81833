"""Run folders become series: what is read of them, and how runs are put together."""

import json

import numpy as np
import pytest

from oapl.errors import InputError
from oapl.reports._study.curves import (
    Curve,
    curve,
    first_at,
    mapped,
    over,
    over_shared,
    smoothed,
    thinned,
)
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study, differing
from tests.support import balanced, run_folders


def made(values, start=0) -> Curve:
    return curve(np.arange(start, start + len(values)), values)


def test_of_equal_places_the_last_stays_and_what_is_not_finite_goes():
    one = curve([3, 1, 1, 2], [30.0, 10.0, 11.0, np.nan])
    assert one.x.tolist() == [1, 3]
    assert one.y.tolist() == [11, 30]


def test_several_runs_are_a_mean_with_its_standard_error():
    band = over([made([1.0, 5.0]), made([3.0, 5.0]), made([5.0])])
    assert band.mean.tolist() == [3, 5]
    assert band.error[0] == pytest.approx(2 / np.sqrt(3))  # s = 2 over three runs
    assert band.error[1] == 0
    assert band.runs.tolist() == [3, 2]


def test_a_place_with_one_run_has_no_error():
    band = over([made([1.0, 2.0]), made([3.0])])
    assert np.isnan(band.error[1])


def test_what_is_thinned_out_keeps_its_mean():
    values = np.random.default_rng(0).normal(size=1000)
    thin = thinned(made(values), 100)
    assert len(thin) == 100
    assert thin.y.mean() == pytest.approx(values.mean(), abs=0.01)
    assert thin.y[0] == pytest.approx(values[:10].mean())


def test_long_curves_are_put_together_stretch_by_stretch():
    band = over([made(np.zeros(1000)), made(np.full(1000, 2.0))], points=50)
    assert len(band.x) == 50
    assert band.mean.tolist() == [1.0] * 50
    assert band.error.tolist() == pytest.approx([1.0] * 50)


def test_a_running_mean_is_centred_and_shorter_at_the_ends():
    one = smoothed(made([0.0, 3.0, 6.0, 9.0, 30.0]), share=0.6)
    assert one.y.tolist() == pytest.approx([1.5, 3.0, 6.0, 15.0, 19.5])


def test_along_hours_runs_are_put_together_over_the_stretch_that_all_cover():
    band = over_shared([curve([0, 2], [0, 2]), curve([1, 3], [1, 3])], points=3)
    assert (band.x[0], band.x[-1]) == (1, 2)
    assert band.mean.tolist() == pytest.approx(band.x.tolist())


def test_a_level_is_reached_on_the_line_between_two_points():
    assert first_at(curve([0, 10, 20], [0.2, 0.4, 0.8]), 0.5) == pytest.approx(12.5)
    assert first_at(curve([0, 10], [0.5, 0.1]), 0.5) == 0
    assert first_at(curve([0, 10], [0.1, 0.2]), 0.5) is None


def test_a_curve_over_another_axis():
    score, rollouts = curve([0, 10, 20], [1, 2, 3]), curve([0, 20], [0, 2000])
    assert mapped(score, rollouts).x.tolist() == [0, 1000, 2000]


def test_runs_that_differ_in_their_seed_alone_are_one_series(tmp_path):
    folders = [run_folders.make(tmp_path / f"grpo-seed{n}", seed=n, steps=3) for n in (0, 1)]
    (series,) = Study.read(folders).series
    assert series.name == "grpo"
    assert len(series.runs) == 2
    assert differing(Study.read(folders).series) == []


def test_other_runs_are_series_called_by_what_differs(tmp_path):
    study = Study.read(
        [
            run_folders.make(tmp_path / "a", steps=3),
            run_folders.make(tmp_path / "b", steps=3, objective="grpo", interval=5),
            run_folders.make(tmp_path / "c", steps=3, seed=1),
        ]
    )
    assert [series.name for series in study.series] == ["oapl · interval 10", "grpo · interval 5"]
    assert [len(series.runs) for series in study.series] == [2, 1]
    assert set(differing(study.series)) == {"objective.name", "sync.interval"}


def test_files_within_the_run_folder_tell_no_runs_apart(tmp_path):
    for n in (0, 1):
        folder = run_folders.make(tmp_path / f"x-{n}", seed=n, steps=3)
        recipe = folder / "config.toml"
        recipe.write_text(recipe.read_text().replace('path = "m"', f'path = "{folder}/start"'))
    assert len(Study.read([tmp_path / "x-0", tmp_path / "x-1"]).series) == 1


def test_a_folder_without_a_run_is_refused_with_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"holds no metrics of a run.*name the folder of a run"):
        Run(tmp_path)


def test_a_run_that_has_no_whole_line_yet_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "time/st')
    with pytest.raises(InputError, match="has no whole line yet"):
        Run(tmp_path)


def test_a_run_named_twice_is_refused(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=3)
    with pytest.raises(InputError, match="named twice"):
        Study.read([folder, tmp_path / "." / "a"])


def test_a_line_torn_by_a_kill_is_left_out(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=3)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "reward/mean": 0.')
    assert Run(folder).steps == 3


def test_dropped_and_refused_groups_count_as_rollouts_and_evaluations_do_not(tmp_path):
    rows = [
        {"step": 0, "eval/s/mean@8": 0.1, "time/unix_s": 1.0},
        {"step": 1, "replay/accepted": 3.0, "replay/dropped": 1.0, "rollout/rollouts": 99.0},
        {"step": 2, "replay/accepted": 2.0, "replay/refused_stale": 1.0},
        {"step": 3, "replay/accepted": 0.0, "replay/refused_tokens": 500.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "config.toml").write_text("[rollout]\ngroup_size = 4\n")
    volume = Run(tmp_path).volume
    assert volume.x.tolist() == [0, 1, 2, 3]
    assert volume.y.tolist() == [0, 12, 24, 24]


def test_sets_that_were_logged_apart_at_a_step_are_one_evaluation(tmp_path):
    rows = [{"step": 4, "eval/a/mean@8": 0.2}, {"step": 4, "eval/b/mean@8": 0.4}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Run(tmp_path)
    assert run.sets == ("a", "b")
    assert run.evaluated("mean@n").y.tolist() == pytest.approx([0.3])
    assert run.evaluated("mean@n", "b").y.tolist() == [0.4]


def test_the_present_stage_is_known_from_the_recipe_and_those_before_from_the_record(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=3)
    recipe = folder / "config.toml"
    plain = recipe.read_text().replace("stages = []\n", "")
    stages = [f'[[stages]]\nname = "{name}"\n' for name in ("imitate", "reinforce")]
    recipe.write_text("\n".join([plain, *stages]))
    (folder / "stages.json").write_text('[{"name": "imitate", "kind": "train", "step": 2}]')
    found = [(stage.step, stage.name) for stage in Run(folder).stages]
    assert found == [(0, "imitate"), (2, "reinforce")]


def test_rollouts_and_hours_that_a_run_has_counted_are_taken_as_they_are(tmp_path):
    rows = [
        {"step": n, "replay/accepted": 9.0, "total/rollouts": 10.0 * n, "total/hours": n / 10}
        for n in (1, 2)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = Run(tmp_path)
    assert (run.volume.x.tolist(), run.volume.y.tolist()) == ([0, 1, 2], [0, 10, 20])
    assert run.worked.y.tolist() == pytest.approx([360, 720])


def test_the_seed_of_data_that_are_made_for_a_run_tells_no_runs_apart(tmp_path):
    for name, own, of_data in (("a", 0, 0), ("b", 1, 1)):
        folder = run_folders.make(tmp_path / name, seed=own, steps=3)
        recipe = folder / "config.toml"
        text = recipe.read_text()
        assert text.count("\nseed = 0\n") >= 1
        head, tail = text.split("[data]")
        recipe.write_text(f"{head}[data]{tail.replace('seed = 0', f'seed = {of_data}')}")
    assert len(Study.read([tmp_path / "a", tmp_path / "b"]).series) == 1


def test_an_objectives_options_are_not_told_beside_its_name(tmp_path):
    for name, objective, more in (
        ("a", "oapl", "beta1 = 5.0\nbeta2 = 0.1\n"),
        ("b", "grpo", 'importance = "token"\n'),
        ("c", "grpo", ""),
    ):
        folder = run_folders.make(tmp_path / name, steps=3, objective=objective)
        recipe = folder / "config.toml"
        recipe.write_text(recipe.read_text().replace("[objective]\n", f"[objective]\n{more}"))
    told = [
        [series.name for series in Study.read([tmp_path / name for name in names]).series]
        for names in ("ab", "bc")
    ]
    assert told == [["oapl", "grpo"], ["importance token", "importance -"]]


def test_a_total_counts_the_line_that_closes_an_attempt_beside_that_of_its_step(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=3)
    before = Run(folder).total("rollout/tokens")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3, "rollout/tokens": 7.0, "rollout/rollouts": None}) + "\n")
    assert Run(folder).total("rollout/tokens") == before + 7.0
    assert Run(folder).total("no/such") == 0.0


BALANCED = {
    "time/step_s": 4.0,
    "replay/accepted": 8.0,
    "replay/accepted_rollouts": 64.0,
    "replay/accepted_tokens": 640.0,
    "rollout/rollouts": 72.0,
    "rollout/tokens": 700.0,
    "rollout/evaluated": 8.0,
    "rollout/evaluated_tokens": 60.0,
    "seconds/learner/update": 3.0,
    "seconds/learner/data": 1.0,
    "seconds/engines/generate": 4.0,
    "total/hours": 4 / 3600,
    "alarms/entropy": 0.0,
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, ""),
        ({"replay/failed": 1.0}, "failed=1"),
        ({"replay/accepted": 9.0}, "trained=9"),
        ({"rollout/rollouts": 71.0}, "rollouts"),
        ({"rollout/tokens": 701.0}, "tokens"),
        ({"seconds/learner/data": 0.8}, "learner"),
        ({"seconds/engines/idle": 0.2}, "engines"),
        ({"alarms/entropy": 1.0}, "alarms/entropy"),
    ],
)
def test_the_accounts_of_a_run_add_up_or_say_what_does_not(tmp_path, changed, said):
    folder = run_folders.make(tmp_path / "a", steps=3)
    line = {"step": 1, **BALANCED, **changed}
    (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    if not said:
        balanced.check(folder)
        return
    with pytest.raises(AssertionError, match=said):
        balanced.check(folder)
