"""A reward function is called by the names it knows: ours, verl's, TRL's, columns of the data."""

import ast
import inspect

import numpy as np
import pytest

from oapl.errors import InputError
from reward_server.functions import loading, outcome
from reward_server.functions.calling import Asked, call_of

COLUMNS = {"answer": "42", "level": 3}
ASKED = Asked(prompt="What?", response="said", columns=COLUMNS, source="set")


def called(parameters, asked=ASKED):
    """What a function of these parameters is called with, by name; its two signatures agree."""
    text = f"def reward({parameters}): return locals()"
    function = {}
    exec(text, function)
    call = call_of(inspect.signature(function["reward"]))
    assert call_of(loading.signature_of(ast.parse(text).body[0])) == call
    return call.reward(function["reward"], asked)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("prompt, response, reference", {"prompt": "What?", "reference": COLUMNS}),
        ("response, prompt, reference", {"prompt": "What?", "response": "said"}),
        ("reference, response", {"reference": COLUMNS, "response": "said"}),
        ("p, r, a", {"p": "What?", "r": "said", "a": COLUMNS}),
        ("p, r, /, a", {"p": "What?", "r": "said", "a": COLUMNS}),
        ("question, output, gold, strict=False", {"output": "said", "gold": COLUMNS}),
        ("a, b, c=None", {"a": "What?", "b": "said", "c": COLUMNS}),
        ("*everything", {"everything": ("What?", "said", COLUMNS)}),
        ("prompt, *rest", {"prompt": "What?", "rest": ("said", COLUMNS)}),
        ("*args, **kwargs", {"args": ("What?", "said", COLUMNS), "kwargs": {}}),
        ("prompt, response, ground_truth", {"response": "said", "ground_truth": "42"}),
        ("prompt, response, answer", {"response": "said", "answer": "42"}),
        ("prompt, response", {"prompt": "What?", "response": "said"}),
        ("response", {"response": "said"}),
        ("completion, answer, level", {"completion": "said", "answer": "42", "level": 3}),
        ("level, response, answer", {"level": 3, "response": "said", "answer": "42"}),
        ("response, level=0, other=7", {"response": "said", "level": 3, "other": 7}),
        ("*, response, **columns", {"response": "said", "columns": COLUMNS}),
        ("prompt, response, reference, level", {"reference": COLUMNS, "level": 3}),
        ("solution_str, ground_truth", {"solution_str": "said", "ground_truth": "42"}),
        ("solution_str, ground_truth, method='strict'", {"method": "strict"}),
        (
            "data_source, solution_str, ground_truth, extra_info=None",
            {"data_source": "set", "ground_truth": "42", "extra_info": COLUMNS},
        ),
        ("data_source, solution_str, ground_truth", {"data_source": "set"}),
        (
            "data_sources, solution_strs, ground_truths, extra_infos",
            {"data_sources": ["set"], "solution_strs": ["said"], "ground_truths": ["42"]},
        ),
        (
            "prompts, completions, **kwargs",
            {
                "prompts": ["What?"],
                "completions": ["said"],
                "kwargs": {"answer": ["42"], "level": [3]},
            },
        ),
        (
            "completions, answer, **_",
            {"completions": ["said"], "answer": ["42"], "_": {"level": [3]}},
        ),
        ("completions, ground_truth", {"completions": ["said"], "ground_truth": ["42"]}),
        ("completions, other=None", {"completions": ["said"], "other": None}),
    ],
)
def test_parameters_get_what_their_names_say(parameters, expected):
    got = called(parameters)
    assert {name: got[name] for name in expected} == expected


@pytest.mark.parametrize(
    "parameters",
    ["", "a", "a, b", "a, b, c, d", "a, b, c, *, d", "prompts, answer", "reference, prompt, x",
     "prompt, reference", "ground_truth, output", "*, a, b, c", "**kwargs"],
)  # fmt: skip
def test_parameters_that_do_not_tell_where_the_response_goes_are_refused(parameters):
    with pytest.raises(InputError, match=r"accepted are reward\(prompt, response, reference\)"):
        called(parameters)


@pytest.mark.parametrize(
    ("columns", "ground_truth", "reference"),
    [
        ({"answer": "42"}, "42", "42"),
        ({"answer": "42", "ground_truth": "6*7"}, "6*7", {"answer": "42", "ground_truth": "6*7"}),
        ({"reward_model": {"ground_truth": "42"}}, "42", {"reward_model": {"ground_truth": "42"}}),
        ({"tests": [1]}, {"tests": [1]}, {"tests": [1]}),
    ],
)
def test_the_ground_truth_is_found_where_data_sets_have_it(columns, ground_truth, reference):
    asked = Asked(prompt="", response="", columns=columns)
    got = called("response, ground_truth, reference", asked)
    assert (got["ground_truth"], got["reference"]) == (ground_truth, reference)


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InputError, match=r"column 'tests'.* are answer, level"):
        called("response, tests")


@pytest.mark.parametrize("parameters", ["p, r, a", "completions, a", "response, **a"])
def test_what_a_function_does_to_its_reference_stays_with_the_call(parameters):
    nested = {"a": [[1]], "more": 2}
    for _ in range(2):
        got = called(parameters, Asked(prompt="", response="", columns=nested))["a"]
        (got[0] if isinstance(got, list) else got).clear()
    assert nested == {"a": [[1]], "more": 2}


@pytest.mark.parametrize(
    ("result", "is_batch", "reward", "parts"),
    [
        (1, False, 1.0, {}),
        (True, False, 1.0, {}),
        (np.float32(0.5), False, 0.5, {}),
        ([0.5], True, 0.5, {}),
        (np.array([0.5]), True, 0.5, {}),
        (0.5, True, 0.5, {}),
        ({"score": 0.5, "acc": True, "pred": "x", "no part": 1}, False, 0.5, {"acc": 1.0}),
        ([{"score": 0.5, "acc": 1}], True, 0.5, {"acc": 1.0}),
        ({"reward": 2}, False, 2.0, {}),
    ],
)
def test_what_a_function_gives_is_a_number_a_table_or_a_list_of_one(
    result, is_batch, reward, parts
):
    assert outcome.read(result, is_batch=is_batch) == (reward, parts)


@pytest.mark.parametrize(
    ("result", "is_batch", "message"),
    [
        (None, False, "gave None; it must give a number"),
        ([0.5], False, r"gave \[0.5\]; it must give a number"),
        ([0.5, 1.0], True, "gave 2 rewards for one response"),
        ([], True, "gave 0 rewards"),
        ([None], True, r"gave \[None\]"),
        ({"acc": 1.0}, False, "a table with a number as `score`"),
    ],
)
def test_what_is_no_reward_is_said_to_be_that(result, is_batch, message):
    with pytest.raises(TypeError, match=message):
        outcome.read(result, is_batch=is_batch)
