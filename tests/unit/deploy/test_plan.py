"""`oapl plan`: where its numbers come from, what it says, what it refuses."""

import dataclasses
import json
from pathlib import Path

import pytest

from deploy.commands import main
from deploy.planning import bench, published, run
from deploy.planning.assumptions import assumed
from deploy.planning.cards import card
from deploy.planning.lengths import lengths_of
from deploy.planning.making import Asked, _allows, plan, rate_of
from deploy.planning.model import of_shape, of_size
from deploy.planning.recipe import laid_over, task_of
from deploy.planning.shown import changes, figure
from deploy.sizing.hardware import parse
from deploy.sizing.shape import Shape, count
from oapl.config import RunConfig
from oapl.config.toml import load_config, to_toml
from oapl.errors import InputError
from oapl.groups_file import Header, StoredGroup, Writer
from tests.support.makers import make_group
from tests.support.run_folders import HEADER

RECIPES = published.RECIPES
MATH = str(RECIPES / "oapl_math_l50.toml")


def config(**sections) -> RunConfig:
    given = {
        "model": {"path": "somewhere"},
        "rollout": {"group_size": 4, "max_tokens": 1000, "num_engines": 2},
        "learner": {"batch_size": 64, "num_ranks": 2, "micro_batch_tokens": 4096},
        "data": {"sources": [{"name": "a", "path": "a.jsonl"}]},
        "cluster": {"device": "cuda"},
        "sync": {"interval": 10},
        "run": {"max_steps": 100},
    }
    for name, values in sections.items():
        given[name] = {**given.get(name, {}), **values}
    return RunConfig(**given)


def written(folder: Path, settings: RunConfig, rows: list[dict[str, float]]) -> Path:
    folder.mkdir()
    (folder / "config.toml").write_text(to_toml(settings))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


ROW = {
    "time/step_s": 10.0,
    "perf/tokens_per_s": 8000.0,
    "time/forward_backward_s": 6.0,
    "time/prepare_s": 2.0,
    "seconds/learner/other": 0.5,
    "rollout/tokens": 60_000.0,
    "seconds/engines/generate": 14.0,
    "seconds/engines/thrown_away": 1.0,
    "rollout/group_seconds_mean": 15.0,
    "replay/accepted_rollouts": 80.0,
    "replay/accepted_tokens": 56_000.0,
    "replay/accepted": 20.0,
    "replay/dropped": 5.0,
    "reward/math/latency_p50_s": 0.02,
    "reward/math/judged": 80.0,
    "reward/tasks": 80.0,
    "weights/bytes": 8e9,
    "time/publish_s": 4.0,
}


def test_rates_of_a_run_worked_by_hand(tmp_path):
    """48,000 tokens in 8 s on two ranks, of 64 rollouts with 700 of a response; 60,000 in 15 s of
    engines, in which 20 groups were under way for 15 s each, 2.5 rollouts of each at work."""
    rows = [{"step": 0, "eval/a/greedy": 0.5}, *({"step": i, **ROW} for i in range(1, 9))]
    found = run.measured(written(tmp_path / "r", config(), rows), activity=2.5)
    assert {name: rate.value for name, rate in found.items()} == pytest.approx(
        {
            "learner_tokens_per_s": 3000.0,
            "between_s": 0.5,
            "step_s": 0.0,
            "prompt_tokens": 50.0,
            "engine_tokens_per_s": 4000.0,
            "engine_rollouts": 50.0,
            "kept": 0.75,
            "judge_s": 0.02,
            "host_bytes_per_s": 2e9,
        }
    )
    assert all((rate.kind, rate.why) == ("measured", "r, 3 steps") for rate in found.values())


def test_waits_for_a_process_are_not_taken_for_judging(tmp_path):
    """Of ten lines two have no queue. Where all have one: two processes had 20 s of a line's 10 for
    its 500 responses."""
    busy = {**ROW, "reward/math/latency_p50_s": 4.0}
    rows = [ROW] * 5 + [busy] * 8 + [{**ROW, "reward/math/latency_p50_s": 0.01}] * 2
    quiet = run.measured(written(tmp_path / "q", config(), rows), activity=2.5)
    assert quiet["judge_s"].value == 0.01
    many = {"reward/math/judged": 500.0, "reward/tasks": 500.0}
    held = run.measured(written(tmp_path / "h", config(), [{**busy, **many}] * 9), activity=2.5)
    assert held["judge_s"].value == pytest.approx(20 / 500)


def test_a_response_costs_what_its_own_verifiers_take(tmp_path):
    """Of 80 responses 20 are programs, of 0.8 s each, the others are judged in 0.02 s."""
    programs = {"reward/code/latency_p50_s": 0.8, "reward/code/judged": 20.0}
    rows = [{**ROW, **programs, "reward/math/judged": 60.0}] * 9
    found = run.measured(written(tmp_path / "r", config(), rows), activity=2.5)
    assert found["judge_s"].value == pytest.approx((20 * 0.8 + 60 * 0.02) / 80)


def test_a_full_engine_has_no_more_rollouts_than_it_may(tmp_path):
    settings = config(rollout={"engine_options": {"max_num_seqs": 32}})
    folder = written(tmp_path / "r", settings, [ROW] * 9)
    assert run.measured(folder, activity=2.5)["engine_rollouts"].value == 32


def test_what_a_run_does_not_tell_is_not_taken_as_measured(tmp_path):
    rows = [{"time/step_s": 1.0, "perf/tokens_per_s": 5.0, "time/forward_backward_s": 1.0}] * 9
    found = run.measured(written(tmp_path / "r", config(), rows), activity=1.0)
    assert set(found) == {"learner_tokens_per_s", "between_s", "step_s"}


def test_a_run_tells_how_long_its_responses_are_unless_somebody_says_it(tmp_path):
    folder = written(tmp_path / "r", config(), [ROW] * 9)
    made = plan(config(), Asked(rates=folder, parameters=1e9, is_searched=False))
    assert (made.lengths.mean.value, made.lengths.mean.kind) == (700.0, "measured")
    assert made.lengths.table.mean == pytest.approx(700.0, rel=0.01)
    said = Asked(rates=folder, parameters=1e9, is_searched=False, lengths="mean=300")
    assert plan(config(), said).lengths.mean.kind == "given"
    with Writer(folder / "rollouts", HEADER) as writer:
        writer.add(StoredGroup.from_scored(make_group([10, 20, 30, 40])))
    made = plan(config(), Asked(rates=folder, parameters=1e9, is_searched=False))
    assert made.lengths.table.mean == 25.0


def test_rates_of_another_model_are_told(tmp_path):
    other = config(model={"path": "elsewhere"}, objective={"name": "grpo"})
    folder = written(tmp_path / "r", other, [ROW] * 9)
    made = plan(config(), Asked(rates=folder, parameters=1e9, is_searched=False))
    assert made.notes[:2] == (
        "the rates' run has model.path = 'elsewhere', the recipe 'somewhere'",
        "the rates' run has objective.name = 'grpo', the recipe 'oapl'",
    )
    assert run.differences(folder, other) == ()


@pytest.mark.parametrize(
    ("rows", "said"),
    [([ROW] * 5, "no more than 5 learner steps"), ([{"step": 1}], "no more than 5")],
)
def test_a_run_that_is_too_short_is_refused(tmp_path, rows, said):
    with pytest.raises(InputError, match=said):
        run.measured(written(tmp_path / "r", config(), rows), activity=1.0)


def test_a_folder_without_a_run_and_a_broken_line_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no config\.toml and metrics\.jsonl; name a run"):
        run.measured(tmp_path, activity=1.0)
    folder = written(tmp_path / "r", config(), [ROW])
    (folder / "metrics.jsonl").write_text("{}\n{\n")
    with pytest.raises(InputError, match="line 2: is no JSON"):
        run.measured(folder, activity=1.0)


def bench_file(tmp_path: Path, *rows: tuple[str, str, float]) -> Path:
    path = tmp_path / "bench.json"
    table = [{"what": what, "model": of, "ours": ours, "left_out": ""} for what, of, ours in rows]
    path.write_text(json.dumps([*table, {**table[0], "left_out": "no time"}]))
    return path


def test_rates_of_the_bench_are_those_of_the_chosen_model(tmp_path):
    path = bench_file(
        tmp_path,
        ("(a) rollout pipeline over LLM.generate", "small", 900.0),
        ("(a) rollout pipeline over LLM.generate", "large", 90.0),
        ("(b) learner step over a bare DeepSpeed loop", "large", 40.0),
        ("(b) learner step over padded PyTorch with full logits", "large", 41.0),
        ("(c) publication over bare load_weights", "large", 250.0),
        ("(e) rewards of 2 workers over processes that are given their work, hard", "math", 50.0),
        ("(g) replay groups over what 1,000 GPUs make", "8 x 4000 tokens", 250.0),
        ("(g) replay groups over what 1,000 GPUs make", "8 x 16000 tokens", 80.0),
    )
    found = bench.measured(path, "large", publication_bytes=1e6)
    assert {name: rate.value for name, rate in found.items()} == pytest.approx(
        {
            "engine_tokens_per_s": 90.0,
            "learner_tokens_per_s": 40.0,
            "host_bytes_per_s": 4e6,
            "judge_s": 0.04,
            "replay_tokens_per_s": 8e6,
        }
    )
    with pytest.raises(InputError, match=r"--bench-model \(none\): .* has large, small; choose"):
        bench.measured(path, "", publication_bytes=1e6)
    path.write_text('{"rows": 1}')
    with pytest.raises(InputError, match="no table of `make bench`"):
        bench.measured(path, "", publication_bytes=1e6)


def test_the_names_of_rows_are_those_that_the_bench_writes():
    """`tests/bench` and the reader know each other by these words alone."""
    files = {path.name: path.read_text() for path in Path("tests/bench").glob("*.py")}
    assert f'what="{bench.ENGINE}rollout pipeline' in files["pipeline.py"]
    assert 'what=f"(b) learner step over {what}"' in files["learner_step.py"]
    assert '("bare", "a bare DeepSpeed loop"' in files["learner_step.py"]
    assert f'what="{bench.PUBLICATION} over ' in files["publication.py"]
    assert (
        'what=f"(e) rewards of {workers} workers over processes that {verb}' in files["rewards.py"]
    )
    assert '("are given their work", given)' in files["rewards.py"]
    assert 'what="(g) replay groups' in files["replay_rate.py"]
    assert 'model=f"{GROUP_SIZE} x {tokens} tokens"' in files["replay_rate.py"]


@pytest.mark.parametrize("inner", ["", "rollouts", "groups"])
def test_lengths_are_those_of_stored_groups(tmp_path, inner):
    header: Header = HEADER
    with Writer(tmp_path / "set" / inner, header) as writer:
        for number in range(3):
            scored = make_group([10, 20, 30, 5000], prompt_length=7, name=f"t:{number}@0")
            writer.add(StoredGroup.from_scored(scored))
    found = lengths_of(config(), str(tmp_path / "set"), seed=0)
    assert found.table.rows.tolist() == [[10.0, 20.0, 30.0, 1000.0]] * 3, "cut at max_tokens"
    assert (found.mean.kind, found.prompt and found.prompt.value) == ("measured", 7.0)


def test_lengths_are_given_or_assumed():
    given = lengths_of(config(), "mean=300,sigma=0.4", seed=0)
    assert (given.mean.kind, given.table.mean) == ("given", pytest.approx(300, rel=0.01))
    guess = lengths_of(config(), "", seed=0)
    assert (guess.mean.kind, guess.mean.value) == ("assumed", 400.0)
    for text in ("mean=1000", "mean=0.5", "mean=300,sigma=0"):
        with pytest.raises(InputError, match=f"--lengths {text}: a mean lies from 1 to below"):
            lengths_of(config(), text, seed=0)
    with pytest.raises(InputError, match="holds no stored groups; name a set"):
        lengths_of(config(), "mean=many", seed=0)


def test_assumed_rates_scale_with_card_and_model():
    """Twice the parameters, half the learner's tokens; a card with more of both makes more."""
    lengths = lengths_of(config(), "", seed=0).table
    h100, a800 = card("H100", "cuda"), card("", "cuda", peak_tflops=312)
    assert a800.peak == 312e12
    small, large = (
        assumed(config(), of_size(n, 2), h100, lengths, parse("cuda:8x80GiB")) for n in (1e9, 2e9)
    )
    assert small.learner_tokens_per_s.value == pytest.approx(0.3 * 989e12 / 6e9)
    assert large.learner_tokens_per_s.value == pytest.approx(small.learner_tokens_per_s.value / 2)
    assert large.engine_tokens_per_s.value < small.engine_tokens_per_s.value
    assert 1 < small.alone.value < 100
    slower = assumed(config(), of_size(1e9, 2), card("A800", "cuda"), lengths, None)
    assert slower.engine_tokens_per_s.value < small.engine_tokens_per_s.value
    assert len(small.assumed()) == len(dataclasses.fields(small))
    with pytest.raises(InputError, match="--card Abacus: is not known; known are H100"):
        card("Abacus", "cuda")


def test_a_grouped_attention_has_the_keys_and_values_of_its_heads():
    shape = Shape(
        parameters=0,
        layers=36,
        hidden=2560,
        intermediate=9728,
        vocabulary=151936,
        heads=32,
        kv_heads=8,
        head_size=128,
        is_tied=True,
        has_head_norms=True,
    )
    assert count(shape) == pytest.approx(4.02e9, rel=0.01), "Qwen3-4B"
    assert of_shape(shape, 2).kv_bytes == 147_456
    assert of_size(4e9, 2).kv_bytes == pytest.approx(147_456, rel=0.5), "what is guessed of it"


def test_a_recipe_becomes_a_task_and_a_task_a_recipe():
    recipe = load_config(RECIPES / "remix_grpo_1_5b.toml", [])
    task = task_of(recipe, parse("cuda:2x80GiB"), publication_bytes=1.0, answers=0)
    assert task.phases == ((100, 152), (300, 256)), "T = 50 iterations of two steps"
    assert (task.groups_per_step, task.updates_per_batch, task.is_bound) == (256, 2, True)
    other = dataclasses.replace(task, engines=3, ranks=2, interval=8, surplus=0.1, max_lead=4)
    changed = laid_over(recipe, other)
    assert (changed.rollout.num_engines, changed.learner.num_ranks) == (3, 2)
    assert (changed.sync.interval, changed.sync.max_lead, changed.replay.surplus) == (8, 4, 0.1)
    moved = laid_over(recipe, dataclasses.replace(other, moves=True))
    assert (changed.sync.stragglers, moved.sync.stragglers) == ("wait", "move")
    assert changes(other, dataclasses.replace(other, moves=True)) == "sync.stragglers=move"


def test_a_recipe_on_stored_rollouts_has_no_engines():
    recipe = load_config(RECIPES / "pcl_offline_rl.toml", [])
    task = task_of(recipe, parse("npu:64x64GiB"), publication_bytes=1.0, answers=48_544)
    assert (task.engines, task.ranks, task.groups_per_step) == (0, 64, 16)
    assert task.devices_per_engine == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"replay": {"max_uses": 2}}, "replay.max_uses is 2, .* plan with replay.max_uses=1"),
        ({"replay": {"max_versions": 2}}, "replay.max_versions is 2"),
        ({"learner": {"num_ranks": 16}}, r"takes 18 devices \(2 engines, 16 ranks\); lower"),
    ],
)
def test_what_is_not_planned_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        task_of(config(**change), parse("cuda:8x80GiB"), publication_bytes=1.0, answers=0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("speed=3", "there is no rate 'speed'; there are learner_tokens_per_s, "),
        ("alone=0.5", "`alone` at least 1"),
        ("kept=1.5", "`kept` is above 0 and at most 1"),
        ("engine_tokens_per_s=0", "all others above 0"),
        ("judge_s=-1", "seconds are at least 0"),
        ("judge_s=nan", "is no judge_s"),
        ("judge_s", "is no judge_s"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(text, said):
    with pytest.raises(InputError, match=said):
        rate_of(text)


def test_seconds_may_be_none_at_all():
    assert rate_of("step_s=0") == ("step_s", 0.0)


def test_what_does_not_fit_or_breaks_a_rule_is_not_tried():
    """A rank alone holds 16 bytes a parameter of 7.6 billion; sixteen share them out."""
    recipe = load_config(RECIPES / "cuda_8gpu.toml", ["learner.mini_batches=2"])
    stated = published.tomllib.loads(published.STATED.read_text())["models"]
    shape = published._shape(stated["deepseek-ai/DeepSeek-R1-Distill-Qwen-7B"])
    there = parse("cuda:32x40GiB")
    task = task_of(recipe, there, publication_bytes=1.0, answers=0)
    allows, notes = _allows(recipe, of_shape(shape, 2), there)
    assert notes == ()
    assert allows(dataclasses.replace(task, ranks=16))
    assert not allows(dataclasses.replace(task, ranks=1))
    assert not allows(dataclasses.replace(task, ranks=16, interval=7)), "half a take"
    blind, notes = _allows(recipe, of_size(7.6e9, 2), there)
    assert blind(dataclasses.replace(task, ranks=1))
    assert notes


def test_the_best_is_found_among_what_fits():
    recipe = load_config(RECIPES / "cuda_8gpu.toml", [])
    found = plan(recipe, Asked(hardware=parse("cuda:32x80GiB"), parameters=8e9))
    assert found.best is not None
    assert found.best.found.hours < found.found.hours
    assert found.best.task.held <= 32


def test_what_an_objective_computes_beside_costs_the_learner_time():
    """PPO has a critic, as large as the policy: no more than half of the tokens."""
    lengths = lengths_of(config(), "", seed=0).table
    plain, critic = (
        assumed(one, of_size(1e9, 2), card("", "cuda"), lengths, None).learner_tokens_per_s.value
        for one in (config(), config(objective={"name": "ppo"}))
    )
    assert critic <= plain / 2


def test_the_command_marks_what_nobody_measured_and_says_the_same_twice(capsys):
    words = ["plan", MATH, "--for", "cuda:16x80GiB", "--parameters", "4e9", "--price", "2"]
    words += ["--rate", "engine_tokens_per_s=3000", "--max-lag", "29"]
    said = []
    for _ in range(2):
        assert main(words) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    (row,) = [line for line in said[0].splitlines() if "engine_tokens_per_s " in line]
    assert " 3,000 " in row
    assert " given " in row
    (row,) = [line for line in said[0].splitlines() if "learner_tokens_per_s " in line]
    assert " ASSUMED " in row
    assert "TFLOPS of H100" in row
    assert "ASSUMED, measured by nobody: lengths, learner_tokens_per_s, step_s" in said[0]
    assert "best, lag <= 29" in said[0]
    assert "cost" in said[0]


def test_the_command_as_json_has_all_that_the_tables_have(capsys):
    words = ["plan", MATH, "--for", "cuda:16x80GiB", "--parameters", "4e9", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rates"]["alone"]["kind"] == "assumed"
    assert "alone" in told["assumed"]
    assert told["recipe"]["task"]["engines"] == 4
    assert set(told["recipe"]["publish_s"]) == {"object_store", "collective", "disk"}
    assert told["best"]["hours"] < told["recipe"]["hours"]
    assert "rollout.num_engines=" in told["best"]["overrides"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--for", "cuda:4x80GiB", "--parameters", "4e9"], "the recipe takes 8 devices"),
        (["--parameters", "4e9", "--max-lag", "0"], "--max-lag 0: an iteration of 2 learner steps"),
        (["--parameters", "-1"], "--parameters -1.0: is below 0"),
        (["--parameters", "4e9", "--stage", "one"], "there are none: leave --stage out"),
        (["--parameters", "4e9", "--rates", "nowhere"], "holds no config.toml and metrics.jsonl"),
    ],
)
def test_the_command_refuses_with_value_rule_and_remedy(words, said, capsys):
    assert main(["plan", MATH, *words]) == 2
    assert said in capsys.readouterr().err


def test_a_run_of_stages_is_planned_by_the_stage(capsys):
    staged = str(RECIPES / "prorl_staged.toml")
    assert main(["plan", staged, "--parameters", "1.8e9"]) == 2
    assert "choose one by --stage: run-1, run-2" in capsys.readouterr().err
    assert main(["plan", staged, "--parameters", "1.8e9", "--stage", "run-8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["task"]["max_steps"] == 2000


def test_the_page_of_published_settings_is_current():
    assert published.PAGE.read_text() == published.page(), "run `make docs`"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.0123"), (12.34, "12.3"), (12345, "12,300")]
)
def test_figures_have_three_digits_that_count(value, text):
    assert figure(value) == text
