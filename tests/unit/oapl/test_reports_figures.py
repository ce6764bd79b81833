"""What each figure shows, number by number, and that it says why where it cannot."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from oapl import groups_file, reports
from oapl.reports import (
    accuracy_by_length,
    balance,
    categories,
    dynamics,
    efficiency,
    events,
    lengths,
    pass_at_k,
    ratio_by_position,
    restarts,
    results,
    rollouts,
    seconds,
)
from oapl.reports._study.answers import answered_at
from oapl.reports._study.rollouts import pieces, stored, tokens
from oapl.reports._study.run import Run
from oapl.reports._study.study import Study
from oapl.reports.base import FIGURES, SECTIONS, Absent, Panels
from tests.support import run_folders

NEVER_DRAWN_FROM_SUCH_RUNS = {"ratio_by_position", "categories", "restarts"}
NAMES = FIGURES.names()


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """Two series, one of two seeds."""
    top = tmp_path_factory.mktemp("runs")
    return Study.read(
        [
            run_folders.make(top / "oapl-seed0", seed=0),
            run_folders.make(top / "oapl-seed1", seed=1),
            run_folders.make(top / "grpo", objective="grpo", level=0.6),
        ]
    )


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Study:
    """A run that has recorded a number without a meaning."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "metrics.jsonl").write_text('{"step": 1, "engine/x": 1.0}\n')
    return Study.read([folder])


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_drawn_from_whole_runs(name, study):
    drawing = FIGURES.load(name).draw(study)
    assert isinstance(drawing, Absent) == (name in NEVER_DRAWN_FROM_SUCH_RUNS), drawing


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_without_its_data_says_why_in_a_line(name, bare):
    drawing = FIGURES.load(name).draw(bare)
    if name == "setup":
        assert drawing.rows
    else:
        assert isinstance(drawing, Absent)
        assert len(drawing.why) > 20
        assert "\n" not in drawing.why
        assert not drawing.why.endswith(".")


def test_every_figure_has_a_place_of_its_own():
    places = [(about.section, about.place) for about in (FIGURES.load(n).DECLARES for n in NAMES)]
    assert len(set(places)) == len(places)
    assert {section for section, _ in places} == set(SECTIONS)


def test_no_line_is_empty_and_each_has_as_many_heights_as_places(study):
    for name in NAMES:
        drawing = FIGURES.load(name).draw(study)
        for panel in drawing.panels if isinstance(drawing, Panels) else ():
            for line in getattr(panel, "lines", ()):
                assert len(line.x) == len(line.y) > 0, (name, panel.title)
                assert np.isfinite(line.y).all(), (name, panel.title)


def test_two_seeds_have_a_band_and_one_has_none(study):
    (reward, *_) = FIGURES.load("learning").draw(study).panels
    two, one = reward.lines
    assert two.low is not None
    assert (two.high >= two.low).all()
    assert one.low is None


def test_pass_at_k_is_the_share_of_all_choices_that_hold_a_right_answer(tmp_path):
    rewards = [[1, 0, 0, 0], [1, 1, 0, 1]]
    folder = tmp_path / "evaluations"
    folder.mkdir()
    lines = [
        {"id": str(n), "samples": [{"reward": r, "tokens": 3} for r in row]}
        for n, row in enumerate(rewards)
    ]
    (folder / "step-0.s.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (answered,) = answered_at(tmp_path)
    by_hand = [
        np.mean([np.mean([max(c) for c in itertools.combinations(row, k)]) for row in rewards])
        for k in (1, 2, 4)
    ]
    assert pass_at_k.estimates(answered, 1.0).tolist() == pytest.approx(by_hand)


def test_bins_of_length_hold_all_answers():
    lengths = np.array([5.0, 5, 5, 7, 9, 100, 101, 102])
    edges = accuracy_by_length.edges_of(lengths)
    assert (np.diff(edges) > 0).all()
    assert edges[0] == 5
    assert edges[-1] == 103


def test_accuracy_by_length_adds_up_to_the_accuracy_of_all(study):
    accuracy, share = accuracy_by_length.draw(study).panels
    for right, many in zip(accuracy.groups, share.groups, strict=True):
        assert sum(many.values) == pytest.approx(1)
        whole = np.nansum(np.array(right.values) * np.array(many.values))
        column = next(c for c in accuracy_by_length.columns(study) if c.name == right.label)
        assert whole == pytest.approx(accuracy_by_length.samples(column)[:, 1].mean())


def test_the_learners_seconds_are_its_parts_and_the_rest_of_a_step(tmp_path):
    rows = [
        {
            "step": 1,
            "time/step_s": 10.0,
            "time/wait_for_batch_s": 6.0,
            "time/forward_backward_s": 3.0,
            "time/both_working_s": 3.0,
            "idle/engines": 0.25,
            "rollout/tokens": 900.0,
            "rollout/aborted_tokens": 100.0,
            "time/unix_s": 110.0,
        },
        {  # publication and checkpoint were part of the wait, and are counted once
            "step": 2,
            "time/step_s": 10.0,
            "time/wait_for_batch_s": 8.0,
            "time/publish_s": 2.0,
            "time/checkpoint_s": 1.0,
            "time/forward_backward_s": 2.0,
            "time/unix_s": 120.0,
        },
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spent = seconds.spent_by(Run(tmp_path))
    assert spent.edges.tolist() == pytest.approx([0, 10, 20], abs=0.01)
    learner = {name: values.tolist() for name, values in spent.learner.items()}
    assert learner[seconds.DATA] == pytest.approx([0.6, 0.5])
    assert learner[seconds.UPDATE] == pytest.approx([0.3, 0.2])
    assert learner["publication"] == pytest.approx([0, 0.2])
    assert learner[seconds.REST] == pytest.approx([0.1, 0])
    assert sum(map(np.array, learner.values())).tolist() == pytest.approx([1, 1])
    assert spent.engines[seconds.IDLE][0] == pytest.approx(0.25)
    assert spent.engines[seconds.THROWN][0] == pytest.approx(0.075)
    assert spent.engines[seconds.GENERATE][0] == pytest.approx(0.675)


def test_the_balance_adds_up_and_names_a_difference(tmp_path):
    run = Run(run_folders.make(tmp_path / "a", steps=20))
    found = balance.balance_of(run)
    assert found.steps_took == found.trained == 20 * run_folders.GROUPS_PER_STEP
    assert found.cleared == 2 * run_folders.G * run_folders.MEAN_LENGTH
    assert balance._note({"a": found}).startswith("It adds up: the learner steps took the 160 ")
    assert "leave 159 for them" in balance._note({"a": replace(found, trained=159.0)})


def test_a_level_is_told_by_what_each_series_took(tmp_path):
    fast = run_folders.make(tmp_path / "fast", level=0.95, has_rollouts=False)
    slow = run_folders.make(tmp_path / "slow", interval=20, level=0.7, has_rollouts=False)
    study = Study.read([fast, slow])
    level = efficiency.level_of(study)
    quick, long = (efficiency.cost(one, efficiency.by_steps, level) for one in study.series)
    assert quick < long == 60
    assert f"({long / quick:.1f} times)" in efficiency.draw(study).note


def test_the_best_of_a_column_is_marked_and_the_gain_is_told_in_points(study):
    table = results.draw(study)
    before, oapl, grpo = table.rows
    assert [row[0].text for row in table.rows] == ["before training", "oapl", "grpo"]
    assert (oapl[1].mark, grpo[1].mark, before[1].mark) == ("best", "second", "")
    gain = table.columns.index("gain, points")
    assert float(oapl[gain].text) > float(grpo[gain].text) > 10


def test_ratios_by_position_are_drawn_once_they_are_recorded(tmp_path):
    ratios = {f"policy/ratio_at/{number}": 1 + number / 10 for number in range(10)}
    folder = run_folders.make(tmp_path / "a", steps=4, extra=ratios)
    (panel,) = ratio_by_position.draw(Study.read([folder])).panels
    early, late = panel.lines
    assert early.y.tolist() == late.y.tolist() == pytest.approx(list(ratios.values()))
    assert late.x.tolist() == pytest.approx([5, 15, 25, 35, 45, 55, 65, 75, 85, 95])


def test_chosen_rollouts_are_of_different_questions(study):
    found = list(rollouts.chosen(stored(study.runs[0].folder), 2))
    questions = [one.question for _, one in found]
    assert len(set(questions)) == len(questions) >= 4
    assert [kind for kind, _ in found][:4] == ["best", "best", "worst", "worst"]
    assert found[0][1].told["reward"] == 1
    assert found[2][1].told["reward"] == 0


def test_tokens_are_tinted_by_the_learners_drift_where_it_was_kept(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=4)
    assert rollouts.draw(Study.read([folder])).note == rollouts.UNCUT
    (folder / "model").mkdir()
    letters = Tokenizer(models.WordLevel({f"<{n}>": n for n in range(20)}, unk_token="<0>"))
    letters.decoder = decoders.Fuse()
    letters.save(str(folder / "model" / "tokenizer.json"))
    assert rollouts.draw(Study.read([folder])).note == rollouts.UNTOLD
    shard = folder / "rollouts" / "groups-00000.parquet"
    drifted = np.array([-0.5 + 0.1 * n for n in range(10)], np.float32)
    groups = [
        replace(group, learner_logprobs=(drifted,) * len(group.rollouts))
        for group in groups_file.read_shard(shard)
    ]
    groups_file.write_shard(shard, groups, groups_file.header(folder / "rollouts"))
    drawn = rollouts.draw(Study.read([folder]))
    assert drawn.note == ""
    first = drawn.questions[0].answers[0]
    assert [token.nats for token in first.tokens] == pytest.approx(
        [0.1 * n for n in range(10)], abs=1e-6
    )
    ids = tokens(stored(folder)[0]).ids
    assert "".join(token.text for token in first.tokens) == letters.decode(ids.tolist())


def test_a_letter_of_two_tokens_belongs_to_the_last(tmp_path):
    vocab = {"a": 0, "Ã": 1, "¼": 2}  # ü in bytes, as byte-level tokenizers write them
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert pieces(np.array([0, 1, 2, 0]), [tmp_path]) == ["a", "", "ü", "a"]
    assert pieces(np.array([0]), [tmp_path / "none"]) is None


def test_an_unknown_figure_is_refused_with_the_nearest_one(study):
    with pytest.raises(Exception, match=r"--figure = 'lerning'.*did you mean 'learning'"):
        reports.draw(study, ["lerning"])


def test_seconds_that_a_run_accounts_for_are_taken_as_they_are(tmp_path):
    row = {
        "step": 1,
        "time/step_s": 9.0,
        "time/wait_for_batch_s": 8.0,
        "seconds/learner/start": 2.0,
        "seconds/learner/data": 3.0,
        "seconds/learner/update": 4.0,
        "seconds/learner/other": 1.0,
        "seconds/engines/generate": 10.0,
        "seconds/engines/thrown_away": 2.0,
        "seconds/engines/idle": 4.0,
        "seconds/engines/absent": 2.0,
        "time/unix_s": 100.0,
    }
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 0, "time/unix_s": 90.0}) + "\n")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    spent = seconds.spent_by(Run(tmp_path))
    learner = {name: values[0] for name, values in spent.learner.items()}
    assert learner == pytest.approx({seconds.REST: 0.3, seconds.DATA: 0.3, seconds.UPDATE: 0.4})
    engines = {name: values[0] for name, values in spent.engines.items()}
    shares = {seconds.GENERATE: 10 / 18, seconds.THROWN: 2 / 18, seconds.IDLE: 4 / 18}
    assert engines == pytest.approx({name: 0.9 * share for name, share in shares.items()})


def test_an_alarm_stands_where_it_went_on_and_a_fault_as_often_as_it_was(tmp_path):
    rows = [
        {"step": step, "time/unix_s": 100.0 + step, "alarms/entropy": on, "faults/engine": fault}
        for step, on, fault in ((1, 0.0, 0.0), (2, 1.0, 0.0), (3, 1.0, 2.0), (4, 0.0, 0.0))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine, alarm = events.lanes_of(Run(tmp_path))
    assert (engine.label, engine.at, engine.weights) == ("engine", (2.0,), (2.0,))
    assert (alarm.label, alarm.at) == ("alarm: entropy", (1.0,))


def test_what_was_started_again_is_told_with_its_cause_and_what_it_cost(tmp_path):
    """A worker alone; then all, back from step 8 to step 4: 4 steps of 2 s again, 30 s to start."""
    folder = run_folders.make(tmp_path / "one", steps=10)
    at = run_folders.BEGAN + 100.0
    lines = [
        {
            "step": step,
            "time/step_s": 2.0,
            "time/unix_s": at + 2.0 * step,
            "seconds/learner/update": 2.0,
        }
        for step in range(1, 9)
    ]
    again = [
        {**line, "time/unix_s": line["time/unix_s"] + 42.0, "seconds/learner/restart": restart_s}
        for line, restart_s in zip(lines[4:], (30.0, 0.0, 0.0, 0.0), strict=True)
    ]
    write_lines(folder / "metrics.jsonl", [*lines[:4], *again])
    write_lines(folder / "metrics.after-step-4.jsonl", lines[4:])
    write_lines(
        folder / "restarts.jsonl",
        [
            {"at_unix_s": at + 3.0, "part": "worker 0", "cause": "died: killed by signal 9"},
            {"at_unix_s": at + 13.0, "part": "reward-0", "cause": "no answer for 30 s"},
            {"at_unix_s": at + 16.5, "part": "replay", "cause": "replay died"},
        ],
    )
    table = restarts.draw(Study.read([folder]))
    assert [[cell.text for cell in row][1:] for row in table.rows] == [
        ["1", "worker 0", "died: killed by signal 9", "–"],
        ["6", "reward-0", "no answer for 30 s", "–"],
        ["8", "all, for the replay", "replay died", "30 s to start, 4 steps again (8 s)"],
    ]
    # 16 s of steps and 30 s to start are kept, 8 s were made again: 1 - 38 / 54.
    assert "3 in all; starts after them took 30 s, steps made again 8 s" in table.note
    assert "effective training time 29.6%" in table.note


def write_lines(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_resets_and_stages_are_marked_in_every_curve(tmp_path):
    folder = run_folders.make(tmp_path / "a", steps=20)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        if row["step"] == 9 and "policy/entropy" in row:
            row["reference/resets"] = 1.0
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "stages.json").write_text('[{"name": "a", "step": 5}, {"name": "b", "step": 12}]')
    recipe = (folder / "config.toml").read_text().replace("stages = []\n", "")
    named = "".join(f'[[stages]]\nname = "{name}"\n' for name in "abc")
    (folder / "config.toml").write_text(f"{recipe}\n{named}")
    (panel, *_) = dynamics.draw(Study.read([folder])).panels
    assert [(mark.at, mark.name) for mark in panel.marks] == [(5, "b"), (12, "c"), (9, "reset")]


def test_the_length_beside_the_first_series_is_taken_at_the_same_step(tmp_path):
    study = Study.read(
        [
            run_folders.make(tmp_path / "a", steps=5, extra={"rollout/length_mean": 30.0}),
            run_folders.make(
                tmp_path / "b", steps=9, objective="grpo", extra={"rollout/length_mean": 50.0}
            ),
        ]
    )
    found = lengths.relative(study.runs[1], study.runs[0])
    assert (found.x.tolist(), found.y.tolist()) == ([1, 2, 3, 4, 5], [20] * 5)


def test_categories_stand_beside_one_another_and_count_in_no_average(tmp_path):
    rows = [
        {"step": step, "eval/g/mean@8": score, "eval/g/logic/mean@8": 0.0, "eval/g/logic/greedy": 1}
        for step, score in ((0, 0.2), (5, 0.6))
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = Study.read([tmp_path])
    assert study.sets == ("g",)
    assert study.runs[0].evaluated("mean@n").y.tolist() == [0.2, 0.6]
    (bars,) = categories.draw(study).panels
    assert bars.categories == ("logic",)
    assert [group.values for group in bars.groups] == [(0.0,), (0.0,)]


def test_a_series_that_has_gained_nothing_sets_no_level_and_is_named(tmp_path):
    study = Study.read(
        [
            run_folders.make(tmp_path / "a", level=0.9),
            run_folders.make(tmp_path / "b", level=0.3, interval=20),
            run_folders.make(tmp_path / "c", level=0.7, interval=30),
        ]
    )
    assert efficiency.level_of(study) > 0.55
    assert efficiency.draw(study).note.endswith("Never reached by interval 20.")
