"""Programming problems on paper: the block in a response, the tests in a row, the comparison."""

import time

import pytest

from reward_server.programs import compare, extract, problem, statement
from reward_server.programs.problem import CallTest, StdinTest
from reward_server.sandbox import allowed, bpf, values
from tests.support import speed


def block(source: str, mark: str = "python") -> str:
    return f"```{mark}\n{source}\n```\n"


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (block("print(1)"), "print(1)\n"),
        (block("print(1)") + "or rather\n" + block("print(2)"), "print(2)\n"),
        (block("print(1)") + "It prints\n" + block("1", "text"), "print(1)\n"),
        (block("print(1)") + "It prints\n" + block("1", ""), "print(1)\n"),
        (block("print(1)", ""), "print(1)\n"),
        (block("int main() {}", "cpp"), None),
        ("print(1)", None),
        ("```python\nprint(1)", None),
        ("  ```py\n  if 1:\n    print(1)\n  ```", "if 1:\n  print(1)\n"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
        ("~~~python\nprint(1)\n~~~", "print(1)\n"),
        ("```Python\r\nprint(1)\r\n```\r\n", "print(1)\n"),
        ("```python\nx = [1]```", "x = [1]\n"),
        ("```python\nx = 1``` \nIt prints\n```\n1\n```", "x = 1\n"),
        ("```cpp\nint x;```\n```python\nx```\n", "x\n"),
        ("~~~python\nx = 1~~~", "x = 1\n"),
        ("~~~~ py\nx = '''\n```\n~~~\n'''\n~~~~~", "x = '''\n```\n~~~\n'''\n"),
        (
            "```python\n# so: ```\ns = '```'\nf('```x```')\n```",
            "# so: ```\ns = '```'\nf('```x```')\n",
        ),
        ("````python\nx = 1```\n````", "x = 1```\n"),
        ("1. So\n\n   ```python\n   if 1:\n     x\n   ```\n", "if 1:\n  x\n"),
        ("- ```python\n  if 1:\n    x\n  ```", "if 1:\n  x\n"),
        ("10) ~~~ python\n    if 1:\n        x\n    ~~~", "if 1:\n    x\n"),
        ("\t```python\n\tif 1:\n\t\tx\n\t```", "if 1:\n\tx\n"),
        ("  ```python\nif 1:\n  x\n```", "if 1:\n  x\n"),
        ("```python\n    x = 1\n    y = 2\n```", "x = 1\ny = 2\n"),
        ("  ```python\n  s = '''\na\n  '''\n  x\n  ```", "s = '''\na\n'''\nx\n"),
        ("> ```python\n> if 1:\n>     x\n> ```", "if 1:\n    x\n"),
        ("Answer: ```python\nx\n```", "x\n"),
        ("Fences of ```python``` are asked for.\n```\nx\n```", "x\n"),
        ("```python\nx = 1\nNo, better:\n```python\ny = 2\n```", "y = 2\n"),
    ],
)
def test_the_last_block_of_python_is_the_program(text, program):
    assert extract.program(text) == program


@pytest.mark.parametrize(
    ("info", "is_python"),
    [
        *((info, True) for info in ("py", "Python3", "python3.11", "pypy3", "ipython", "a.py:3")),
        *((info, True) for info in ('python title="a.py" {1,3}', "python:main.py", "solution.py")),
        *((info, True) for info in ("{python}", "{.python .numberLines}", "{python, echo=FALSE}")),
        *((info, False) for info in ("python-repl", "pycon", "text", "c++", "cython", "output")),
    ],
)
def test_what_stands_behind_a_fence_says_whether_it_is_python(info, is_python):
    assert extract.program(block("x", info)) == ("x\n" if is_python else None)


@pytest.mark.parametrize(
    "text",
    [
        "```" + "a" * 10**6 + "`",
        "`" * 10**6,
        "```a\n" * 10**5,
        "> " * 10**6 + "```python",
        "```python\n" + "x```y```\n" * 10**5,
        "> " * 10**5 + "```python\n" + ("> " * 100 + "\n") * 1000,
    ],
)
def test_a_megabyte_of_fences_is_read_once(text):
    started = time.process_time()
    assert extract.program(text) is None
    assert time.process_time() - started < speed.here(1.0)


def test_the_forms_of_tests_become_one():
    pairs = {"tests": {"inputs": ["1\n"], "outputs": ["2\n"]}}
    listed = {"tests": [{"input": "1\n", "output": "2\n"}]}
    as_text = {"tests": '{"inputs": ["1\\n"], "outputs": ["2\\n"]}'}
    for row in (pairs, listed, as_text):
        assert problem.read(row, "").stdin_tests == (StdinTest(stdin="1\n", expected="2\n"),)


@pytest.mark.parametrize(
    ("row", "question", "entry"),
    [
        ({"fn_name": "f"}, "", "f"),
        ({"starter_code": "class Solution:\n    def f(self, a): "}, "", "Solution().f"),
        ({}, "Complete\n```python\nclass Solution:\n    def f(self):\n```", "Solution().f"),
    ],
)
def test_calls_take_their_arguments_by_line_and_their_name_from_the_row(row, question, entry):
    tests = [{"input": '[1, 2]\n"x"', "output": "[3]", "testtype": "functional"}]
    read = problem.read({"tests": tests, **row}, question)
    assert read.call_tests == (CallTest(args=([1, 2], "x"), expected=[3]),)
    assert read.entry == entry


CALL = {"input": "1", "output": "1", "testtype": "functional"}
GIVEN = {"input": "1", "output": "1", "testtype": "stdin"}


@pytest.mark.parametrize("tests", [[CALL], [GIVEN, CALL], [CALL, GIVEN, GIVEN]])
def test_calls_that_nothing_names_are_refused_or_left_out_if_that_is_asked_for(tests):
    with pytest.raises(ValueError, match=f"1 of its {len(tests)} tests .* nothing names it"):
        problem.read({"tests": tests}, "Square a number.")
    if len(tests) == 1:
        with pytest.raises(ValueError, match="nothing names it"):
            problem.read({"tests": tests}, "", skips_unnamed=True)
    else:
        read = problem.read({"tests": tests}, "", skips_unnamed=True)
        assert (len(read.stdin_tests), read.num_tests) == (len(tests) - 1, len(tests) - 1)


@pytest.mark.parametrize(
    ("row", "question"),
    [
        ({"tests": {"fn_name": "f", "inputs": [[1]], "outputs": [1]}}, ""),
        ({"tests": {"inputs": [[1]], "outputs": [1]}, "fn_name": "f"}, ""),
        ({"tests": [{"input": [1], "output": 1}], "func_name": "f"}, ""),
        ({"tests": [{"input": [1], "output": 1, "fn_name": "f", "type": "function_call"}]}, ""),
        ({"tests": [{**CALL, "metadata": {"func_name": "f"}}]}, ""),
        ({"tests": [CALL], "metadata": '{"func_name": "f"}'}, ""),
        ({"tests": [CALL], "entry_point": "f"}, ""),
        ({"tests": [CALL], "starter_code": "def f(x):\n    "}, ""),
        ({"tests": [CALL]}, "Complete\n```python\ndef f(x):\n```"),
    ],
)
def test_a_call_is_named_by_the_row_its_tests_or_the_question(row, question):
    read = problem.read(row, question)
    assert (read.entry, read.call_tests) == ("f", (CallTest(args=(1,), expected=1),))


def test_tests_that_name_several_functions_are_refused():
    calls = [{**CALL, "fn_name": name} for name in "fg"]
    with pytest.raises(ValueError, match="several functions: f, g"):
        problem.read({"tests": calls}, "")


@pytest.mark.parametrize(
    ("inputs", "outputs", "right", "wrong"),
    [
        ([[1], [2]], [[3], [4]], [3, [3]], [4, [4], "3", [[3]]]),
        ([["abc"]], ["cba"], ["cba"], ["abc", ["cba"]]),
        ([["abc"]], [["cba"]], ["cba", ["cba"]], ["abc"]),
        ([["12"]], ["21"], ["21", 21], ["12", 12]),
        ([["12"]], [["21"]], ["21"], ["12", 21]),
        (["1"], ["[3]"], [3, [3]], [4]),
        (['"abc"'], ['"cba"'], ["cba"], ['"cba"', "abc"]),
        (['"abc"'], ["cba"], ["cba"], ["abc"]),
        (['"12"'], ["21"], [21], ["21"]),
        ([[1]], [[[1, 2]]], [[1, 2], (1, 2), [[1, 2]], [(1, 2)]], [1, [2, 1]]),
        ([[1], [2]], [[3, 4], [5]], [[3, 4], (3, 4)], [3, 4]),
        ([[1]], [[]], [[], ()], [None, 0]),
        ([[1]], [[None]], [None], [0]),
        ([[1]], [{"1": 2}], [{1: 2}, {"1": 2}], [{1: 3}]),
        ([[1]], [[{"1": 2}]], [{1: 2}], [{2: 1}]),
        ([[1]], [(1, 2)], [(1, 2), [1, 2]], [1]),
        (["1"], ["True"], [True, "True"], [False]),
        ([[1]], ["(1, 'a')"], [(1, "a"), [1, "a"]], [1]),
        (["(1, 2)\n'x'\nNone"], ["[None]"], [[None], None], [0]),
    ],
)
def test_the_value_of_a_call_may_be_wrapped_in_a_list_or_be_json(inputs, outputs, right, wrong):
    row = {"tests": {"fn_name": "f", "inputs": inputs, "outputs": outputs}}
    test = problem.read(row, "").call_tests[0]
    readings = values.as_json([test.expected, *test.or_else])
    for value in right + wrong:
        got = values.as_json(values.decode(values.encode(value)))
        assert compare.any_value(got, readings) is (value in right), value


def test_json_lines_of_a_call_are_taken_at_their_word():
    test = {"input": "[1]", "output": "[3]", "testtype": "functional"}
    read = problem.read({"tests": [test], "fn_name": "f"}, "")
    assert read.call_tests == (CallTest(args=([1],), expected=[3]),)


def test_integers_that_json_made_keys_of_text_are_arguments_again():
    inputs = [[{"1": "a", "-2": "b"}], [{"x": 1}], [{}]]
    read = problem.read({"tests": {"fn_name": "f", "inputs": inputs, "outputs": [1, 2, 3]}}, "")
    assert [test.args for test in read.call_tests] == [({1: "a", -2: "b"},), ({"x": 1},), ({},)]


@pytest.mark.parametrize(
    "tests", [["assert f(1) == 1", "assert f(2) == 2"], '["assert f(1) == 1", "assert f(2) == 2"]']
)
def test_a_list_of_assertions_is_a_script_behind_what_it_needs(tests):
    row = {"tests": tests, "test_imports": ["import math"], "test_setup_code": "x = 1"}
    assert problem.read(row, "").script.split("\n") == [
        "import math",
        "x = 1",
        "assert f(1) == 1",
        "assert f(2) == 2",
    ]


@pytest.mark.parametrize(
    "tests",
    [None, [], {}, "", {"inputs": ["1"], "outputs": []}, "[1", [1], [None], 5, [""], ["", {}]],
)
def test_a_row_without_usable_tests_is_refused(tests):
    with pytest.raises(ValueError):
        problem.read({"tests": tests}, "")


@pytest.mark.parametrize(
    ("question", "tolerance"),
    [
        ("absolute or relative error does not exceed 10^{-6}.", 1e-6),
        ("relative error of at most 10 ^ {-9} from the true answer", 1e-9),
        ("Answers within 10-5 of the actual answer will be accepted.", 1e-5),
        ("accepted if it differs by at most 1e-5", 1e-5),
        ("an error of 0.0001 is accepted", 1e-4),
        ("error at most 10<sup>-4</sup>", 1e-4),
        ("It is guaranteed that 10^5 <= n. Print the answer modulo 10^9+7.", 0.0),
        ("the minimum absolute difference |10 - 1| = 9 is the correct answer", 0.0),
        ("x is at least 10^-6", 0.0),
    ],
)
def test_the_statement_says_what_error_is_allowed(question, tolerance):
    assert statement.tolerance_of(question) == pytest.approx(tolerance)


@pytest.mark.parametrize(
    ("got", "expected", "tolerance", "is_same"),
    [
        ("1 2\n", "1 2", 0, True),
        ("1 2  \r\n\n\n", "1 2\n", 0, True),
        ("1\n2\n", "1 2\n", 0, True),
        ("1.0", "1", 0, True),
        ("2 1", "1 2", 0, False),
        ("11", "0011", 0, False),
        ("0.3333", "0.3334", 0, False),
        ("0.3333", "0.3334", 1e-3, True),
        ("1000001", "1000000", 1e-6, True),
        ("nan", "nan", 1e-3, True),
        ("nan", "1", 1e-3, False),
        ("inf", "1e9", 1e-3, False),
        ("1e9999", "1", 1e-3, False),
        ("1_0", "10", 0, False),
        ("Yes", "YES", 0, False),
        ("", "1", 0, False),
        ("1 1", "1", 0, False),
    ],
)
def test_outputs_are_compared_as_contests_do(got, expected, tolerance, is_same):
    assert compare.same_output(got, expected, tolerance) is is_same


def test_case_is_ignored_only_where_the_statement_says_so():
    assert compare.same_output("Yes", "YES", ignores_case=True)
    tests = {"inputs": ["1"], "outputs": ["YES"]}
    assert problem.read({"tests": tests}, "You can print letters in any case.").ignores_case
    assert not problem.read({"tests": tests}, "In any case, print YES.").ignores_case


def test_values_are_compared_as_plain_data():
    same = compare.same_value
    assert same([1, [2.0]], [1.0, [2]])
    assert not same([1, 2], [2, 1])
    assert not same("1", 1)
    assert not same(None, 0)
    assert not same([1], 1)
    assert same(0.1 + 0.2, 0.3, 1e-6)
    assert not same(0.1 + 0.2, 0.3)
    assert not same(float("nan"), float("nan"), 1.0)
    assert not same(float("inf"), 1, 1.0)
    assert same({"a": [1]}, {"a": [1]})
    assert not same({"a": 1}, {"b": 1})


class Equal(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


def test_values_travel_as_what_they_are():
    ring = values.ListNode(1)
    ring.next = ring
    for value in (None, True, 1, -1.5, "x", [1, (2, "y")], {1: [2]}, {1, 2}, frozenset({3})):
        assert values.decode(values.encode(value)) == value
    assert values.encode(values.decode({"t": "TreeNode", "v": [1, None, 2]})) == {
        "t": "TreeNode",
        "v": [1, None, 2],
    }
    assert type(values.encode(Equal(3))) is int
    assert values.decode(values.encode(object())) != values.decode(values.encode(object()))
    with pytest.raises(ValueError, match="without an end"):
        values.encode(ring)


@pytest.mark.parametrize(
    "data",
    [{}, {"t": "tuple"}, {"t": "dict", "v": [[1]]}, {"t": "set", "v": [[]]}, {"t": "x", "v": []}],
)
def test_data_that_is_no_value_is_refused(data):
    with pytest.raises(ValueError):
        values.decode(data)


def test_a_filter_lets_a_process_signal_itself_only():
    if bpf.machine() is None:
        pytest.skip("no table of system calls for this machine")
    program = allowed.program()
    first, second = allowed.of_process(program, 77), allowed.of_process(program, 78)
    assert len(first) == len(second) == len(program)
    assert first != second
    assert len(program) // 8 < 4096  # the kernel's limit
