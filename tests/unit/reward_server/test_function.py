"""A user's own reward function: found, shipped, refused early with words."""

import dataclasses

import pytest

from oapl import RunConfig
from oapl.errors import InputError
from reward_server import settings
from reward_server.verifiers import function
from tests.support.judging import prompt, rollout, server

GOOD = "def reward(prompt, response, reference):\n    return float(response == reference)\n"


def config(tmp_path, text=GOOD, name="reward"):
    path = tmp_path / "mine.py"
    path.write_text(text)
    options = {"function": {"function": f"{path}:{name}"}}
    return RunConfig(reward={"verifiers": {"function": 1.0}, "options": options})


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (GOOD, "rewards", "has no function 'rewards'; its functions are reward"),
        ("def reward(a, b):\n    return 1\n", "reward", "takes 2 parameters"),
        ("def reward(a, b, c, d):\n    return 1\n", "reward", "takes 4 parameters"),
        ("def reward(a, b, c, *, d):\n    return 1\n", "reward", "called with three"),
        ("def reward(a, b, c)\n    return 1\n", "reward", "line 1: expected ':'"),
        ("async def reward(a, b, c):\n    return 1\n", "reward", "no function 'reward'"),
    ],
)
def test_a_function_that_cannot_work_is_refused_before_the_run(tmp_path, text, name, message):
    with pytest.raises(InputError, match=message):
        settings.check(config(tmp_path, text, name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py:reward", "missing.py cannot be read"),
        ("no.such.module:reward", "no module 'no.such.module'"),
        ("no_such_module.reward", "no module 'no_such_module'"),
        ("reward", "names no function"),
        ("", "names no function"),
        ("a.py:not a name", "names no function"),
    ],
)
def test_a_function_that_is_not_there_is_refused_before_the_run(name, message):
    with pytest.raises(InputError, match=message):
        function.check(function.Config(function=name))


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "def reward(prompt, response, reference, strict=False):\n    return 1\n",
        "def reward(*everything):\n    return 1\n",
        "from json import dumps as reward\n",
        "reward = lambda p, r, a: 1.0\n",
    ],
)
def test_functions_that_take_three_arguments_pass(tmp_path, text):
    settings.check(config(tmp_path, text))


def test_checking_runs_none_of_the_users_code(tmp_path):
    settings.check(config(tmp_path, f"raise SystemExit('ran')\n{GOOD}"))


async def test_a_file_travels_as_text(tmp_path):
    ready = settings.prepare(config(tmp_path))
    (tmp_path / "mine.py").unlink()
    settings.check(ready)
    tasks = [
        (prompt({"answer": "yes"}, {"function": 2.0}), rollout(text)) for text in ("yes", "no")
    ]
    options = ready.reward.options
    async with server({"function": 2.0}, options) as running:
        answers = await running.score(tasks)
    assert [answer.reward for answer in answers] == [2.0, 0.0]


async def test_a_function_sees_question_response_and_all_columns(tmp_path):
    text = (
        "import helper\n"
        "def reward(prompt, response, reference):\n"
        "    assert prompt == 'What?', prompt\n"
        "    assert reference == {'answer': '1', 'level': 3}, reference\n"
        "    return helper.value\n"
    )
    (tmp_path / "helper.py").write_text("value = 0.25\n")
    ready = settings.prepare(config(tmp_path, text))
    task = prompt({"answer": "1", "level": 3}, {"function": 1.0}), rollout("yes")
    async with server({"function": 1.0}, ready.reward.options) as running:
        (answer,) = await running.score([task])
    assert answer.reward == 0.25, answer


async def test_an_exception_in_a_function_is_counted_with_its_place(tmp_path):
    ready = settings.prepare(config(tmp_path, "def reward(p, r, a):\n    return a['none']\n"))
    task = prompt({"answer": "1", "level": 3}, {"function": 1.0}), rollout("yes")
    async with server({"function": 1.0}, ready.reward.options, on_failure=-1.0) as running:
        (answer,) = await running.score([task])
        metrics = await running.stats()
    verdict = answer.verdicts["function"]
    assert (verdict.kind, verdict.reward) == ("error", -1.0)
    assert "KeyError: 'none' (mine.py:2)" in verdict.detail
    assert metrics["reward/function/error_rate"] == 1.0


async def test_two_functions_live_side_by_side_under_their_own_names(tmp_path):
    for name, value in (("a", 0.5), ("b", 0.25)):
        (tmp_path / f"{name}.py").write_text(f"def reward(p, r, a):\n    return {value}\n")
    options = {
        name: {"verifier": "function", "function": f"{tmp_path / name}.py:reward"} for name in "ab"
    }
    verifiers = {"a": 1.0, "b": 2.0}
    config = RunConfig(reward={"verifiers": verifiers, "options": options})
    settings.check(config)
    async with server(verifiers, settings.prepare(config).reward.options) as running:
        (answer,) = await running.score([(prompt({"answer": "1"}, verifiers), rollout("yes"))])
    assert answer.reward == 0.5 + 2 * 0.25
    assert {name: verdict.reward for name, verdict in answer.verdicts.items()} == {
        "a": 0.5,
        "b": 0.25,
    }


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ({"verifiers": {"maths": 1.0}}, "did you mean 'math'"),
        ({"options": {"math": {"mod": "layered"}}}, r"reward\.options\.math\.mod"),
        ({"options": {"math": {"mode": "best"}}}, r"reward\.options\.math\.mode"),
        (
            {"options": {"gym": {}}},
            "no such verifier is in use; in use are math",
        ),
        ({"options": {"math": {"range": "minus_one_one"}}}, "on_failure = 0 pays a hang more"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(reward, message):
    with pytest.raises(InputError, match=message):
        settings.check(RunConfig(reward=reward))


def test_settings_that_work_pass_and_stay_as_they_are():
    config = RunConfig(reward={"on_failure": -1.0, "options": {"math": {"range": "minus_one_one"}}})
    settings.check(config)
    assert dataclasses.asdict(settings.prepare(config)) == dataclasses.asdict(config)
