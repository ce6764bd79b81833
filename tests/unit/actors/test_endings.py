"""What is imitated ends with one token, at which the engine stops, as the model's template does."""

import dataclasses
import json
from pathlib import Path

import pytest

from actors.data.endings import Endings
from actors.data.problems import Problem
from actors.data.prompts import ExampleQueue, build
from actors.data.templates import choose
from actors.data.tokenizer import load_tokenizer, stops_of
from deploy.importing.columns import Refused
from deploy.importing.rendering import Renderer
from deploy.importing.traces import Trace
from oapl.config import RunConfig
from oapl.errors import InputError
from tests.support.makers import make_model, make_tokenizer

QWEN = (  # a line break behind each turn
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (  # nothing behind the turn, and another token that ends a text
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
LATE = QWEN.replace("<|im_end|>\n", "\n<|im_end|>")  # blanks in front of the end
BARE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: "
STRICT = "{{ raise_exception('tools only') }}"
TOKENS = ["<|im_start|>", "<|im_end|>", "<|start|>", "<|eot_id|>"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A model's files.

    Attributes:
        template: Its chat template.
        eos: EOS of the tokenizer.
        stops: Of generation_config.json.
        end: With which a response ends.
    """

    template: str
    eos: str
    stops: tuple[str, ...]
    end: str


KINDS = {
    "the turn's end is EOS": Kind(QWEN, "<|im_end|>", ("<|im_end|>", "<eos>"), "<|im_end|>"),
    "a base model with a chat template": Kind(QWEN, "<eos>", ("<eos>",), "<eos>"),
    "the engine stops at the turn's end too": Kind(
        LLAMA, "<eos>", ("<eos>", "<|eot_id|>"), "<|eot_id|>"
    ),
    "blanks before the end": Kind(LATE, "<eos>", ("<eos>", "<|im_end|>"), "<|im_end|>"),
    "a template that ends no turn": Kind(BARE, "<eos>", ("<eos>",), "<eos>"),
    "no chat template": Kind("", "<eos>", ("<eos>", "<|im_end|>"), "<eos>"),
}


def make(folder: Path, kind: Kind) -> Path:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": TOKENS})
    make_model(folder, vocab_size=len(tokenizer) + 1)
    tokenizer.eos_token = kind.eos
    tokenizer.chat_template = kind.template or None
    tokenizer.save_pretrained(folder)
    stops = tokenizer.convert_tokens_to_ids(list(kind.stops))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    return folder


def config_of(model: Path, *rows: dict, **sections) -> RunConfig:
    path = model.parent / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"name": "s", "path": str(path), "answer_key": ""}
    return RunConfig(
        model={"path": str(model)},
        data={"sources": [source], "shuffle": False},
        rollout={"max_tokens": 100},
        objective={"name": "sft"},
        **sections,
    )


@pytest.fixture(scope="module", params=KINDS, ids=list(KINDS))
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def model(tmp_path_factory, kind):
    return make(tmp_path_factory.mktemp("kind") / "model", kind)


def imitated(model: Path, *responses: str) -> list[str]:
    """What examples with these responses are trained on, as text."""
    config = config_of(model, *({"prompt": "Hi?", "response": text} for text in responses))
    tokenizer = load_tokenizer(config.model.path)
    groups = ExampleQueue(config, tokenizer).draw(len(responses))
    return [tokenizer.decode(group.scored.group.rollouts[0].token_ids) for group in groups]


def test_an_imitated_response_ends_with_one_token_at_which_the_engine_stops(model, kind):
    config = config_of(model, {"prompt": "Hi?", "response": "Yes."})
    tokenizer = load_tokenizer(config.model.path)
    queue = ExampleQueue(config, tokenizer)
    (rollout,) = queue.draw(1)[0].scored.group.rollouts
    stops = stops_of(tokenizer, config)
    assert [int(token) in stops for token in rollout.token_ids] == [False] * 4 + [True]
    assert tokenizer.decode(rollout.token_ids) == "Yes." + kind.end
    assert build(config, tokenizer).next().text == queue.prompts[0].text


def test_prompt_and_response_are_what_the_template_writes_up_to_the_end(model, kind):
    tokenizer = load_tokenizer(str(model))
    config = config_of(model, {"prompt": "Hi?"})
    turns = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Yes."}]
    whole = tokenizer.apply_chat_template(turns, tokenize=False) if kind.template else ""
    if kind.end == "<eos>":
        stops = stops_of(tokenizer, config)
        assert not stops & set(tokenizer(whole)["input_ids"]), "it writes nothing that ends"
        return
    (response,) = imitated(model, "Yes." + ("\n" if kind.template == LATE else ""))
    assert whole.rstrip("\n") == build(config, tokenizer).next().text + response


def test_a_response_that_brings_its_end_keeps_it_and_what_blanks_follow_are_left_out(model, kind):
    texts = [f"Yes.{kind.end}", f"Yes.{kind.end}\n", f"Yes.{kind.end} {kind.end}"]
    assert imitated(model, *texts) == ["Yes." + kind.end] * 3
    with pytest.raises(InputError, match=r"line 1: the response goes on behind '<") as refused:
        imitated(model, f"Yes.{kind.end}No.")
    assert "at which the engine stops" in str(refused.value)


def test_an_imported_trace_ends_as_an_imitated_one_does(model, kind):
    config = config_of(model, {"prompt": "Hi?", "response": "x"})
    tokenizer = load_tokenizer(config.model.path)
    renderer = Renderer(config, tokenizer, room=200)

    def brought(response, *, ended: bool = True):
        problem = Problem(source="s", index=0, place="line 1", prompt="Hi?", reference={})
        trace = Trace(
            problem=problem,
            response=response,
            reward=1.0,
            ended=ended,
            temperature=None,
            name="n",
            key=b"k",
        )
        return renderer.rollout(renderer.prompt(problem), trace)

    message = {"role": "assistant", "content": "Yes."}
    given = ["Yes.", f"Yes.{kind.end}", f"Yes.{kind.end}\n"]
    for response in [*given, message] if kind.template else given:
        rollout = brought(response)
        assert tokenizer.decode(rollout.token_ids) == "Yes." + kind.end
        assert rollout.text == "Yes."
        assert rollout.finish_reason == "stop"
    cut = brought("Yes.", ended=False)
    assert (tokenizer.decode(cut.token_ids), cut.finish_reason) == ("Yes.", "length")
    with pytest.raises(Refused, match="goes on behind"):
        brought(f"Yes.{kind.end}No.")


def test_the_end_is_that_of_a_source_s_own_template(tmp_path):
    """Written by a paper in turns of its own, so that the chat template says nothing of its end."""
    model = make(tmp_path / "model", KINDS["the engine stops at the turn's end too"])
    config = config_of(model, {"prompt": "x"})
    tokenizer = load_tokenizer(str(model))
    (source,) = config.data.sources
    plain = choose(config.data, tokenizer, dataclasses.replace(source, template="plain"))
    assert tokenizer.decode([Endings(plain, config).end]) == "<eos>"
    chat = choose(config.data, tokenizer, source)
    assert tokenizer.decode([Endings(chat, config).end]) == "<|eot_id|>"


def test_a_template_that_refuses_such_turns_says_nothing_of_the_end(tmp_path):
    kind = Kind(STRICT, "<eos>", ("<eos>", "<|im_end|>"), "<eos>")
    model = make(tmp_path / "model", kind)
    config = config_of(model, {"prompt": "x"})
    tokenizer = load_tokenizer(str(model))
    assert tokenizer.decode([Endings(choose(config.data, tokenizer), config).end]) == "<eos>"
