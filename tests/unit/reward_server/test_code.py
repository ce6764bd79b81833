"""The code verifier: verdicts, rewards, and what a program may not do to either."""

import contextlib

import pytest

from oapl import RunConfig
from oapl.errors import InputError
from reward_server import settings
from reward_server.sandbox import bubblewrap, measure
from reward_server.verifiers import code
from tests.support.judging import built, prompt, rollout, server

SQUARES = {"tests": {"inputs": ["2", "3", "5", "7"], "outputs": ["4", "9", "25", "49"]}}
SQUARE = "n = int(input())\nprint(n * n)"
CHECK = {
    "tests": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == 9\n",
    "entry_point": "square",
}
METHOD = {
    "tests": {
        "functional": "def check(candidate):\n    assert candidate(head = list_node([1, 2])) == "
        "[2.5]\n\n\ncheck(Solution().halve)"
    }
}


def answer(source: str) -> str:
    return f"<think>hm</think>Thus:\n```python\n{source}\n```"


def started(**options):
    made = built("code", **options)
    made.start(measure.strongest().level)
    return made


@pytest.fixture(scope="module")
def judge():
    """Waits for what ends by itself, on a machine however slow."""
    with contextlib.closing(started(total_s=60.0)) as made:
        yield made


@pytest.fixture(scope="module")
def hasty():
    """For what does not."""
    with contextlib.closing(started(total_s=1.0)) as made:
        yield made


@pytest.mark.parametrize(
    ("source", "kind", "reward"),
    [
        (SQUARE, "accepted", 1.0),
        ("print(4)", "wrong_answer", 0.25),
        ("n = int(input())\nprint(n * n if n < 5 else 0)", "wrong_answer", 0.5),
        ("print(1 +", "compile_error", 0.0),
        ("return", "compile_error", 0.0),
        ("print(1 / 0)", "runtime_error", 0.0),
        ("n = int(input())\nprint(n * n)\nassert n != 3", "runtime_error", 0.75),
        ("while True: pass", "timeout", 0.0),
        ("import time\ntime.sleep(0.7)\nn = int(input())\nprint(n * n)", "timeout", 0.0),
        ("x = bytearray(4 << 30)", "resource_limit", 0.0),
        ("while True: print('x' * 9999)", "resource_limit", 0.0),
        ("import os\nos.fork()", "sandbox_violation", 0.0),
        ("import ctypes\nctypes.CDLL(None).ptrace(0, 0, 0, 0)", "sandbox_violation", 0.0),
        ("import ctypes\nctypes.string_at(0)", "runtime_error", 0.0),
    ],
)
def test_each_way_to_end_has_its_verdict(judge, hasty, source, kind, reward):
    one = hasty if kind == "timeout" else judge
    verdict = one.verify(prompt(SQUARES), rollout(answer(source)))
    assert (verdict.kind, verdict.reward) == (kind, reward), verdict.detail
    assert reward == 0 or verdict.parts == {"tests_passed": reward}


@pytest.mark.parametrize("text", ["", "print(4)", "```python\n" + SQUARE, "<think>" + answer("")])
def test_a_response_without_a_program_is_malformed(judge, text):
    kind = "malformed" if text[:7] != "<think>" else "wrong_answer"
    assert judge.verify(prompt(SQUARES), rollout(text)).kind == kind
    unfinished = rollout("<think>\n```python\n" + SQUARE + "\n```")
    assert judge.verify(prompt(SQUARES), unfinished).kind == "malformed"


def test_a_response_that_was_cut_off_is_not_run(judge):
    assert judge.verify(prompt(SQUARES), rollout(answer(SQUARE), "length")).kind == "malformed"


def test_all_or_nothing_pays_no_share():
    strict = started(reward="all_or_nothing", total_s=60.0)
    some = strict.verify(prompt(SQUARES), rollout(answer("print(4)")))
    whole = strict.verify(prompt(SQUARES), rollout(answer(SQUARE)))
    strict.close()
    assert (some.reward, some.parts["tests_passed"], whole.reward) == (0.0, 0.25, 1.0)


@pytest.mark.parametrize(
    ("source", "kind", "reward"),
    [
        ("def square(x): return x * x", "accepted", 1.0),
        ("def square(x): return 4", "wrong_answer", 0.5),
        ("def square(x): return x / 0", "runtime_error", 0.0),
        ("def cube(x): return x ** 3", "runtime_error", 0.0),
        ("def square(x): return x *", "compile_error", 0.0),
        ("def square(x):\n while True: pass", "timeout", 0.0),
        ("import os\ndef square(x): return x * x if x == 2 else os._exit(0)", "runtime_error", 0.5),
    ],
)
def test_tests_in_python_count_their_assertions(judge, hasty, source, kind, reward):
    one = hasty if kind == "timeout" else judge
    verdict = one.verify(prompt(CHECK), rollout(answer(source)))
    assert (verdict.kind, verdict.reward) == (kind, reward), verdict.detail


def test_methods_linked_lists_and_a_stated_precision(judge):
    source = "class Solution:\n def halve(self, head): return [sqrt(6.25000001)]"
    asked = prompt(METHOD, question="Answers within 10-5 of the actual one are accepted.")
    assert judge.verify(asked, rollout(answer(source))).kind == "accepted"
    assert judge.verify(prompt(METHOD), rollout(answer(source))).kind == "wrong_answer"


def test_a_problem_of_the_prompts_own_is_our_fault(judge):
    with pytest.raises(InputError, match="tests"):
        judge.verify(prompt({"answer": "4"}), rollout(answer(SQUARE)))
    with pytest.raises(InputError, match="cannot be run"):
        judge.verify(prompt({"tests": "import nonsense", "entry_point": "f"}), rollout(answer("")))


def test_a_package_that_is_asked_for_can_be_imported():
    source = "import sortedcontainers, numpy\nn = int(input())\nprint(numpy.int64(n) ** 2)"
    with_them = started(packages=["sortedcontainers", "numpy"], total_s=60.0)
    verdict = with_them.verify(prompt(SQUARES), rollout(answer(source)))
    with_them.close()
    assert verdict.kind == "accepted", verdict.detail
    with pytest.raises(InputError, match="no_such_package"):
        code.check(code.Config(packages=("no_such_package",)))


async def test_the_pool_judges_programs_and_reports_the_level():
    tasks = [(prompt(SQUARES, {"code": 1.0}), rollout(answer(s))) for s in (SQUARE, "print(4)")]
    async with server({"code": 1.0}, {"code": {"total_s": 60.0}}, workers=1) as running:
        answers = await running.score(tasks)
        metrics = await running.stats()
    assert [a.reward for a in answers] == [1.0, 0.25]
    assert metrics["reward/sandbox_level"] >= 1
    assert metrics["reward/code/tests_passed"] == pytest.approx(0.625)


def test_a_run_that_asks_for_more_than_the_machine_gives_is_refused(monkeypatch):
    monkeypatch.setattr(bubblewrap, "find", lambda: None)
    run = {"verifiers": {"code": 1.0}, "min_level": "namespaces"}
    with pytest.raises(InputError, match=r"reward.min_level.*there is no bwrap"):
        settings.sandbox(RunConfig(reward=run))
    assert settings.sandbox(RunConfig(reward={"verifiers": {"math": 1.0}})) is None
