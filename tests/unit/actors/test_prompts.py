"""From files to prompts in order: reading, templates, length, seeds, resuming, imitation."""

import gzip
import json
import pickle
import random
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from actors.data.problems import Problem
from actors.data.prompts import ExampleQueue, PromptStream, build, read_prompts
from actors.data.puzzles import puzzles
from actors.data.sources import read_problems
from actors.data.templates import choose
from actors.data.tokenizer import ResponseDecoder, load_tokenizer
from oapl.config import RunConfig
from oapl.config.sections import DataSection, DataSource, EvalSource
from oapl.errors import CheckpointError, InputError
from tests.support import speed
from tests.support.makers import make_model, make_tokenizer
from tests.support.saved import saved

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
EOS = 2


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def chatty():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = CHAT
    return tokenizer


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sums(count: int, start: int = 0) -> list[dict]:
    return [
        {"prompt": f"{i}+{i}?", "answer": str(2 * i), "response": f"It is {2 * i}", "level": i}
        for i in range(start, start + count)
    ]


def source(path: Path, name: str = "sums", **more) -> dict:
    return {"name": name, "path": str(path), **more}


def config(model: Path, *sources: dict, **sections) -> RunConfig:
    data = {"sources": sources, **sections.pop("data", {})}
    rollout = {"max_tokens": 64, **sections.pop("rollout", {})}
    return RunConfig(model={"path": str(model)}, data=data, rollout=rollout, **sections)


def draw(stream: PromptStream, count: int) -> list[str]:
    drawn = [stream.next() for _ in range(count)]
    return [prompt.id for prompt in drawn if prompt is not None]


# --- reading


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet", "disk", "dict", "folder", "file"])
def test_every_kind_of_source_gives_the_same_problems(tmp_path, kind):
    rows = sums(5)
    path = tmp_path / f"data.{kind}"
    where = {"path": str(path)}
    if kind == "jsonl":
        write(path, rows)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(write(tmp_path / "x.jsonl", rows).read_bytes()))
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        where = {"dataset": str(path)}
        made = datasets.Dataset.from_list(rows)
        if kind == "disk":
            made.save_to_disk(path)
        elif kind == "dict":
            datasets.DatasetDict({"test": made}).save_to_disk(path)
            where["split"] = "test"
        elif kind == "folder":
            path.mkdir()
            write(path / "train.jsonl", rows)
        else:
            where = {"dataset": str(write(tmp_path / "file.jsonl", rows))}
    problems = read_problems(DataSource(name="sums", **where))
    assert [(p.index, p.prompt, p.reference) for p in problems] == [
        (
            i,
            f"{i}+{i}?",
            {"answer": str(2 * i), "response": f"It is {2 * i}", "level": i},
        )
        for i in range(5)
    ]


def test_a_split_that_does_not_exist_is_refused(tmp_path):
    datasets.DatasetDict({"test": datasets.Dataset.from_list(sums(2))}).save_to_disk(tmp_path / "d")
    with pytest.raises(InputError, match=r"split 'train', cannot be loaded"):
        read_problems(DataSource(name="a", dataset=str(tmp_path / "d")))


def test_blank_lines_are_skipped_and_errors_count_them(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"prompt": "1", "answer": 1.5}\n\n\nbad\n')
    with pytest.raises(InputError, match=r"a.jsonl line 4: 'bad' is not JSON"):
        read_problems(DataSource(name="a", path=str(path)))
    path.write_text('\ufeff{"prompt": "1", "answer": 1.5}\n\n')
    (problem,) = read_problems(DataSource(name="a", path=str(path)))
    assert problem.reference == {"answer": "1.5"}, "numbers become text"


def test_a_line_that_is_no_utf_8_is_refused_with_its_number(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt": "1", "answer": "1"}\n{"prompt": "\xff"}\n')
    with pytest.raises(InputError, match=r"a.jsonl line 2: .* is not JSON"):
        read_problems(DataSource(name="a", path=str(path)))


def test_columns_are_chosen_by_the_source(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"q": "1+1?", "gold": [2, "two"], "answer": "other"}])
    (problem,) = read_problems(
        DataSource(name="a", path=str(path), prompt_key="q", answer_key="gold")
    )
    assert problem.prompt == "1+1?"
    assert problem.reference["answer"] == [2, "two"]


def test_a_source_may_say_that_it_has_no_answers(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "Write a poem.", "topic": "rain"}])
    (problem,) = read_problems(DataSource(name="a", path=str(path), answer_key=""))
    assert problem.reference == {"topic": "rain"}


KNIGHTS = DataSource(name="g", task="knights_knaves", size=3)
FUNCTIONS = DataSource(name="g", task="list_functions", size=3)


@pytest.fixture(scope="module")
def questions():
    """By source, made in one process after one another; `KNIGHTS` once more at the end."""
    asked = [KNIGHTS, replace(KNIGHTS, seed=1), FUNCTIONS, KNIGHTS]
    return [[puzzle.entry["question"] for puzzle in made] for made in puzzles(asked)]


def test_puzzles_that_draw_from_the_process_s_own_chance_follow_their_seed_too(questions):
    random.seed(5)
    before = random.getstate()
    assert [p.prompt for p in read_problems(FUNCTIONS)] == questions[2]
    assert random.getstate() == before, "and nobody else's is changed"


def test_puzzles_bring_their_entry_and_depend_on_the_seed(questions):
    problems = read_problems(KNIGHTS)
    assert len(problems) == 3
    reference = problems[1].reference
    assert reference["task"] == "knights_knaves"
    assert reference["entry"]["answer"] == reference["answer"]
    assert reference["entry"]["question"] == problems[1].prompt
    first, other, _, again = questions
    assert [p.prompt for p in problems] == first == again != other
    assert b"numpy" not in pickle.dumps(problems), "verifiers run without NumPy"


# --- prompts


def test_a_prompt_holds_what_engine_and_verifiers_need(tmp_path, model, tokenizer):
    path = write(tmp_path / "a.jsonl", sums(1))
    prompt = build(config(model, source(path)), tokenizer).next()
    assert prompt.id == "sums:0@0"
    assert (prompt.text, prompt.question, prompt.source) == ("0+0?", "0+0?", "sums")
    assert prompt.token_ids.dtype == np.int32
    assert tokenizer.decode(prompt.token_ids) == "0+0?"
    assert prompt.verifiers == {"math": 1.0}
    assert prompt.reference["answer"] == "0"


def test_a_source_s_own_verifiers_come_before_the_run_s(tmp_path, model, tokenizer):
    path = write(tmp_path / "a.jsonl", sums(1))
    own = source(path, verifiers={"reasoning_gym": 0.5})
    (prompt,) = read_prompts((EvalSource(**own),), config(model), tokenizer)
    assert prompt.verifiers == {"reasoning_gym": 0.5}
    assert prompt.id == "sums:0@0"


def test_the_chat_template_is_used_where_there_is_one(tmp_path, model, chatty):
    path = write(tmp_path / "a.jsonl", sums(1))
    made = config(model, source(path), data={"system_prompt": "Add."})
    prompt = build(made, chatty).next()
    assert prompt.text == "<system>Add.<user>0+0?<assistant>"
    assert prompt.question == "0+0?"
    assert chatty.decode(prompt.token_ids) == prompt.text
    plain = build(config(model, source(path), data={"template": "plain"}), chatty).next()
    assert plain.text == "0+0?"


def test_chat_messages_are_a_prompt(tmp_path, model, chatty):
    turns = [("user", "Hi"), ("assistant", "Hello"), ("user", "1+1?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    path = write(tmp_path / "a.jsonl", [{"prompt": messages, "answer": "2"}])
    prompt = build(config(model, source(path)), chatty).next()
    assert prompt.text == "<user>Hi<assistant>Hello<user>1+1?<assistant>"
    assert prompt.question == "1+1?"


def test_two_system_messages_are_refused(tmp_path, model, chatty):
    messages = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1?"}]
    path = write(tmp_path / "a.jsonl", [{"prompt": messages, "answer": "2"}])
    with pytest.raises(InputError, match="has a system message of its own"):
        build(config(model, source(path), data={"system_prompt": "Think."}), chatty)


def test_what_a_chat_template_refuses_is_said_with_its_place(tmp_path, model, chatty):
    chatty.chat_template = "{{ raise_exception('no system role') }}"
    path = write(tmp_path / "a.jsonl", sums(1))
    with pytest.raises(InputError, match=r"a.jsonl line 1: .*no system role"):
        build(config(model, source(path)), chatty)


def framing(tokenizer):
    """The tokenizer made to open texts with BOS and to close them with EOS."""
    from tokenizers.processors import TemplateProcessing

    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", EOS)]
    )
    return tokenizer


def test_a_tokenizer_that_closes_texts_does_not_close_prompts(tokenizer):
    template = choose(DataSection(), framing(tokenizer))
    (ids,) = template.encode(["ab"])
    assert tokenizer.convert_ids_to_tokens(ids) == ["<bos>", "a", "b"]
    (ids,) = template.encode_response(["ab"])
    assert tokenizer.convert_ids_to_tokens(ids) == ["a", "b"]


def test_a_chat_template_s_special_tokens_are_not_doubled(tmp_path, model, chatty):
    chatty.chat_template = "<bos>" + CHAT
    path = write(tmp_path / "a.jsonl", sums(1))
    prompt = build(config(model, source(path)), framing(chatty)).next()
    assert chatty.decode(prompt.token_ids) == prompt.text == "<bos><user>0+0?<assistant>"


# --- chat templates

TOOLED = (
    "{% if tools %}<tools>{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}<call>{{ c | tojson }}{% endfor %}{% endfor %}"
    "{% if enable_thinking is false %}<no>{% endif %}<assistant>"
)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [{"name": "add", "arguments": {}}]}
ASKED = {"role": "user", "content": "1+1?"}


def rendered(tokenizer, data: dict | None = None, **row) -> str:
    problem = Problem(source="a", index=0, place="a.jsonl line 1", reference={}, **row)
    return choose(DataSection(**(data or {})), tokenizer).render(problem)


def test_tools_and_calls_reach_the_chat_template(chatty):
    chatty.chat_template = TOOLED
    text = rendered(chatty, prompt=(ASKED, CALLING, ASKED), tools=(TOOL,))
    assert text.startswith('<tools>{"type": "function", "function": {"name": "add"')
    assert '<call>{"name": "add", "arguments": {}}' in text


@pytest.mark.parametrize(
    ("template", "row", "says"),
    [
        (CHAT, {"prompt": (CALLING, ASKED)}, "leaves out tool_calls of message 1 .'add'"),
        (CHAT, {"prompt": "1+1?", "tools": (TOOL,)}, "leaves out the tool 'add'"),
        (
            TOOLED.replace("<call>{{ c | tojson }}", ""),
            {"prompt": (CALLING, ASKED), "tools": (TOOL,)},
            "leaves out tool_calls",
        ),
        (
            CHAT.replace("in messages", "in messages if m['role'] == 'user'"),
            {"prompt": ({"role": "system", "content": "Add."}, ASKED)},
            "leaves out the text of message 1 .role 'system'",
        ),
        ("{{ messages[0]['content'] + 1 }}", {"prompt": "1+1?"}, "can only concatenate"),
        ("{{ messages[9]['content'] }}", {"prompt": "1+1?"}, "refuses the messages"),
        ("{% if %}", {"prompt": "1+1?"}, "mend the template"),
    ],
)
def test_what_a_template_leaves_out_or_fails_on_is_refused_with_its_place(
    chatty, template, row, says
):
    chatty.chat_template = template
    with pytest.raises(InputError, match=rf"a.jsonl line 1: .*{says}"):
        rendered(chatty, **row)


def test_the_plain_template_refuses_tools(tokenizer):
    with pytest.raises(InputError, match=r"line 1: the prompt has tools, which the plain"):
        rendered(tokenizer, prompt="1+1?", tools=(TOOL,))


def test_template_options_are_variables_of_the_chat_template(chatty):
    chatty.chat_template = TOOLED
    options = {"template_options": {"enable_thinking": False}}
    assert rendered(chatty, options, prompt="1+1?") == "<user>1+1?<no><assistant>"
    assert rendered(chatty, prompt="1+1?") == "<user>1+1?<assistant>"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"enable_thinkin": False}, "never asks for it; did you mean enable_thinking"),
        ({"messages": []}, "messages comes from the data"),
        ({"tools": []}, "tools comes from the data"),
        ({"add_generation_prompt": False}, "comes from the data and its settings"),
        ({"strftime_now": "x"}, "comes from the data and its settings"),
    ],
    ids=str,
)
def test_template_options_that_change_nothing_are_refused(chatty, options, says):
    chatty.chat_template = TOOLED
    with pytest.raises(InputError, match=says):
        choose(DataSection(template_options=options), chatty)


def test_the_plain_template_has_no_options(tokenizer):
    with pytest.raises(InputError, match=r"data.template_options = .* no place for it"):
        choose(DataSection(template_options={"enable_thinking": False}), tokenizer)


def test_of_named_templates_the_default_is_taken_and_with_tools_the_one_for_tools(chatty):
    chatty.chat_template = {"default": CHAT, "tool_use": TOOLED}
    assert rendered(chatty, prompt="1+1?") == "<user>1+1?<assistant>"
    assert rendered(chatty, prompt="1+1?", tools=(TOOL,)).startswith("<tools>")


def test_named_templates_without_a_default_are_refused_with_their_names(chatty):
    chatty.chat_template = {"rag": CHAT, "tool_use": TOOLED}
    with pytest.raises(InputError, match=r"called rag, tool_use, but none called 'default'"):
        choose(DataSection(), chatty)
    assert choose(DataSection(template="plain"), chatty).name == "plain"


def test_the_date_of_a_template_is_the_run_s(chatty):
    chatty.chat_template = "{{ strftime_now('%d %b %Y %H:%M') }}" + CHAT
    text = rendered(chatty, {"date": "2026-01-31"}, prompt="1+1?")
    assert text == "31 Jan 2026 00:00<user>1+1?<assistant>"


def test_another_date_is_other_data_and_the_error_names_it(tmp_path, model, chatty):
    chatty.chat_template = "{{ strftime_now('%Y-%m-%d') }}" + CHAT
    path = write(tmp_path / "a.jsonl", sums(3))

    def stream(date: str) -> PromptStream:
        return build(config(model, source(path), data={"date": date}), chatty)

    first = stream("2026-01-31")
    draw(first, 1)
    stream("2026-01-31").restore(first.state())
    with pytest.raises(CheckpointError, match=r"data.date is the day on which the run began"):
        stream("2026-02-01").restore(first.state())


# --- length


def long_rows() -> list[dict]:
    return [{"prompt": "x" * length, "answer": "1"} for length in (30, 31, 10, 40)]


@pytest.mark.parametrize(
    ("overlong", "lengths", "count"),
    [
        ("drop", [30, 10], "2 of 4 prompts, 2 dropped as too long, the longest has 30 tokens"),
        ("truncate", [30, 30, 10, 30], "4 of 4 prompts, 2 cut to fit, the longest has 30 tokens"),
    ],
)
def test_overlong_prompts_are_dropped_or_cut_and_counted(
    tmp_path, model, tokenizer, overlong, lengths, count
):
    path = write(tmp_path / "a.jsonl", long_rows())
    made = config(
        model,
        source(path),
        data={"overlong": overlong, "shuffle": False},
        rollout={"context_tokens": 94},
    )
    stream = build(made, tokenizer)
    prompts = [stream.next() for _ in range(len(stream))]
    assert [len(prompt.token_ids) for prompt in prompts] == lengths
    assert str(stream.counts["sums"]) == count
    assert prompts[-1].id == ("sums:2@0" if overlong == "drop" else "sums:3@0"), "rows keep numbers"


def test_a_cut_prompt_keeps_its_template_whole(tmp_path, model, chatty):
    path = write(tmp_path / "a.jsonl", [{"prompt": "abcdefghijklmnop", "answer": "1"}])
    made = config(
        model, source(path), data={"overlong": "truncate"}, rollout={"context_tokens": 64 + 25}
    )
    prompt = build(made, chatty).next()
    assert prompt.text == "<user>abcdefgh<assistant>"
    assert len(prompt.token_ids) == 25
    none_left = config(
        model, source(path), data={"overlong": "truncate"}, rollout={"context_tokens": 64 + 17}
    )
    with pytest.raises(InputError, match="none of its 1 prompts fits"):
        build(none_left, chatty)


def test_evaluation_has_its_own_longest_response(tmp_path, model, tokenizer):
    path = write(tmp_path / "a.jsonl", long_rows())
    made = config(model, eval={"max_tokens": 512 - 10})
    kept = read_prompts((EvalSource(**source(path)),), made, tokenizer)
    assert [prompt.id for prompt in kept] == ["sums:2@0"]


# --- order


def two_sources(tmp_path) -> list[dict]:
    return [
        source(write(tmp_path / "a.jsonl", sums(60)), "a"),
        source(write(tmp_path / "b.jsonl", sums(20, 100)), "b"),
    ]


def test_each_epoch_draws_every_row_once_in_an_order_of_its_own(tmp_path, model, tokenizer):
    stream = build(config(model, *two_sources(tmp_path)), tokenizer)
    first, second = draw(stream, 80), draw(stream, 80)
    rows = {f"a:{i}" for i in range(60)} | {f"b:{i}" for i in range(20)}
    for epoch, ids in enumerate((first, second)):
        assert Counter(ids) == Counter(f"{row}@{epoch}" for row in rows)
    assert [i.split("@")[0] for i in first] != [i.split("@")[0] for i in second]


def test_sources_are_mixed_in_proportion_to_their_sizes(tmp_path, model, tokenizer):
    stream = build(config(model, *two_sources(tmp_path)), tokenizer)
    halves = draw(stream, 40), draw(stream, 40)
    for half in halves:
        share = sum(i.startswith("b:") for i in half) / 40
        assert 0.1 < share < 0.4, "a quarter of the rows are b's"


def test_the_order_follows_from_the_run_s_seed(tmp_path, model, tokenizer):
    def order(seed):
        made = config(model, *two_sources(tmp_path), run={"seed": seed})
        return draw(build(made, tokenizer), 80)

    assert order(3) == order(3)
    assert order(3) != order(4)


def test_without_shuffling_the_order_is_the_file_s(tmp_path, model, tokenizer):
    made = config(model, *two_sources(tmp_path), data={"shuffle": False})
    assert draw(build(made, tokenizer), 62)[-3:] == ["a:59@0", "b:0@0", "b:1@0"]


def test_epochs_end_the_stream(tmp_path, model, tokenizer):
    made = config(model, *two_sources(tmp_path), data={"epochs": 2})
    stream = build(made, tokenizer)
    assert len(draw(stream, 500)) == 160
    assert stream.next() is None


@pytest.mark.parametrize("drawn", [0, 1, 79, 80, 81, 133])
def test_a_restored_stream_goes_on_with_the_very_next_draw(tmp_path, model, tokenizer, drawn):
    made = config(model, *two_sources(tmp_path))
    stream = build(made, tokenizer)
    draw(stream, drawn)
    state = saved(stream.state())
    expected = draw(stream, 100)
    other = build(made, tokenizer)
    draw(other, 7)
    other.restore(state)
    assert draw(other, 100) == expected


def test_a_stream_is_not_restored_over_other_data(tmp_path, model, tokenizer):
    path = write(tmp_path / "a.jsonl", sums(9))
    state = build(config(model, source(path)), tokenizer).state()
    write(path, sums(9, 1))
    with pytest.raises(CheckpointError, match="the data is not that of the checkpoint"):
        build(config(model, source(path)), tokenizer).restore(state)


def test_eight_thousand_prompts_are_ready_in_two_seconds(tmp_path, model, chatty):
    rows = [
        {"prompt": f"What is {i} plus {7 * i}? Show each step.", "answer": i} for i in range(8000)
    ]
    path = write(tmp_path / "a.jsonl", rows)
    started = time.process_time()
    build(config(model, source(path)), chatty)
    assert time.process_time() - started < speed.here(2.0)


# --- imitation


async def test_an_example_is_prompt_and_response_as_reinforcement_sees_them(
    tmp_path, model, chatty
):
    path = write(tmp_path / "a.jsonl", sums(3))
    made = config(model, source(path), data={"shuffle": False}, objective={"name": "sft"})
    groups = await ExampleQueue(made, chatty).take(2, timeout_s=1.0)
    assert [group.id for group in groups] == ["sums:0@0", "sums:1@0"]
    group = groups[1].scored.group
    (rollout,) = group.rollouts
    assert group.prompt.text == build(made, chatty).next().text.replace("0+0", "1+1")
    assert chatty.decode(rollout.token_ids) == "It is 2<eos>"
    assert rollout.token_ids.dtype == np.int32
    assert rollout.inference_logprobs is None
    assert (rollout.finish_reason, rollout.first_version, group.version) == ("stop", 0, 0)
    assert groups[1].credit.values.tolist() == [1.0]


async def test_examples_come_in_seeded_epochs_until_none_are_left(tmp_path, model, tokenizer):
    path = write(tmp_path / "a.jsonl", sums(5))
    made = config(model, source(path), data={"epochs": 2}, objective={"name": "sft"})
    queue = ExampleQueue(made, tokenizer)
    sizes, ids = [], []
    while (groups := await queue.take(4, timeout_s=1.0)) is not None:
        sizes.append(len(groups))
        ids += [group.id for group in groups]
    assert sizes == [4, 4, 2], "the last batch is odd"
    assert sorted(ids) == sorted(f"sums:{i}@{epoch}" for epoch in (0, 1) for i in range(5))
    again = ExampleQueue(made, tokenizer)
    assert [group.id for group in again.draw(10)] == ids


async def test_examples_resume_in_mid_epoch(tmp_path, model, tokenizer):
    path = write(tmp_path / "a.jsonl", sums(7))
    made = config(model, source(path), objective={"name": "sft"})
    queue = ExampleQueue(made, tokenizer)
    queue.draw(10)
    state = saved(await queue.snapshot())
    expected = [group.id for group in queue.draw(9)]
    other = ExampleQueue(made, tokenizer)
    await other.restore(state)
    assert [group.id for group in other.draw(9)] == expected


@pytest.mark.parametrize(
    ("overlong", "texts", "count"),
    [
        ("drop", ["ab<eos>"], "1 of 2 prompts, 1 dropped as too long, the longest has 1 tokens"),
        (
            "truncate",
            ["ab<eos>", "abcd"],
            "2 of 2 prompts, 1 cut to fit, the longest has 1 tokens",
        ),
    ],
)
def test_a_response_that_is_too_long_is_dropped_or_loses_its_end(
    tmp_path, model, tokenizer, overlong, texts, count
):
    rows = [{"prompt": "x", "response": text} for text in ("ab", "abcdef")]
    made = config(
        model,
        source(write(tmp_path / "a.jsonl", rows)),
        data={"overlong": overlong, "shuffle": False},
        rollout={"max_tokens": 4},
        objective={"name": "sft"},
    )
    queue = ExampleQueue(made, tokenizer)
    rollouts = [group.scored.group.rollouts[0] for group in queue.draw(len(texts))]
    assert [tokenizer.decode(rollout.token_ids) for rollout in rollouts] == texts
    assert rollouts[-1].is_truncated == (overlong == "truncate")
    assert str(queue.counts["sums"]) == count


def test_a_response_that_is_too_long_may_be_an_error(tmp_path, model, tokenizer):
    rows = [{"prompt": "x", "response": "abcdef"}]
    path = write(tmp_path / "a.jsonl", rows)
    sections = {"rollout": {"max_tokens": 4}, "objective": {"name": "sft"}}
    with pytest.raises(InputError, match=r"line 1: the response has 7 tokens, more than"):
        ExampleQueue(config(model, source(path), data={"overlong": "error"}, **sections), tokenizer)
    with pytest.raises(InputError, match=r"none of its responses fits in rollout.max_tokens \(4\)"):
        ExampleQueue(config(model, source(path), **sections), tokenizer)


def test_examples_need_a_response(tmp_path, model, tokenizer):
    path = write(tmp_path / "a.jsonl", [{"prompt": "x", "answer": "1"}])
    with pytest.raises(InputError, match=r"no column 'response'; there are prompt, answer"):
        ExampleQueue(config(model, source(path), objective={"name": "sft"}), tokenizer)


# --- the tokenizer


def test_a_tokenizer_without_padding_pads_with_eos(tmp_path):
    tokenizer = make_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.pad_token_id == loaded.eos_token_id == EOS


# --- responses as text


def test_only_what_ends_or_pads_a_response_is_left_out_of_its_text(tmp_path):
    tags = ["<think>", "</think>", "<answer>", "</answer>"]
    made = make_tokenizer()
    made.add_special_tokens({"additional_special_tokens": tags})
    make_model(tmp_path, vocab_size=140)
    made.save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [EOS, 11]}))
    loaded = load_tokenizer(str(tmp_path))
    ids = loaded("<think>2+3</think><answer>5</answer>")["input_ids"]
    decode = ResponseDecoder(loaded, config(tmp_path))
    texts = decode([[*ids, EOS], [*ids, 11], [0, *ids, 0, 0], ids[:3], []])
    whole = "<think>2+3</think><answer>5</answer>"
    assert texts == [whole, whole, whole, "<think>2+", ""]
    assert decode([[1, *ids]]) == ["<bos>" + whole], "other special tokens are part of it"


def test_without_a_generation_config_the_model_s_own_ends_are_left_out(tmp_path):
    path = make_model(tmp_path)
    (path / "generation_config.json").unlink()
    written = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(written | {"eos_token_id": [EOS, 11]}))
    loaded = load_tokenizer(str(path))
    assert ResponseDecoder(loaded, config(path))([[20, 11], [20, EOS]]) == 2 * [loaded.decode([20])]
