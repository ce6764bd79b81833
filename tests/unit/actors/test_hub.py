"""A hub that does not answer is asked once, and is not waited for."""

import logging
import os
import socket
import time

import pytest
from huggingface_hub import constants
from transformers import AutoConfig

from actors.data import hub
from actors.data.tokenizer import load_model_config
from oapl.errors import InputError


@pytest.fixture
def asked(monkeypatch):
    """As where nobody has said that there is none."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in hub.OFFLINE:
        monkeypatch.setenv(name, "0")
    hub._ask.cache_clear()
    yield lambda url: monkeypatch.setattr(constants, "ENDPOINT", url)
    hub._ask.cache_clear()


@pytest.fixture
def mute():
    """Somebody who takes calls, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_hub_that_nobody_reaches_is_told_once_and_a_model_of_it_refused_at_once(asked, caplog):
    asked("http://127.0.0.1:9")
    AutoConfig.for_model("llama")  # its import takes seconds
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "actors.data.hub"):
        for _ in range(3):
            with pytest.raises(InputError, match="is no folder, and cannot be fetched from a hub"):
                load_model_config("nobody/nothing")
    assert time.monotonic() - began < 10
    (record,) = caplog.records
    assert record.getMessage().startswith("http://127.0.0.1:9 does not answer (")
    assert os.environ["HF_HUB_OFFLINE"] == "1", "processes that are started know it"


def test_a_hub_that_says_nothing_is_waited_for_no_longer_than_that(asked, mute, monkeypatch):
    asked(mute)
    monkeypatch.setattr(hub, "ANSWER_S", 0.3)
    began = time.monotonic()
    hub.ask_for("nobody/nothing")
    assert constants.HF_HUB_OFFLINE
    assert time.monotonic() - began < 3


def test_nobody_is_asked_for_a_folder_nor_where_the_user_has_said_so(asked, tmp_path, monkeypatch):
    asked("http://127.0.0.1:9")
    hub.ask_for(str(tmp_path))
    assert not constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.ask_for("nobody/nothing")
    assert os.environ["HF_HUB_OFFLINE"] == "0"
