"""Puzzles are the same in every process: ids name one question in replay and on resume."""

import json
import os
import subprocess
import sys

import pytest

from actors.data import sources
from actors.data.puzzles import _made, puzzles
from actors.data.sources import read_problems
from oapl.config.sections import DataSource
from oapl.errors import InputError
from reward_server.verifiers import reasoning_gym
from tests.support.judging import prompt, rollout

DIGESTS = """
import hashlib, json, sys
from actors.data.puzzles import puzzles
from oapl.config.sections import DataSource
from reasoning_gym.factory import DATASETS
sources = [DataSource(name=t, task=t, size=3, seed=1) for t in DATASETS if t != "composite"]
made = {
    source.name: hashlib.sha256(repr(these).encode()).hexdigest()
    for source, these in zip(sources, puzzles(sources), strict=True)
}
print(json.dumps({"all": made, "bare": hash("a")}))
"""


def digests(seed):
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DIGESTS],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )


def test_every_task_asks_the_same_in_processes_of_different_hash_seeds():
    processes = [digests("1"), digests("random")]
    one, other = (json.loads(process.communicate(timeout=600)[0]) for process in processes)
    assert one["bare"] != other["bare"], "the seeds differ"
    assert len(one["all"]) == 105
    assert one["all"] == other["all"]


def source(**settings):
    return DataSource(**{"name": "p", "task": "chain_sum", "size": 3, **settings})


CARRIED = {
    "word_ladder": {"min_word_length": 3, "max_word_length": 3},
    "arc_agi": {"board_format_opts": {"alphabet": list("abcdefghij")}},
    "aiw": {"task_types": ["siblings", "colleagues", "friends"]},
}
PARTS = [
    {"name": "chain_sum", "weight": 1, "config": {"min_terms": 2, "max_terms": 2}},
    {
        "name": "word_ladder",
        "weight": 1,
        "config": {"min_word_length": 3, "max_word_length": 3},
    },
]


@pytest.fixture(scope="module")
def made():
    """Puzzles by source, from one process: each costs seconds of imports."""
    asked = [source(name=task, task=task, options=given) for task, given in CARRIED.items()]
    whole = source(name="composite", task="composite", size=12, options={"datasets": PARTS})
    made = puzzles([*asked, whole])
    return dict(zip([*CARRIED, "composite"], made, strict=True))


@pytest.mark.parametrize("task", CARRIED)
def test_a_problem_carries_the_options_that_its_scorer_needs(task, made, monkeypatch):
    monkeypatch.setattr(sources, "puzzles", lambda asked: [made[one.name] for one in asked])
    problems = read_problems(source(name=task, task=task, options=CARRIED[task]))
    assert len(problems) == 3
    verifier = reasoning_gym.build(reasoning_gym.Config())
    for problem in problems:
        assert problem.reference["options"] == CARRIED[task]
        asked = prompt(problem.reference, {"reasoning_gym": 1.0})
        own = problem.reference["answer"]
        assert verifier.verify(asked, rollout(f"<answer>{own}</answer>")).reward == 1.0


def test_the_puzzles_of_a_composite_are_those_of_its_parts_with_their_options(made):
    configs = {part["name"]: part["config"] for part in PARTS}
    assert {puzzle.task for puzzle in made["composite"]} == set(configs)
    assert all(puzzle.options == configs[puzzle.task] for puzzle in made["composite"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": "chain_sums"},
            "'chain_sums' is no task of reasoning-gym; did you mean chain_sum",
        ),
        ({"options": {"terms": 3}}, "refuses size 3, options .*'terms'.*ChainSumConfig"),
        ({"options": {"min_terms": -1}}, "min_terms must be positive"),
        ({"options": {"size": 5, "nonsense": 1}}, "nonsense"),
        ({"task": "composite"}, "Must specify at least one dataset"),
        ({"task": "composite", "options": {"datasets": [{"nam": "ab"}]}}, "DatasetSpec"),
        (
            {
                "task": "composite",
                "options": {"datasets": [{"name": "abc", "weight": 1, "config": {}}]},
            },
            "'abc' not registered",
        ),
    ],
)
def test_what_makes_no_puzzles_is_refused_by_name(settings, message):
    """As the process that makes them says it; that it comes back, `test_bad_input` shows."""
    with pytest.raises(InputError, match=f"source 'p': .*{message}"):
        list(_made(source(**settings)))
