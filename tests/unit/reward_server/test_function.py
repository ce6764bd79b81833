"""A user's own reward function: found, shipped, refused early with words."""

import dataclasses
import re

import pytest

from oapl import RunConfig
from oapl.errors import InputError
from reward_server import settings
from reward_server.pool.output import MAX_BYTES
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
        (
            "def reward(a, b, c, *, d):\n    return 1\n",
            "reward",
            "none is known to be the response",
        ),
        ("def reward(a, b, c)\n    return 1\n", "reward", "line 1: expected ':'"),
        ("class A:\n    def reward(a, b, c): ...\n", "reward", "no function 'reward'"),
        ("def outer():\n    def reward(a, b, c): return 1\n", "reward", "its functions are outer"),
        ("\0", "reward", "null bytes"),
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
        "async def reward(a, b, c):\n    return 1\n",
        "try:\n    import nonsense\nexcept ImportError:\n    def reward(a, b, c): return 1\n",
        "def reward(solution_str, ground_truth):\n    return 1\n",
        "def reward(prompts, completions, **columns):\n    return [1.0]\n",
    ],
)
def test_functions_whose_parameters_are_known_pass(tmp_path, text):
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


async def judged(
    tmp_path, text, texts=("yes",), *, reference=None, name="reward", own=(), **reward
):
    """Judgements of some responses by a function in the pool, and what was counted."""
    ready = settings.prepare(config(tmp_path, text, name))
    table = {**ready.reward.options["function"], **dict(own)}
    asked = prompt(reference or {"answer": "yes", "level": 3}, {"function": 1.0})
    async with server({"function": 1.0}, {"function": table}, **reward) as running:
        answers = await running.score([(asked, rollout(one)) for one in texts])
        return answers, await running.stats()


@pytest.mark.parametrize(
    "text",
    [
        "async def reward(prompt, response, reference):\n    return float(response == 'yes')\n",
        "async def right(r): return r == 'yes'\nreward = lambda p, response, a: right(response)\n",
        "def reward(completions, answer, **_): return [completions[0] == answer[0]]",
        "def reward(solution_str, ground_truth): return {'score': solution_str == ground_truth}",
    ],
)
async def test_functions_of_every_known_form_are_called_in_the_pool(tmp_path, text):
    answers, _ = await judged(tmp_path, text, ["yes", "no"])
    assert [answer.reward for answer in answers] == [1.0, 0.0]


async def test_chat_messages_are_shown_where_they_are_asked_for(tmp_path):
    text = (
        "def reward(prompts, completions, **_):\n"
        "    assert prompts == [[{'role': 'user', 'content': 'What?'}]], prompts\n"
        "    return [float(c[0]['content'] == 'yes') for c in completions]\n"
    )
    answers, _ = await judged(tmp_path, text, own={"messages": True})
    assert answers[0].reward == 1.0


async def test_equal_answers_of_a_group_get_equal_rewards_whatever_is_done_to_the_reference(
    tmp_path,
):
    text = "def reward(p, r, a):\n    a['level'] -= 3\n    return float(a['level'] == 0)\n"
    answers, _ = await judged(tmp_path, text, ["yes"] * 4)
    assert [answer.reward for answer in answers] == [1.0] * 4


SLOW = "import time\nheld = []\ndef load():\n    time.sleep(1.5)\n    held.append(1)\n"
LAZY = SLOW + "def reward(p, r, a):\n    held or load()\n    return 1.0\n"
EAGER = SLOW + "def reward(p, r, a):\n    return float(len(held))\n"


@pytest.mark.parametrize(("text", "own"), [(LAZY, {}), (EAGER, {"warm": "load"})])
async def test_what_a_fresh_process_loads_does_not_count_against_a_response(tmp_path, text, own):
    answers, counted = await judged(tmp_path, text, ["yes"] * 6, own=own, deadline_s=0.5)
    assert [answer.reward for answer in answers] == [1.0] * 6
    assert counted["reward/function/timeout_rate"] == 0.0


@pytest.mark.parametrize(
    ("text", "own", "message"),
    [
        ("import time\ntime.sleep(60)\n" + GOOD, {}, "was not ready in 0.5 s"),
        (GOOD, {"warm": "load"}, "'load' in .*mine.py is nothing; name a function"),
        ("reward = lambda a, b: 1\n", {}, "reward takes 2 parameters"),
        ("import nonsense\n" + GOOD, {}, "No module named 'nonsense'"),
    ],
)
async def test_a_process_that_cannot_start_is_our_fault_and_says_why(tmp_path, text, own, message):
    own = {"start_s": 0.5 if "sleep" in text else 60.0, **own}
    answers, _ = await judged(tmp_path, text, own=own, retries=0)
    assert re.search(message, answers[0].failure)


async def test_a_first_call_that_never_ends_is_killed_and_says_so(tmp_path):
    text = "import time\ndef reward(p, r, a):\n    time.sleep(60)\n"
    answers, _ = await judged(tmp_path, text, own={"start_s": 1.0}, deadline_s=0.5)
    verdict = answers[0].verdicts["function"]
    assert (verdict.kind, verdict.detail) == (
        "timeout",
        "killed after 1 s, the first of its process",
    )


async def test_a_function_that_is_not_there_to_warm_is_refused_before_the_run(tmp_path):
    ready = config(tmp_path)
    ready.reward.options["function"]["warm"] = "lod"
    with pytest.raises(
        InputError, match=r"warm: .* has no function 'lod'; its functions are reward"
    ):
        settings.check(ready)


async def test_what_functions_print_is_bounded(tmp_path, capfd):
    """By Python, by other programs, in however many processes."""
    text = (
        "import os, subprocess, sys\n"
        "def reward(p, r, a):\n"
        "    print('x' * 400_000)\n"
        "    subprocess.run([sys.executable, '-c', 'print(400_000 * \"y\")'])\n"
        "    return 1.0\n"
    )
    answers, _ = await judged(tmp_path, text, ["yes"] * 6)
    assert [answer.reward for answer in answers] == [1.0] * 6
    written = "".join(capfd.readouterr())
    assert MAX_BYTES <= len(written) < 1.1 * MAX_BYTES
    assert written.count("what workers print from here on is left out") == 1


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
