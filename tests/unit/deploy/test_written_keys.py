"""A key that was written into a recipe is refused, and not repeated."""

import pytest

from deploy.checks.written_keys import written_key_rules
from oapl.config import RunConfig

LETTERS = "canary0123456789canary0123456789"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (f"http://me:{LETTERS}@judge/v1", "a password in an address"),
        (f"hf_{LETTERS}", "a token of the hub"),
        (f"sk-{LETTERS}", "an API key"),
        ({"headers": [f"Bearer {LETTERS}"]}, "a header with a key"),
    ],
)
def test_a_key_is_refused_with_the_place_where_it_stands_and_not_repeated(value, kind):
    config = RunConfig(reward={"options": {"judge": {"extra": value}}})
    (line,) = written_key_rules(config)
    assert line.startswith("reward.options.judge.extra")
    assert f"holds {kind}" in line
    assert LETTERS not in line


def test_what_is_no_key_is_not():
    options = {
        "base_url": "http://127.0.0.1:8000/v1",
        "api_key_env": "JUDGE_KEY",
        "template": "Ask at https://host:80/a@b; Bearer of news; sk-ill, hf_home",
    }
    config = RunConfig(reward={"options": {"judge": options}})
    assert list(written_key_rules(config)) == []
