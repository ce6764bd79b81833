"""`oapl import`: what becomes of a trace, what is refused of it, and that a result is whole."""

import contextlib
import dataclasses
import gzip
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from actors.data.tokenizer import load_tokenizer
from deploy.checks.stored import look_at_sets
from deploy.commands import main
from deploy.importing import columns, running, scoring
from deploy.importing.traces import Reader
from oapl import groups_file
from oapl.config.toml import load_config
from oapl.errors import InputError
from tests.support.makers import make_model

ROOT = Path(__file__).parents[3]
CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>"
    "{% if m['reasoning_content'] %}({{ m['reasoning_content'] }}){% endif %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
THINKS = (  # drops what stands before </think>, and opens the tag for the model
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'].split('</think>')[-1] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{% endif %}"
)
KEEPS = (  # opens the tag for the model, and keeps what it thinks
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] | trim }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant><think>{% endif %}"
)
FILLS = CHAT.replace(
    "<{{ m['role'] }}>", "<{{ m['role'] }}>{% if m['role'] == 'assistant' %}<none>{% endif %}"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Folders of one model each, of which the chat templates differ."""
    folder = tmp_path_factory.mktemp("models")
    templates = {"chat": CHAT, "thinks": THINKS, "keeps": KEEPS, "fills": FILLS}
    make_model(folder / "plain")
    for name, template in templates.items():
        give_template(folder, name, template)
    return folder


def give_template(folder, name, template):
    shutil.copytree(folder / "plain", folder / name)
    tokenizer = load_tokenizer(str(folder / name))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder / name)


def asked(text="1+1?"):
    return [{"role": "user", "content": text}]


def chat(answer="2", question="1+1?", **more):
    return [*asked(question), {"role": "assistant", "content": answer, **more}]


def trace(response="2", reward=1.0, prompt="1+1?", **more):
    return {"prompt": prompt, "response": response, "reward": reward, **more}


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def bring(models, tmp_path):
    """Imports rows; gives the report and the groups."""

    def run(rows, *overrides, model="chat", column=(), scorer_of=scoring.EngineScorer, **options):
        path = write(tmp_path / "logs.jsonl", rows)
        options = running.Options(**options)
        report = running.apply(
            path,
            tmp_path / "set",
            running.config_of(str(models / model), overrides, scores=options.scores),
            columns.from_words(column),
            options,
            console=Console(file=None, quiet=True),
            scorer_of=scorer_of,
        )
        return report, list(groups_file.read(tmp_path / "set"))

    return run


def written(models, group, model="chat"):
    """Prompt, and per rollout its text with everything in it."""
    tokenizer = load_tokenizer(str(models / model))
    return [
        tokenizer.decode([*group.prompt.token_ids, *rollout.token_ids])
        for rollout in group.rollouts
    ]


# --- what a trace becomes


@pytest.mark.parametrize(
    "row",
    [
        {"messages": chat(), "reward": 1},
        {"prompt": "1+1?", "response": "2", "score": 1},
        {"prompt": asked(), "completion": "2", "reward": True},
        {"prompt": asked(), "completion": chat()[1:], "reward": 1.0},
        {"prompt": "1+1?", "response": "2<eos>", "reward": 1.0},
    ],
    ids=["messages", "text", "chat and text", "chat and message", "EOS in the text"],
)
def test_every_layout_is_written_as_a_run_writes_it(bring, models, row):
    _, (group,) = bring([row])
    assert written(models, group) == ["<user>1+1?<assistant>2<eos>"]
    (rollout,) = group.rollouts
    assert (group.prompt.text, rollout.text) == ("<user>1+1?<assistant>", "2")
    assert (group.prompt.question, group.rewards.tolist()) == ("1+1?", [1.0])
    assert (rollout.finish_reason, rollout.inference_logprobs) == ("stop", None)


def test_a_trace_that_was_cut_off_has_no_eos(bring, models):
    _, (group,) = bring([trace(finish_reason="length"), trace(finish_reason="stop")])
    assert written(models, group) == ["<user>1+1?<assistant>2", "<user>1+1?<assistant>2<eos>"]
    assert [rollout.is_truncated for rollout in group.rollouts] == [True, False]


def test_a_column_is_named_by_its_user(bring):
    row = {"q": "1+1?", "out": {"text": "2"}, "judge": [0, 0.5], "reward": 9}
    names = ("prompt=q", "response=out.text", "reward=judge.1")
    _, (group,) = bring([row], column=names)
    assert (group.rollouts[0].text, group.rewards.tolist()) == ("2", [0.5])
    assert group.prompt.reference["reward"] == 9


def test_what_is_known_of_a_prompt_is_kept_and_what_differs_is_told(bring):
    rows = [
        trace(answer=2, v_star=0.25, level=3, seconds=n, reference={"tests": [1]}) for n in (1, 2)
    ]
    report, (group,) = bring(rows)
    assert dict(group.prompt.reference) == {"answer": "2", "v_star": 0.25, "level": 3, "tests": [1]}
    assert report.left_out == {"seconds"}


def test_the_thoughts_of_a_message_are_part_of_the_response(bring):
    _, (group,) = bring([{"messages": chat("2", reasoning_content="one more"), "reward": 1}])
    assert group.rollouts[0].text == "(one more)2"


def test_a_message_that_begins_as_the_prompt_ends_says_it_once(bring):
    thought = "one more, " * 9  # longer than the prompt
    row = {"messages": chat(f"<think>{thought}</think>2\n"), "reward": 1}
    _, (group,) = bring([row], model="keeps")
    assert group.prompt.text.endswith("<assistant><think>")
    assert group.rollouts[0].text == f"{thought}</think>2\n"


def test_text_is_taken_as_it_was_sampled_whatever_the_template_would_write(bring):
    _, (group,) = bring([trace("one more</think>2")], model="thinks")
    assert group.rollouts[0].text == "one more</think>2"


def test_settings_of_the_prompt_count(bring, tmp_path):
    _, (group,) = bring([trace()], "data.system_prompt=Add.")
    assert group.prompt.text == "<system>Add.<user>1+1?<assistant>"


def test_nobody_trains_on_a_trace_as_sampled_by_the_model(bring):
    _, (group,) = bring([trace(temperature=0.7)])
    assert (group.version, group.sampling.temperature) == (-1, 0.7)


def test_the_model_s_own_traces_can_be_scored_by_a_learner_that_starts_from_it(
    bring, models, tmp_path
):
    """At the temperature that they were sampled at, which an engine could not."""
    _, (group,) = bring([trace("2", 1, temperature=0.7), trace(temperature=0.7)], is_own=True)
    assert (group.version, group.sampling.temperature) == (0, 0.7)
    assert {(one.first_version, one.last_version) for one in group.rollouts} == {(0, 0)}
    tokenizer = load_tokenizer(str(models / "chat"))
    asked = ["replay.source=stored", f"replay.path={json.dumps([str(tmp_path / 'set')])}"]
    asked += ["objective.anchor=sampler", f"model.path={models / 'chat'}"]
    assert look_at_sets(load_config(None, asked), tokenizer).left == 2
    other = make_model(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="start from that model"):
        look_at_sets(load_config(None, [*asked, f"model.path={other}"]), tokenizer)


# --- groups


def test_traces_of_equal_prompts_are_a_group_wherever_they_stand(bring):
    rows = [trace("2", 1, "1+1?"), trace("4", 0, "2+2?"), trace("3", 0, "1+1?")]
    report, groups = bring(rows)
    assert [(group.prompt.id, group.rewards.tolist()) for group in groups] == [
        ("logs:1@0", [0.0]),
        ("logs:0@0", [1.0, 0.0]),
    ]
    stored = report.stored
    assert (stored.groups, stored.positives, stored.negatives, report.lone) == (2, 1, 2, 1)


@pytest.mark.parametrize("by", ["group", "id"])
def test_a_column_of_groups_comes_before_equal_prompts(bring, by):
    rows = [trace(**{by: name}) for name in ("a", 7, "a")]
    _, groups = bring(rows)
    assert [(group.prompt.id, len(group.rewards)) for group in groups] == [
        ("logs:7@0", 1),
        ("logs:a@0", 2),
    ]


def test_a_column_can_be_passed_over(bring):
    _, (group,) = bring([trace(id=n) for n in range(3)], column=("id=",))
    assert len(group.rewards) == 3


def test_sources_are_kept_apart(bring):
    _, groups = bring([trace(source="a", group=1), trace(source="b", group=1)])
    assert [group.prompt.id for group in groups] == ["a:1@0", "b:1@0"]


def test_a_trace_that_cannot_be_written_counts_in_its_group_s_credit(bring):
    rows = [trace("2", 1), trace("é", 0.5), trace("3", 0)]
    report, (group,) = bring(rows, skip=True)
    assert (group.all_rewards.tolist(), group.places) == ([1, 0.5, 0], (0, 2))
    assert (group.rewards.tolist(), report.skipped.counts) == ([1, 0], {"tokenizer": 1})


@pytest.mark.parametrize("scores", [False, True])
def test_a_lone_trace_is_refused_where_a_group_is_needed(bring, models, tmp_path, scores):
    rows = [trace("2", 1, "1+1?"), trace("3", 0, "1+1?"), trace("4", 1, "2+2?")]
    bring(rows, scores=scores, scorer_of=counting)
    path = f"replay.path={json.dumps([str(tmp_path / 'set')])}"
    tokenizer = load_tokenizer(str(models / "chat"))

    def look(*objective):
        base = [f"model.path={models / 'chat'}", "replay.source=stored", path]
        return look_at_sets(load_config(None, [*base, *objective]), tokenizer)

    for name in ("geometric", "sft"):
        assert look(f"objective.name={name}").left == 3
    why = "1 rollout, but oapl needs at least 2" if scores else "has no log-probs, and oapl"
    with pytest.raises(InputError, match=why):
        look("objective.name=oapl")
    if scores:
        with pytest.raises(InputError, match="sampled by another policy than the model"):
            look("objective.name=oapl", "objective.anchor=sampler")


def test_memory_holds_only_groups_that_are_not_complete(models, tmp_path):
    from collections import Counter

    from deploy.importing.grouping import Skipped, counted, grouped

    rows = [trace(str(n % 2), prompt=f"{n // 2}?") for n in range(6)]
    reader = Reader(write(tmp_path / "logs.jsonl", rows), columns.Columns())
    skipped = Skipped(is_allowed=False)
    counts = counted(reader, skipped)
    assert sorted(counts.values()) == [2, 2, 2]
    read = []
    passed_on = grouped((read.append(one) or one for one in reader), Counter(counts), skipped)
    assert len(next(passed_on)) == len(read) == 2


# --- what is refused

BAD = {
    "no reward": ({"prompt": "1?", "response": "2"}, r"reward \(reward or score\) is missing"),
    "NaN": (trace(reward=float("nan")), "reward .* is nan; it must be a number that is finite"),
    "too large": (trace(reward=1e39), "reward .* is 1e.39; it must be"),
    "text for a reward": (trace(reward="1"), "reward .* is '1'"),
    "two rewards": (trace(score=0), "has reward and score, and either may be the reward"),
    "no response": ({"prompt": "1?", "reward": 1}, "has no response; .* --column response=KEY"),
    "blank": (trace(" "), "the response is ' '; it must be text that is not blank"),
    "ends with the user": ({"messages": asked() * 2, "reward": 1}, "message 2: has role 'user'"),
    "calls a tool": (
        {"messages": chat(tool_calls=[{"name": "f", "arguments": {}}]), "reward": 1},
        "message 2: has tool_calls, but a trace ends with what the assistant said",
    ),
    "messages and prompt": (trace(messages=chat()), "has messages, and a prompt or a response"),
    "answer twice": (trace(answer="2", reference="3"), "has an answer and a reference"),
    "below 0": (trace(temperature=-1), "the temperature is -1, and none is below 0"),
    "V* of no use": (trace(v_star="high"), "the v_star .* is 'high'"),
    "ended otherwise": (trace(finish_reason="abort"), "finish_reason is 'abort'; .*stop, eos, len"),
    "unknown character": (trace("twø"), r"not give back the response .*'twø' becomes 'tw(<pad>)?'"),
    "EOS in the middle": (
        trace("a<eos>b"),
        "the response goes on behind '<eos>', at which the engine stops",
    ),
    "unknown in the prompt": (trace(prompt="twø"), "does not give back the prompt"),
    "too long": (trace("1" * 600), "tokens with its prompt, and the model reads"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_trace_is_refused_with_its_line_or_skipped_by_its_reason(bring, tmp_path, name):
    row, why = BAD[name]
    rows = [trace(prompt="good?"), row]
    with pytest.raises(InputError, match=rf"logs.jsonl line 2.*{why}") as refused:
        bring(rows)
    assert "--skip leaves out such lines" in str(refused.value)
    assert not (tmp_path / "set").exists()
    report, (group,) = bring(rows, skip=True)
    assert group.prompt.question == "good?"
    assert list(report.skipped.counts.values()) == [1]
    told = json.loads((tmp_path / "set" / "_import.json").read_text())
    ((reason, said),) = told["skipped"].items()
    assert (told["traces"], said["traces"], reason) == (2, 1, next(iter(report.skipped.counts)))


@pytest.mark.parametrize(
    ("model", "row", "why"),
    [
        (
            "thinks",
            {"messages": chat("<think>a</think>2"), "reward": 1},
            "writes a prompt otherwise where an answer follows .* give the trace as prompt and re",
        ),
        ("fills", {"messages": chat(), "reward": 1}, "puts '<none>' before what the assistant sai"),
        ("thinks", trace("<think>a</think>2"), "the response begins with <think>, with which"),
        ("plain", {"messages": chat(), "reward": 1}, "which the plain template cannot write"),
    ],
    ids=["removed thinking", "something before it", "tag twice", "no template"],
)
def test_what_the_template_changes_is_refused(bring, model, row, why):
    with pytest.raises(InputError, match=rf"line 1: .*{why}"):
        bring([row], model=model)


def test_what_the_template_leaves_out_is_refused(bring, models):
    template = CHAT.replace("{{ m['content'] }}", "{{ m['content'].split('|')[-1] }}")
    give_template(models, "dropping", template)
    why = r"leaves out or changes what the assistant said \('a\|2' becomes '2<eos>'\)"
    with pytest.raises(InputError, match=why):
        bring([{"messages": chat("a|2"), "reward": 1}], model="dropping")


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (trace(group="a", prompt="2+2?"), "its prompt is not that of .* line 1"),
        (trace(group="a", answer="3"), "its answer is not that of"),
        (trace(group="a", temperature=0.5), "its temperature is not that of"),
        (trace(), "the group is None, and the first trace of the file is grouped by the column gr"),
    ],
    ids=["prompt", "answer", "temperature", "no group"],
)
def test_a_group_is_of_one_prompt(bring, other, why):
    rows = [trace(group="a"), other]
    with pytest.raises(InputError, match=rf"line 2: .*{why}"):
        bring(rows)
    report, (group,) = bring(rows, skip=True)
    assert (len(group.rewards), report.skipped.counts) == (1, {"group": 1})


def test_nothing_left_is_refused(bring, tmp_path):
    with pytest.raises(InputError, match=r"no trace is left to store: .*line 1: the reward"):
        bring([trace(reward=None)], skip=True)
    assert not (tmp_path / "set").exists()


def test_a_setting_that_is_not_read_is_refused(bring):
    with pytest.raises(InputError, match=r"rollout.group_size=8: an import reads data.template,"):
        bring([trace()], "rollout.group_size=8")


# --- scores


@contextlib.contextmanager
def counting(config):
    """A scorer: minus the place of each token in its sequence."""

    def score(groups):
        def of(group, rollout):
            start = len(group.prompt.token_ids)
            scores = -np.arange(start, start + len(rollout.token_ids), dtype=np.float32)
            return dataclasses.replace(rollout, inference_logprobs=scores)

        return [
            dataclasses.replace(group, rollouts=tuple(of(group, one) for one in group.rollouts))
            for group in groups
        ]

    yield score


def test_scores_are_stored_as_scored_at_temperature_one(bring, tmp_path):
    _, (group,) = bring([trace(temperature=1), trace()][:1], scores=True, scorer_of=counting)
    assert groups_file.header(tmp_path / "set").logprobs == "scored"
    assert group.sampling.temperature == 1
    start = len(group.prompt.token_ids)
    assert group.rollouts[0].inference_logprobs.tolist() == [-start, -start - 1]


def test_another_temperature_cannot_be_scored(bring):
    with pytest.raises(InputError, match=r"line 1: was sampled at temperature 0\.7, and an engine"):
        bring([trace(temperature=0.7)], scores=True, scorer_of=counting)


# --- the command


def command(models, tmp_path, *words):
    common = ["--out", str(tmp_path / "set"), "--model", str(models / "chat")]
    return main(["import", str(tmp_path / "logs.jsonl.gz"), *common, *words])


def test_the_command_reads_gzip_and_tells_what_it_did(models, tmp_path, capsys):
    rows = [trace("2", 1), trace("3", 0), trace("4", None), trace("4", 1, "2+2?")]
    with gzip.open(tmp_path / "logs.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    assert command(models, tmp_path, "data.template=chat") == 2
    assert "line 3: the reward (reward or score) is missing" in capsys.readouterr().err
    assert command(models, tmp_path, "--skip") == 0
    told = " ".join(capsys.readouterr().err.split())
    for part in ("2 groups, 3 = 2 + 1 rollouts", "lone traces, each a group: 1; ", "reward: 1; "):
        assert part in told
    assert command(models, tmp_path, "--skip") == 2
    assert "exists; replace it by --overwrite" in capsys.readouterr().err
    assert command(models, tmp_path, "--skip", "--overwrite") == 0


def test_a_killed_import_leaves_nothing(models, tmp_path):
    program = (
        "import importlib, os, signal, sys\n"
        "shards = importlib.import_module('oapl.groups_file.shards')\n"
        "write = shards.write_shard\n"
        "def killed(*given):\n"
        "    write(*given)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "shards.write_shard = killed\n"
        "from deploy.commands import main\n"
        "main(sys.argv[1:])\n"
    )
    path = write(tmp_path / "logs.jsonl", [trace()])
    words = ["import", str(path), "--out", str(tmp_path / "set"), "--model", str(models / "chat")]
    answer = subprocess.run([sys.executable, "-c", program, *words], cwd=ROOT, timeout=120)
    assert answer.returncode == -signal.SIGKILL
    assert not (tmp_path / "set").exists()
    assert main(words) == 0
    assert len(list(groups_file.read(tmp_path / "set"))) == 1
    assert not list(tmp_path.glob(".set*"))
