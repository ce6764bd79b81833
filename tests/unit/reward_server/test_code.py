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


ADD = {"tests": ["assert add(1, 2) == 3", "assert add(2, 2) == 4", "assert add(0, 5) == 5"]}
GUARDED = "\nif __name__ == '__main__':\n    n = int(input())\n    print(n)"
BY_NAME = {"tests": {"fn_name": "square", "inputs": [[2], [3]], "outputs": [[4], [9]]}}
BY_METHOD = {
    "tests": [{"input": "2", "output": "4", "testtype": "functional"}],
    "starter_code": "class Solution:\n    def square(self, x):",
}
FUNCTION = "def square(x): return x * x"
CLASS = "class Solution:\n    def square(self, x): return x * x"


@pytest.mark.parametrize(
    ("reference", "source"),
    [(CHECK, FUNCTION), *((r, s) for r in (BY_NAME, BY_METHOD) for s in (FUNCTION, CLASS))],
)
def test_what_a_program_does_as_main_is_not_done_where_it_is_called(judge, reference, source):
    """And a function may stand alone or in a class, as those who publish such tests allow."""
    verdict = judge.verify(prompt(reference), rollout(answer(source + GUARDED)))
    assert verdict.kind == "accepted", verdict.detail


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import pickle\nclass P: pass\n" + FUNCTION + "\npickle.dumps(P())", "accepted"),
        (
            "import dataclasses, typing\n@dataclasses.dataclass\nclass P:\n x: 'int'\n"
            + FUNCTION
            + "\ntyping.get_type_hints(P)",
            "accepted",
        ),
        ("from math import prod\ndef square(x: List[int]): return prod([x, x])", "accepted"),
        (FUNCTION + "\nprint(square(int(input())))", "runtime_error"),
        ("def cube(x): return x ** 3", "runtime_error"),
    ],
)
def test_a_program_that_is_called_is_a_module_of_its_own(judge, source, kind):
    verdict = judge.verify(prompt(BY_NAME), rollout(answer(source)))
    assert verdict.kind == kind, verdict.detail


def test_a_program_read_from_standard_input_is_main(judge):
    source = "if __name__ == '__main__':\n    n = int(input())\n    print(n * n)"
    assert judge.verify(prompt(SQUARES), rollout(answer(source))).kind == "accepted"


@pytest.mark.parametrize(
    ("source", "kind", "reward"),
    [
        ("def add(a, b): return a + b", "accepted", 1.0),
        ("def add(a, b): return a + b" + GUARDED, "accepted", 1.0),
        ("from operator import add", "accepted", 1.0),
        ("def add(a, b): return a * b", "wrong_answer", 1 / 3),
        ("def sum_of(a, b): return a + b", "runtime_error", 0.0),
    ],
)
def test_a_list_of_assertions_calls_the_program_and_nothing_of_the_same_name(
    judge, source, kind, reward
):
    """`add` is one of the names that solutions may take for granted."""
    verdict = judge.verify(prompt(ADD), rollout(answer(source)))
    assert (verdict.kind, verdict.reward) == (kind, pytest.approx(reward)), verdict.detail


REFUSES = {
    "tests": [
        "try:\n    half(-2)\n    assert False\nexcept ValueError:\n    pass",
        "assert half(4) == 2",
        "assert half(2) == 1",
    ]
}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("if x < 0: raise ValueError('negative')", "accepted"),
        ("if x < 0: raise ValueError", "accepted"),
        ("if x < 0: raise UnicodeDecodeError('utf-8', b'', 0, 1, 'no')", "runtime_error"),
        ("if x < 0: raise AssertionError('mine')", "runtime_error"),
        ("pass", "wrong_answer"),
        ("raise ValueError", "runtime_error"),
    ],
)
def test_tests_may_expect_an_exception_of_pythons_own(judge, body, kind):
    source = f"def half(x):\n    {body}\n    return x // 2"
    verdict = judge.verify(prompt(REFUSES), rollout(answer(source)))
    assert verdict.kind == kind, verdict.detail


@pytest.mark.parametrize(
    "tests",
    [
        ["assert isclose(gcd(4, 6), 2)", "assert isclose(gcd(3, 5), 1)"],
        ["assert Counter(gcd(4, 6) * [1]) == {1: 2}", "assert gcd(3, 5) == 1"],
        ["assert mine(4, 6) == gcd(4, 6)", "assert mine(3, 5) == 1"],
    ],
)
def test_what_the_tests_call_for_themselves_is_not_asked_of_the_program(judge, tests):
    source = "def mine(a, b):\n    while b: a, b = b, a % b\n    return a\ngcd = mine"
    assert judge.verify(prompt({"tests": tests}), rollout(answer(source))).kind == "accepted"
    refused = judge.verify(prompt({"tests": tests}), rollout(answer("def f(): pass")))
    assert refused.reward == 0.0


def test_methods_linked_lists_and_a_stated_precision(judge):
    source = "class Solution:\n def halve(self, head): return [sqrt(6.25000001)]"
    asked = prompt(METHOD, question="Answers within 10-5 of the actual one are accepted.")
    assert judge.verify(asked, rollout(answer(source))).kind == "accepted"
    assert judge.verify(prompt(METHOD), rollout(answer(source))).kind == "wrong_answer"


def test_a_problem_of_the_prompts_own_is_our_fault(judge):
    with pytest.raises(InputError, match="tests"):
        judge.verify(prompt({"answer": "4"}), rollout(answer(SQUARE)))
    for tests, why in (
        ("import nonsense", "nonsense"),
        ("assert 1 == 1", "call nothing"),
        ("def check(candidate):\n    assert candidate(2) == 4", "`entry_point` names"),
    ):
        with pytest.raises(InputError, match=f"cannot be run.*{why}"):
            judge.verify(prompt({"tests": tests}), rollout(answer("")))


def test_calls_that_nothing_names_are_our_fault_unless_they_are_to_be_left_out(judge):
    calls = [{"input": "7", "output": "1", "testtype": "functional"}]
    mixed = prompt({"tests": [{"input": "2", "output": "4", "testtype": "stdin"}, *calls]})
    with pytest.raises(InputError, match=r'1 of its 2 tests.*unnamed_calls = "skip"'):
        judge.verify(mixed, rollout(answer(SQUARE)))
    with contextlib.closing(started(unnamed_calls="skip", total_s=60.0)) as lenient:
        verdict = lenient.verify(mixed, rollout(answer(SQUARE)))
    assert (verdict.kind, verdict.detail) == ("accepted", "passed 1 of 1")


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
