"""Rows become problems: keys, answers, messages, tools; what cannot be read is told its place."""

import json

import pytest

from actors.data.sources import read_problems
from oapl.config.sections import DataSource
from oapl.errors import InputError

NAN, INF = float("nan"), float("inf")
ASKED = {"role": "user", "content": "1+1?"}
CALL = {"name": "add", "arguments": {"a": 1, "b": 2}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.fixture
def read(tmp_path):
    def read(row, with_responses=False, **keys):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n" + json.dumps(row))
        source = DataSource(name="rows", path=str(path), **{"answer_key": "", **keys})
        (problem,) = read_problems(source, with_responses=with_responses)
        return problem

    return read


def asked(*messages, **more):
    return {"prompt": [*messages, ASKED], "answer": "2", **more}


# --- answers


@pytest.mark.parametrize(
    "answer",
    [None, "", " \n", [], [None], ["", None], [[]], {}, {"a": None}, NAN, [NAN], "\u3000"],
    ids=repr,
)
def test_an_answer_that_says_nothing_is_refused_with_its_place(read, answer):
    with pytest.raises(InputError, match=r"rows.jsonl line 2: the answer is .* accept nothing"):
        read({"prompt": "1+1?", "answer": answer}, answer_key="answer")


@pytest.mark.parametrize("answer", [INF, -INF])
def test_an_answer_beyond_all_numbers_is_refused(read, answer):
    with pytest.raises(InputError, match=r"line 2: the answer is -?inf.*in quotes"):
        read({"prompt": "1+1?", "answer": answer}, answer_key="answer")


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("0", "0"),
        (0, "0"),
        (0.0, "0.0"),
        (-1.5, "-1.5"),
        (False, "false"),
        (["a", 2], ["a", 2]),
        (["", "a"], ["", "a"]),
        ({"label": "B"}, {"label": "B"}),
        ("None", "None"),
    ],
    ids=repr,
)
def test_an_answer_that_says_something_is_kept_and_numbers_become_text(read, answer, kept):
    assert read({"prompt": "?", "answer": answer}, answer_key="answer").reference["answer"] == kept


def test_an_example_needs_no_answer(read):
    row = {"prompt": "1+1?", "answer": None, "response": "2"}
    assert read(row, answer_key="answer", with_responses=True).response == "2"


# --- keys


@pytest.mark.parametrize(
    ("row", "key", "found"),
    [
        ({"reward_model": {"ground_truth": "3"}}, "reward_model.ground_truth", "3"),
        ({"a": {"b": {"c": 3}}}, "a.b.c", "3"),
        ({"a.b": "dot", "a": {"b": "field"}}, "a.b", "dot"),
        ({"a.b": {"c": "3"}}, "a.b.c", "3"),
        ({"a": {"b": 1}, "a.b": {"c": "3"}}, "a.b.c", "3"),
        ({"answers": [{"text": "3"}]}, "answers.0.text", "3"),
        ({"answers": ["3", "4"]}, "answers.1", "4"),
    ],
    ids=str,
)
def test_a_key_leads_into_a_column(read, row, key, found):
    problem = read({"prompt": "?", **row}, answer_key=key)
    assert problem.reference["answer"] == found
    assert set(row) <= set(problem.reference), "verifiers see the other columns as they are"


def test_the_prompt_may_lie_in_a_column_too(read):
    row = {"extra": {"question": "1+1?", "turns": [ASKED]}}
    assert read(row, prompt_key="extra.question").prompt == "1+1?"
    assert read(row, prompt_key="extra.turns").question == "1+1?"
    assert read(row, prompt_key="extra.turns.0.content").prompt == "1+1?"


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("reward_model.truth", "'reward_model' has ground_truth, style; set answer_key"),
        ("reward_model.ground_truth.x", "'reward_model' has ground_truth, style"),
        ("truth", "there are prompt, reward_model; set answer_key"),
        ("answers.2", "there are prompt, reward_model"),
    ],
)
def test_a_key_that_leads_nowhere_is_told_what_there_is(read, key, says):
    row = {"prompt": "?", "reward_model": {"ground_truth": "3", "style": "rule"}}
    with pytest.raises(InputError, match=rf"line 2: .*no column '{key}'; {says}"):
        read(row, answer_key=key)


def test_a_prompt_that_is_an_object_is_told_where_the_key_may_lead(read):
    with pytest.raises(InputError, match=r"line 2: the prompt is .*prompt_key .*to text or id"):
        read({"prompt": {"text": "1+1?", "id": 3}})


# --- messages


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], r"the prompt is \[\]"),
        ([{}], "message 1: .*role and content"),
        (["1+1?"], "message 1: .*role and content"),
        ([{"role": "", "content": "x"}, ASKED], "message 1: .*role and content"),
        ([{"from": "human", "value": "1+1?"}], "message 1: .*role and content"),
        ([{"role": "user", "content": " "}], "message 1: .*not blank"),
        ([{"role": "user", "content": None}], "message 1: .*is None.*not blank"),
        ([{"role": "user", "content": []}], "message 1: .*not blank"),
        ([ASKED, {"role": "assistant", "content": ""}, ASKED], "message 2: .*not blank"),
        ([{"role": "assistant", "content": "", "tool_calls": []}, ASKED], "message 1: .*not blank"),
        ([{"role": "user", "content": 5}], "message 1: .*content is 5"),
        ([{"role": "user", "content": [{"type": "image"}]}], "part 1 .*'image'.*leave the part"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
            "message 1: part 2 .*'image_url'",
        ),
        ([{"role": "user", "content": ["text"]}], "part 1 .*'text', and only parts"),
        ([{"role": "user", "content": [{"type": "text", "text": None}]}], "part 1"),
        ([{"role": "assistant", "tool_calls": [{"id": 1}]}, ASKED], "tool_calls is .*name"),
        ([{"role": "assistant", "tool_calls": "add(1, 2)"}, ASKED], "tool_calls is .*name"),
        ([ASKED, {"role": "assistant", "content": "2"}], "ends with role 'assistant'"),
    ],
    ids=str,
)
def test_messages_that_cannot_be_written_are_refused_with_their_place(read, messages, says):
    with pytest.raises(InputError, match=rf"rows.jsonl line 2.*{says}"):
        read({"prompt": messages})


def test_parts_of_text_are_joined_and_other_keys_kept(read):
    parts = [{"type": "text", "text": "1+"}, {"type": "text", "text": "1?", "image_url": None}]
    problem = read({"prompt": [{"role": "user", "content": parts, "name": "Ann", "weight": None}]})
    assert problem.prompt == ({"role": "user", "content": "1+1?", "name": "Ann"},)
    assert problem.with_question("2?").prompt[0]["name"] == "Ann"


@pytest.mark.parametrize("role", ["system", "tool", "developer"])
def test_a_role_that_has_nothing_to_say_may_say_nothing(read, role):
    assert read(asked({"role": role, "content": ""})).prompt[0]["content"] == ""


@pytest.mark.parametrize(
    "call",
    [
        CALL,
        {**CALL, "arguments": json.dumps(CALL["arguments"])},
        {"type": "function", "id": "1", "function": CALL},
        {"function": {**CALL, "arguments": json.dumps(CALL["arguments"]), "strict": None}},
    ],
    ids=str,
)
def test_calls_of_tools_are_kept_and_their_arguments_are_an_object(read, call):
    first, _ = read(asked({"role": "assistant", "content": None, "tool_calls": [call]})).prompt
    (kept,) = first["tool_calls"]
    assert kept.get("function", kept) == CALL
    assert first["content"] == ""


@pytest.mark.parametrize("tools", [[TOOL], json.dumps([TOOL]), [json.dumps(TOOL)]], ids=str)
def test_tools_are_read_from_their_column_also_in_json_text(read, tools):
    assert read(asked(tools=tools)).tools == (TOOL,)


@pytest.mark.parametrize("tools", [None, [], "", "[]", "null"], ids=repr)
def test_a_row_may_have_no_tools(read, tools):
    assert read(asked(tools=tools)).tools == ()


@pytest.mark.parametrize("tools", ["hammer", ["hammer"], [3], 3, [{}], {"name": "add"}], ids=repr)
def test_tools_that_are_none_are_refused_with_their_place(read, tools):
    with pytest.raises(InputError, match=r"line 2: tools is .*JSON schemas.*rename the column"):
        read(asked(tools=tools))


# --- text


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1+1 \ud83d?"},
        {"prompt": "1+1?", "answer": "\udc00"},
        {"prompt": [{"role": "user", "content": "\ud800"}]},
        {"prompt": "1+1?", "tests": [{"input": "\ud800"}]},
        {"prompt": "1+1?", "\ud800": 1},
    ],
    ids=ascii,
)
def test_half_of_a_character_is_refused_with_its_place(read, row):
    with pytest.raises(InputError, match=r"line 2: column .* half of a character"):
        read(row)


def test_whole_characters_beyond_the_first_plane_are_text(read):
    assert read({"prompt": "1+1 \U0001f600?"}).prompt == "1+1 \U0001f600?"


def test_a_line_nested_beyond_reading_is_refused(tmp_path):
    path = tmp_path / "deep.jsonl"
    path.write_text('{"prompt": ' + "[" * 100_000)
    with pytest.raises(InputError, match=r"deep.jsonl line 1: .* is not JSON"):
        read_problems(DataSource(name="deep", path=str(path)))
