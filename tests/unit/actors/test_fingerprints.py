"""Fingerprints: equal for what writes and reads the same, different for what does not."""

from actors.data.fingerprints import header_of, of_template, of_tokenizer
from actors.data.templates import CLOCK, Template
from oapl.config.toml import load_config
from tests.support.makers import make_tokenizer


def test_a_tokenizer_that_was_saved_and_loaded_is_the_same(tmp_path):
    from transformers import AutoTokenizer

    make_tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    loaded.pad_token = loaded.eos_token
    assert of_tokenizer(loaded) == of_tokenizer(make_tokenizer())


def test_a_tokenizer_with_other_ids_or_another_end_is_another():
    other = make_tokenizer()
    other.add_tokens(["<think>"])
    ends = make_tokenizer()
    ends.eos_token = "a"
    assert len({of_tokenizer(each) for each in (make_tokenizer(), other, ends)}) == 3


def test_a_template_is_told_by_what_it_writes():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ messages }}"
    chat = Template(name="chat", tokenizer=tokenizer)
    dated = Template(name="chat", tokenizer=tokenizer, variables={CLOCK: lambda: "today"})
    assert of_template(chat) == of_template(dated)
    others = [
        Template(name="plain", tokenizer=tokenizer),
        Template(name="chat", tokenizer=tokenizer, system_prompt="Think."),
        Template(name="chat", tokenizer=tokenizer, variables={"enable_thinking": False}),
    ]
    seen = {of_template(each) for each in (chat, *others)}
    tokenizer.chat_template = "{{ messages }}!"
    assert len({*seen, of_template(chat)}) == 5


def test_a_header_names_model_and_maker():
    config = load_config(None, ["model.path=some/model"])
    header = header_of(config, make_tokenizer(), made_by="eval", logprobs=None)
    assert (header.model, header.made_by, header.logprobs) == ("some/model", "eval", None)
