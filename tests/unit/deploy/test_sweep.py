"""A grid of settings: its cells, their checks, what is skipped, and what is told of them."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.run import evaluation_files
from deploy.run.evaluation_files import ANSWERS, Made
from deploy.sweeping import child, results, running
from deploy.sweeping.child import Signals
from deploy.sweeping.grid import grid, values_of
from deploy.sweeping.plan import plan
from oapl.config.toml import load_config, to_toml
from oapl.errors import InputError
from oapl.evaluation import Protocol
from oapl.tracking.lines import CLOCK
from oapl.tracking.status import StatusSink
from tests.support.makers import make_model

AXES = ("optimizer.lr=1e-6,3e-6", "objective.beta2=0.1,0.01")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    make_model(folder / "model")
    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(5)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def recipe(files, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        f'[run]\nname = "mine"\ndir = "{tmp_path}/runs"\nmax_steps = 20\n'
        f'[model]\npath = "{files}/model"\n[rollout]\nmax_tokens = 16\n[sync]\ninterval = 10\n'
        f'[data]\nsources = [{{ name = "sums", path = "{files}/sums.jsonl" }}]\n'
    )
    return path


class Machine:
    """Runs no command but leaves what a run leaves; `failing` cells fail."""

    def __init__(self, *failing, stops_at=""):
        self.ran, self.failing, self.stops_at = [], failing, stops_at

    def __call__(self, words, signals):
        _, recipe, *overrides = words
        config = load_config(Path(recipe), overrides)
        self.ran.append(config.run.name)
        config.folder.mkdir(parents=True, exist_ok=True)
        (config.folder / "config.toml").write_text(to_toml(config))
        status = StatusSink(config.folder, 0)
        if config.run.name == self.stops_at:
            os.kill(os.getpid(), signal.SIGINT)
            status.phase("stopped")
            return 130
        if config.run.name in self.failing:
            status.phase("failed")
            (config.folder / "messages.log").write_text(
                "2026-01-01 10:00:00 failed: RankError: rank 0 died\n"
            )
            return 1
        figures = [(0, 0.25), (10, 0.75), (config.run.max_steps, 0.5)]
        rows = [{"step": n, "eval/sums/mean@8": value, CLOCK: 1.0} for n, value in figures]
        rows.insert(1, {"step": 1, results.REWARD: 0.375, CLOCK: 1.0})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (config.folder / "metrics.jsonl").write_text(lines)
        (config.folder / "model").mkdir(exist_ok=True)
        status.phase("done")
        return 0


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a,b", ["a", "b"]),
        ("1e-6, 3e-6", ["1e-6", "3e-6"]),
        ("[0.9,0.95],[0.9,0.999]", ["[0.9,0.95]", "[0.9,0.999]"]),
        ('{name="oapl",beta1=1},{name="grpo"}', ['{name="oapl",beta1=1}', '{name="grpo"}']),
        ('"Yes, or no"', ['"Yes, or no"']),
        ("'a,b',c", ["'a,b'", "c"]),
        (r'"a\",b",c', [r'"a\",b"', "c"]),
        ("don't,do", ["don't", "do"]),
        ("Don't [", ["Don't ["]),
        ("", [""]),
    ],
)
def test_values_are_separated_by_commas_outside_of_brackets_and_quotes(text, values):
    assert values_of(f"x={text}", text) == values


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.b=1,"], "one of the values between commas is empty"),
        (["a.b=[1,2"], r"a.b=\[1,2: a bracket is not closed"),
        (['a.b="x,y'], "the quote .* is not closed"),
        (["a.b=1"], "nothing varies"),
        (["a.b=1,2", "a.b=3"], "a.b is given 2 times"),
        (["a.b=1,1"], "the cell b=1 is there twice"),
    ],
)
def test_words_that_make_no_grid_are_refused(words, message):
    with pytest.raises(InputError, match=message):
        grid(words)


def test_a_grid_has_a_cell_for_every_combination_and_the_last_key_varies_fastest():
    common, cells = grid(["run.seed=3", *AXES])
    assert common == ("run.seed=3",)
    assert [cell.name for cell in cells] == [
        *("lr-1e-6_beta2-0.1", "lr-1e-6_beta2-0.01"),
        *("lr-3e-6_beta2-0.1", "lr-3e-6_beta2-0.01"),
    ]
    assert cells[1].overrides == ("optimizer.lr=1e-6", "objective.beta2=0.01")
    assert str(cells[1]) == "lr=1e-6 beta2=0.01"


def test_cases_are_one_more_dimension_of_settings_that_go_together():
    cases = [["remix"], ["no-utd", "learner.updates_per_batch=1", "run.max_steps=10"]]
    _, cells = grid(["run.seed=0,1"], cases)
    assert [cell.name for cell in cells] == [
        *("seed-0_remix", "seed-0_no-utd", "seed-1_remix", "seed-1_no-utd")
    ]
    assert cells[3].overrides == ("run.seed=1", "learner.updates_per_batch=1", "run.max_steps=10")
    with pytest.raises(InputError, match="--case x=1: its name must be"):
        grid([], [["x=1"]])


def test_a_cell_is_called_the_same_whatever_others_there_are_and_as_a_run_may_be():
    _, few = grid(['objective={name="oapl"},{name="grpo"}'])
    _, more = grid(['objective={name="dapo"},{name="grpo"}'])
    assert few[1].name == more[1].name
    assert few[1].name.startswith("objective-name-grpo-")
    _, both = grid(["optimizer.lr=1,2", "critic.lr=1,2"])
    assert both[0].name == "optimizer.lr-1_critic.lr-1"
    _, long = grid([f"data.template={'x' * 300},y"])
    assert len(long[0].name) < 150


def test_all_cells_are_checked_before_the_first_starts_and_named(recipe):
    with pytest.raises(InputError) as caught:
        plan(recipe, ["rollout.group_size=1,8,7", "sync.interval=10"])
    first, *_ = str(caught.value).splitlines()
    assert first.startswith("cell group_size-1 (group_size=1): ")
    assert "cell group_size-7 (group_size=7): " in str(caught.value)
    assert "group_size-8" not in str(caught.value)
    assert not (recipe.parent / "runs").exists()


def test_a_cell_that_does_not_fit_its_model_is_named_unless_nothing_is_to_follow(recipe):
    words = ["model.path=/no/model,/none", "sync.interval=10"]
    with pytest.raises(
        InputError, match=r"^cell path-no-model-.* \(path=/no/model\): model.path = "
    ):
        plan(recipe, words)
    found = plan(recipe, words, is_dry=True)
    assert [line.partition("model.path = ")[2][:9] for line in found.unchecked] == [
        *("'/no/mode", "'/none' i")
    ]


@pytest.mark.parametrize("word", ["run.name=a,b", "run.dir=a,b"])
def test_where_a_cell_is_cannot_be_varied(recipe, word):
    with pytest.raises(InputError, match="is not to be varied"):
        plan(recipe, [word])


def test_a_cell_is_a_run_in_a_folder_of_its_own_by_the_command_that_its_objective_is_for(recipe):
    imitation = ("objective.name=sft", "rollout.group_size=1", "learner.batch_size=5")
    answers = "data.sources.0.response_key=answer"
    found = plan(recipe, ["optimizer.lr=1e-5"], [["oapl"], ["sft", *imitation, answers]])
    assert found.folder == recipe.parent / "runs" / "mine-sweep"
    assert [planned.words[0] for planned in found.cells] == ["train", "sft"]
    assert all(planned.config.optimizer.lr == 1e-5 for planned in found.cells)
    assert all(planned.config.folder.parent == found.folder for planned in found.cells)


def test_a_failed_cell_is_told_and_the_others_go_on_and_the_same_command_tries_it_again(
    recipe, capsys
):
    machine = Machine("lr-1e-6_beta2-0.01")
    assert running.run(plan(recipe, AXES), run_command=machine) == 1
    assert len(machine.ran) == 4
    told = capsys.readouterr().out
    assert "cell 2 of 4, lr=1e-6 beta2=0.01: failed: RankError: rank 0 died" in told
    assert "1 of 4 cells are not done; the same command goes on" in told
    again = Machine()
    assert running.run(plan(recipe, AXES), run_command=again) == 0
    assert again.ran == ["lr-1e-6_beta2-0.01"]
    assert "cell 1 of 4, lr=1e-6 beta2=0.1: done before" in capsys.readouterr().out


def test_a_failed_cell_ends_the_sweep_where_that_is_asked_for(recipe):
    machine = Machine("lr-1e-6_beta2-0.1")
    assert running.run(plan(recipe, AXES), stop_on_failure=True, run_command=machine) == 1
    assert machine.ran == ["lr-1e-6_beta2-0.1"]


def test_a_signal_ends_the_sweep_with_its_code_and_the_same_command_goes_on(recipe):
    machine = Machine(stops_at="lr-1e-6_beta2-0.01")
    before = signal.getsignal(signal.SIGINT)
    assert running.run(plan(recipe, AXES), run_command=machine) == 130
    assert len(machine.ran) == 2
    assert signal.getsignal(signal.SIGINT) == before
    again = Machine()
    assert running.run(plan(recipe, AXES), run_command=again) == 0
    assert again.ran == ["lr-1e-6_beta2-0.01", "lr-3e-6_beta2-0.1", "lr-3e-6_beta2-0.01"]


@pytest.mark.parametrize("phase", ["start", "train", "finish", "stopped", "failed"])
def test_a_folder_alone_makes_no_cell_done(recipe, phase):
    found = plan(recipe, AXES)
    running.run(found, run_command=Machine())
    StatusSink(found.cells[0].config.folder, 0).phase(phase)
    assert [planned.is_done for planned in plan(recipe, AXES).cells] == [False, True, True, True]


def test_more_steps_open_a_cell_again_and_other_settings_are_refused(recipe):
    running.run(plan(recipe, AXES), run_command=Machine())
    assert all(planned.is_done for planned in plan(recipe, [*AXES, "run.max_steps=10"]).cells)
    assert not any(planned.is_done for planned in plan(recipe, [*AXES, "run.max_steps=40"]).cells)
    with pytest.raises(InputError, match=r"begun with other settings \(sync.interval was 10\)"):
        plan(recipe, [*AXES, "sync.interval=5"])


def test_the_table_has_settings_final_and_best_figures_steps_and_seconds(recipe, capsys):
    found = plan(recipe, AXES)
    running.run(found, run_command=Machine("lr-3e-6_beta2-0.01"))
    with (found.folder / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows] == ["done", "done", "done", "failed"]
    row = rows[2]
    assert (row["lr"], row["beta2"], row["steps"]) == ("3e-6", "0.1", "20")
    assert (row["before eval/sums/mean@8"], row["final eval/sums/mean@8"]) == ("0.25", "0.5")
    assert (row["best step"], row["best eval/sums/mean@8"]) == ("10", "0.75")
    assert float(row["seconds"]) >= 0
    shown = capsys.readouterr().out
    assert "0.750 (10)" in shown
    assert "0.375" in shown


def test_a_dry_run_lists_the_cells_and_makes_nothing(recipe, capsys):
    running.show(plan(recipe, AXES))
    told = capsys.readouterr().out
    assert "2. lr=1e-6 beta2=0.01: to run, in " in told
    assert "4 cells, 4 to run" in told
    assert not (recipe.parent / "runs").exists()


def test_the_seconds_of_a_killed_command_are_those_up_to_its_last_line(tmp_path):
    (tmp_path / "a").mkdir()
    rows = [{"step": n, CLOCK: 1000.0 + 10 * n} for n in (1, 2, 30)]
    (tmp_path / "a" / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    results.note(tmp_path, cell="a", began=1000.0)
    assert results.seconds_of(tmp_path, "a") == 300.0
    results.note(tmp_path, cell="a", began=1100.0)
    results.note(tmp_path, cell="b", began=1100.0)
    results.note(tmp_path, cell="a", seconds=250.0)
    with (tmp_path / results.ATTEMPTS).open("a") as file:
        file.write('{"cell": "a", "beg')
    assert results.seconds_of(tmp_path, "a") == 20.0 + 250.0


def test_a_command_runs_with_our_packages_and_gives_its_exit_code(tmp_path):
    assert child.run(["train", str(tmp_path / "no.toml")], Signals()) == 2


PARENT = """
import sys
from deploy.sweeping import child
child.MAIN = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1))\\n" + sys.argv[1]
signals = child.Signals()
with signals.handled():
    code = child.run([], signals)
print("code", code, "signal", signals.first, flush=True)
"""
SLEEPS = """
import os, signal, sys, time
from deploy.sweeping.child import die_with
die_with(int(sys.argv.pop(1)))
signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def parent():
    command = [sys.executable, "-c", PARENT, SLEEPS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    yield process, int(process.stdout.readline())
    process.kill()
    process.wait()


def test_a_signal_is_handed_on_to_the_command_which_ends_as_it_would_alone(parent):
    process, _ = parent
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "code 143 signal 15\n"


def test_a_killed_sweep_takes_its_command_with_it(parent):
    process, pid = parent
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(pid)


def _lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("are_alike", [True, False])
def test_the_table_says_how_the_evaluations_were_answered(recipe, capsys, are_alike):
    class Evaluating(Machine):
        def __call__(self, words, signals):
            code = super().__call__(words, signals)
            config = load_config(Path(words[1]), words[2:])
            n = 4 if are_alike else len(self.ran)
            made = Made(name="sums", protocol=Protocol(num_samples=n, greedy=False))
            evaluation_files.write(config.folder / ANSWERS / "step-20.sums.json", made)
            return code

    running.run(plan(recipe, ["optimizer.lr=1e-6,1e-5"]), run_command=Evaluating())
    lines = [line for line in capsys.readouterr().out.splitlines() if "T 1, top-p 1" in line]
    if are_alike:
        assert lines == ["n 4, T 1, top-p 1, top-k off, at most 256 tokens"]
    else:
        assert [line[:12] for line in lines] == ["lr=1e-6: n 1", "lr=1e-5: n 2"]
