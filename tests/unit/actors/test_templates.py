"""Templates by name: what each paper prints, beside what is written.

The expected text of each stands here as the paper has it, readings applied in sight.
"""

import numpy as np
import pytest

from actors.data import prompts
from actors.data.fingerprints import header_of, of_template
from actors.data.problems import Problem
from actors.data.templates import choose
from actors.data.templates.wording import TURNS, Wording, load, names
from oapl.config import RunConfig
from oapl.config.sections import DataSection, DataSource
from oapl.config.toml import load_config
from oapl.errors import InputError
from tests.support.makers import make_model, make_tokenizer

QUESTION = r"What is $\frac{1}{2}$ of {user} 8?"
CHAT = "messages"
"""What a chat template is asked for here is its being there; `Tokenizer` writes the turns."""
STEPS = r"Let's think step by step and output the final answer within \boxed{}"
BARS = str.maketrans({"｜": "|", "▁": "_"})

PCL = r"""<|im_start|>system
You are a helpful assistant. To answer the user's question, you first think about the reasoning process and then provide the user with the answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>.
<|im_start|>user
{input question}
Please reason step by step, and put your final answer within \boxed{ }.<|im_end|>
<|im_start|>assistant
<think>
"""  # noqa: E501
R1_ZERO = "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning process and answer are enclosed within <think></think> and <answer></answer> tags, respectively, i.e., <think>reasoning process here</think> <answer>answer here</answer>. User: {question} Assistant: "  # noqa: E501
BOXED = r"You will be given a problem.Please reason step by step, and put your final answer within \boxed{}. "  # noqa: E501


class Tokenizer:
    """What the templates need of a tokenizer: every character is a token."""

    def __init__(self, chat_template: str | None = CHAT) -> None:
        self.chat_template, self.eos_token_id = chat_template, -1

    def __call__(self, texts, **_):
        one = isinstance(texts, str)
        ids = [[ord(c) for c in text] for text in ([texts] if one else texts)]
        return {"input_ids": ids[0] if one else ids}

    def decode(self, ids, **_) -> str:
        return "".join(map(chr, ids))

    def apply_chat_template(self, messages, **_) -> str:
        turns = "".join(f"[{message['role']}]{message['content']}" for message in messages)
        return f"{turns}[answer]"


def rendered(name: str, prompt=QUESTION, tokenizer=None, **columns) -> str:
    problem = Problem(source="s", index=0, place="s 1", prompt=prompt, reference=columns)
    return choose(DataSection(template=name), tokenizer or Tokenizer()).render(problem)


def shown(name: str, paper: str, ours: str) -> None:
    print(f"--- {name}, the paper:\n{paper}\n--- ours:\n{ours}")


def test_pcl_is_the_paper_s_text_with_the_system_turn_closed():
    closed = PCL.replace("</answer>.\n<|im_start|>", "</answer>.<|im_end|>\n<|im_start|>")
    ours = rendered("pcl")
    shown("pcl", PCL, ours)
    assert ours == closed.replace("{input question}", QUESTION)


def test_deepscaler_is_the_paper_s_text_in_the_tokenizer_s_own_bars():
    paper = f"<|User|>{{question}} {STEPS}. <|Assistant|><think>"
    ours = rendered("deepscaler")
    shown("deepscaler", paper, ours)
    begin = "<begin_of_sentence>"  # section 4.4.4; the tokenizer's spelling has bars of its own
    assert ours.translate(BARS).replace("<|begin_of_sentence|>", begin) == begin + paper.replace(
        "{question}", QUESTION
    )
    assert "<｜User｜>" in ours
    assert "<｜Assistant｜><think>" in ours


def test_without_guide_tokens_the_same_words_stand_alone():
    paper = f"{{question}} {STEPS}."
    ours = rendered("no_guide_tokens")
    shown("no_guide_tokens", paper, ours)
    assert ours == paper.replace("{question}", QUESTION)
    whole = rendered("deepscaler")
    assert whole.removeprefix("<｜begin▁of▁sentence｜><｜User｜>").startswith(ours)


@pytest.mark.parametrize(
    ("name", "paper"),
    [
        ("perplexity_train", R1_ZERO),
        ("perplexity_eval", BOXED + "{question}"),
        ("prorl_math", f"{{question}} {STEPS}"),
    ],
)
def test_what_is_the_user_s_message_alone_is_the_paper_s(name, paper):
    ours = rendered(name)
    shown(name, paper, ours)
    assert ours == f"[user]{paper.replace('{question}', QUESTION)}[answer]"


def test_reasoning_gym_is_the_library_s_default():
    from reasoning_gym.utils import SYSTEM_PROMPTS

    paper = SYSTEM_PROMPTS["default"]
    ours = rendered("reasoning_gym")
    shown("reasoning_gym", paper, ours)
    assert ours == f"[system]{paper}[user]{QUESTION}[answer]"
    assert "<answer>answer here</answer>" in ours


def test_code_asks_for_backticks_and_shows_starter_code_where_there_is_one():
    bare, started = rendered("code"), rendered("code", starter_code="def f(x):\n    {question}")
    shown("code", "(section 2.2 asks for triple backticks)", started)
    assert "enclose the final code in triple backticks" in bare
    assert "Begin with" not in bare
    assert bare == rendered("code", starter_code="") == rendered("code", starter_code=None)
    assert "```python\ndef f(x):\n    {question}\n```" in started
    assert started.index(QUESTION) < started.index("def f(x)") < started.index("triple backticks")


def test_instruction_following_gets_no_word_beside_its_own():
    source = DataSource(set="llama_nemotron_if")
    template = choose(DataSection(template="prorl_math"), Tokenizer(), source)
    problem = Problem(source="s", index=0, place="s 1", prompt="Write.", reference={})
    assert template.render(problem) == "[user]Write.[answer]"


@pytest.mark.parametrize("name", names())
def test_every_file_fills_all_its_braces_and_says_where_it_is_from(name):
    wording = load(name, "data.template")
    assert "{question}" in wording.user
    assert wording.turns in TURNS or "{user}" in wording.turns
    assert not wording.is_written or bool(wording.system) == ("{system}" in wording.turns)
    for column, text in wording.columns.items():
        assert f"{{{column}}}" in text
        assert f"{{{column}}}" in wording.user
    empty = rendered(name, prompt="Q", **dict.fromkeys(wording.columns, "C"))
    assert not any(f"{{{word}}}" in empty for word in ("question", "user", "system"))


# --- what is refused


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"data.template = 'deepscale': did you mean 'deepscaler'"):
        rendered("deepscale")


def test_a_system_message_beside_a_named_template_is_refused():
    data = DataSection(template="pcl", system_prompt="Be brief.")
    with pytest.raises(InputError, match=r"says itself what the system message is"):
        choose(data, Tokenizer())


def test_a_system_message_needs_turns_to_stand_in():
    with pytest.raises(InputError, match=r"system message of template 'reasoning_gym'"):
        rendered("reasoning_gym", tokenizer=Tokenizer(chat_template=None))


def test_a_tokenizer_that_loses_a_template_s_text_is_refused():
    with pytest.raises(InputError, match=r"loses text of it"):
        rendered("deepscaler", tokenizer=make_tokenizer())


def test_chat_messages_do_not_fit_into_written_turns():
    messages = ({"role": "system", "content": "S"}, {"role": "user", "content": "Q"})
    with pytest.raises(InputError, match=r"s 1: the prompt is a list of chat messages"):
        rendered("pcl", prompt=messages)
    assert rendered("prorl_math", prompt=messages) == f"[system]S[user]Q {STEPS}[answer]"


# --- one template everywhere


def test_braces_of_a_question_are_its_own():
    assert (
        Wording(user="{question}!")
        .asked(Problem(source="s", index=0, place="", prompt="{question} {turns}", reference={}))
        .question
        == "{question} {turns}!"
    )


def test_a_source_s_own_template_comes_first_and_marks_the_stored_set():
    tokenizer = Tokenizer()
    data = DataSection(template="pcl")
    own = choose(data, tokenizer, DataSource(name="s", path="x.jsonl", template="plain"))
    assert own.name == "plain"
    rows = ["model.path=m", "data.sources.0.name=s", "data.sources.0.path=x.jsonl"]
    templates = [
        header_of(
            load_config(None, [*rows, *more]), make_tokenizer(), made_by="eval", logprobs=None
        ).template
        for more in ([], ["data.template=pcl"], ["data.sources.0.template=pcl"])
    ]
    assert len(set(templates)) == 3


def test_each_template_has_a_fingerprint_of_its_own():
    every = ("auto", "plain", *names())
    seen = {of_template(choose(DataSection(template=name), Tokenizer())) for name in every}
    assert len(seen) == len(every)


def test_training_imitation_and_evaluation_write_one_text(tmp_path):
    model = make_model(tmp_path / "model")
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "1+1?", "answer": "2", "response": "2"}\n')
    sources = ({"name": "s", "path": str(file)},)
    config = RunConfig(
        model={"path": str(model)},
        data={"sources": sources, "template": "pcl"},
        eval={"sources": sources},
        rollout={"max_tokens": 8},
    )
    tokenizer = make_tokenizer()
    trained = prompts.build(config, tokenizer).next()
    imitated = prompts.ExampleQueue(config, tokenizer).draw(1)[0].scored.group.prompt
    (evaluated,) = prompts.read_prompts(config.eval.sources, config, tokenizer)
    assert trained.text == imitated.text == evaluated.text
    assert trained.text.startswith("<|im_start|>system\n")
    assert trained.text.endswith("<think>\n")
    assert np.array_equal(trained.token_ids, evaluated.token_ids)
    assert trained.question == "1+1?"
