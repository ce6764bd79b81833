"""An evaluation that is killed goes on: what was answered is not asked again."""

import dataclasses
import json
import pickle
import signal
import subprocess
import sys

import pytest

from deploy.run import answer_log
from deploy.run.evaluation import Evaluator
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.sampling import protocol_of
from tests.support.makers import make_model
from tests.unit.deploy.test_stored_answers import answers, prompt

KILLED = """
import os, pickle, signal, sys
from deploy.run import answer_log

folder, recipe, made = pickle.load(sys.stdin.buffer)
with answer_log.opened(folder, "eval", "a", recipe) as log:
    for answers in made:
        log.add(answers)
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Workers:
    """Answers everything with one right sample and one wrong; knows what it was asked."""

    def __init__(self):
        self.asked = []

    async def evaluate(self, prompts, protocol, answered=None, slots=0):
        self.asked.append([one.id for one in prompts])
        made = [answers(one, 1.0, 0.0) for one in prompts]
        for one in made:
            if answered is not None:
                answered(one)
        return made


@pytest.fixture
def recipe(tmp_path):
    make_model(tmp_path / "model")
    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(5)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'run.dir = "{tmp_path}"\nmodel.path = "{tmp_path}/model"\n'
        "[eval]\nnum_samples = 2\nks = [1]\nmax_tokens = 9\n"
        f'sources = [{{ name = "a", path = "{tmp_path}/sums.jsonl" }}, '
        f'{{ name = "b", path = "{tmp_path}/sums.jsonl" }}]\n'
    )
    (tmp_path / "run").mkdir()
    return path


@pytest.fixture
def killed(recipe):
    """The recipe of an evaluation that signal 9 has ended when two problems were answered."""
    config = load_config(recipe)
    exam = Evaluator(config, None, stores=True)._exams[0]
    made = [answers(one, 1.0, 0.0) for one in exam.questions[:2]]
    known = answer_log.recipe_of(config, exam.questions, exam.protocol)
    given = pickle.dumps((config.folder / "evaluations", known, made))
    command = [sys.executable, "-c", KILLED]
    ended = subprocess.run(command, input=given, capture_output=True, timeout=120)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    return recipe


async def test_an_evaluation_killed_by_signal_9_goes_on_where_it_was(killed):
    config, workers, told = load_config(killed), Workers(), []
    metrics = await Evaluator(config, workers, stores=True, tell=told.append)("eval")
    assert workers.asked == [["a:2@0", "a:3@0", "a:4@0"], [f"b:{n}@0" for n in range(5)]]
    assert told == ["a: going on, 2 of 5 problems are answered"]
    assert metrics["eval/a/mean@2"] == metrics["eval/b/mean@2"] == 0.5
    folder = config.folder / "evaluations"
    lines = (folder / "eval.a.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [f"a:{n}@0" for n in range(5)]
    assert not (folder / "eval.part").exists(), "it is whole, and the next one begins anew"
    workers = Workers()
    await Evaluator(config, workers, stores=True, tell=told.append)("eval")
    assert [len(asked) for asked in workers.asked] == [5, 5]


@pytest.fixture
def log(tmp_path):
    """Opens the log of a set under a recipe; keeps what it is given."""

    def act(recipe, *added):
        with answer_log.opened(tmp_path, "eval", "s", {"recipe": recipe}) as opened:
            for one in added:
                opened.add(one)
            return sorted(opened.answers)

    act.path = tmp_path / "eval.part" / "s"
    return act


def test_a_record_that_was_cut_off_is_asked_again_and_the_rest_is_there(log):
    log(1, answers(prompt("a"), 1.0), answers(prompt("b"), 1.0))
    whole = log.path.read_bytes()
    for cut in (1, 30, 100):
        log.path.write_bytes(whole[:-cut])
        assert log(1, answers(prompt("c"), 0.0)) == ["sums:a@0"]
        assert log(1) == ["sums:a@0", "sums:c@0"]


def test_a_damaged_record_ends_what_is_taken(log):
    log(1, answers(prompt("a"), 1.0))
    first = log.path.stat().st_size
    log(1, answers(prompt("b"), 1.0), answers(prompt("c"), 1.0))
    damaged = bytearray(log.path.read_bytes())
    damaged[first + 60] ^= 1
    log.path.write_bytes(damaged)
    assert log(1) == ["sums:a@0"]


def test_answers_of_other_settings_are_begun_anew(log):
    log(1, answers(prompt("a"), 1.0))
    assert log(2, answers(prompt("b"), 1.0)) == []
    assert log(2) == ["sums:b@0"]


def test_what_nobody_could_judge_is_asked_again(log):
    assert log(1, answers(prompt("a"), 1.0, None), answers(prompt("b"), 1.0, 0.0)) == []
    assert log(1, answers(prompt("a"), 1.0, 1.0)) == ["sums:b@0"]
    assert log(1) == ["sums:a@0", "sums:b@0"]


def test_answers_come_back_as_they_were(log, tmp_path):
    one = answers(prompt("a"), 1.0, 0.0)
    log(1, one)
    with answer_log.opened(tmp_path, "eval", "s", {"recipe": 1}) as opened:
        (found,) = opened.answers.values()
    assert [rollout.token_ids.tolist() for rollout in found.rollouts] == [[5], [5, 5]]
    assert [judgement.reward for judgement in found.judgements] == [1.0, 0.0]
    assert found.greedy.text == one.greedy.text
    assert found.greedy_judgement == one.greedy_judgement


@pytest.mark.parametrize(
    "other",
    ["run.seed=1", "model.dtype=float32", "eval.temperature=0.5", "reward.on_failure=-1.0"],
)
def test_what_decides_about_the_answers_is_in_the_recipe(recipe, other):
    def made(*overrides):
        config = load_config(recipe, overrides)
        protocol = protocol_of(config, config.eval.sources[0])
        return answer_log.recipe_of(config, [prompt("a")], protocol)

    assert made() == made("sync.interval=3", "eval.timeout_s=7.0")
    assert made() != made(other)
    other_prompt = dataclasses.replace(prompt("a"), verifiers={"stem": 1.0})
    config = load_config(recipe)
    protocol = protocol_of(config, config.eval.sources[0])
    assert answer_log.recipe_of(config, [other_prompt], protocol) != made()


def test_what_would_not_be_read_again_is_refused_with_the_prompt_and_a_remedy(log):
    odd = dataclasses.replace(prompt("a"), reference={"answer": object()})
    with pytest.raises(InputError, match=r"sums:a@0 cannot be kept: .*object.*make text of it"):
        log(1, answers(odd, 1.0))
