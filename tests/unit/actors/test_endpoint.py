"""An OpenAI-compatible endpoint in the place of an engine, against a server on the loopback."""

import asyncio
import dataclasses
import json
import threading
import time

import numpy as np
import pytest

from actors.engines import endpoint
from deploy.checks.evaluation import evaluating
from deploy.checks.settings import check
from deploy.recipes.toy_judge import served
from oapl.config import RunConfig
from oapl.errors import EngineError, InputError
from oapl.records import Prompt, Sampling
from tests.support.makers import make_model

SAMPLING = Sampling(temperature=0.7, top_p=0.9, top_k=5, max_tokens=9)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def completion(text, reason="stop", **more):
    choice = {"index": 0, "finish_reason": reason, "text": text, **more}
    body = {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}
    return "RAW " + json.dumps(body)


def engine(model, url, **options):
    table = {"base_url": url, "model": "m", "retries": 0, "timeout_s": 60.0, **options}
    config = RunConfig(model={"path": str(model)}, eval={"endpoint": table, "sources": [SET]})
    return endpoint.build(evaluating(config), receiver=None, index=0)


SET = {"name": "s", "path": "x.jsonl"}


def prompt(text="1+1=", question=None):
    return Prompt(
        id="s:0@0",
        text=text,
        token_ids=np.array([4, 13, 4], np.int32),
        verifiers={},
        reference={},
        source="s",
        question=text if question is None else question,
    )


async def test_the_prompt_s_tokens_are_sent_and_the_text_comes_back_with_its_length(model):
    asked = []

    def answer(body, key):
        asked.append((body, key))
        return completion("12")

    with served(answer) as url:
        rollout = await engine(model, url).generate(prompt(), SAMPLING)
    ((body, key),) = asked
    assert (body["prompt"], body["model"], key) == ([4, 13, 4], "m", "Bearer none")
    assert (body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) == (
        0.7,
        0.9,
        5,
        9,
    )
    assert (rollout.text, rollout.finish_reason) == ("12", "stop")
    assert len(rollout.token_ids) == 3, "two characters and EOS"
    assert rollout.token_ids[-1] == 2
    assert rollout.inference_logprobs is None


async def test_a_response_that_was_cut_off_has_no_eos_and_tokens_that_are_told_count(model):
    replies = [completion("123", "length"), completion("x", token_ids=[7, 8, 9, 2])]
    with served(lambda body, key: replies.pop(0)) as url:
        client = engine(model, url, extra={"return_token_ids": True})
        cut = await client.generate(prompt(), SAMPLING)
        told = await client.generate(prompt(), SAMPLING.greedy())
    assert (cut.is_truncated, len(cut.token_ids)) == (True, 3)
    assert told.token_ids.tolist() == [7, 8, 9, 2]


async def test_text_and_a_message_are_sent_where_that_is_asked_for(model):
    asked = []

    def answer(body, key):
        asked.append(body)
        return completion("t") if "prompt" in body else "said"

    with served(answer) as url:
        await engine(model, url, api="text").generate(prompt(), SAMPLING)
        chat = engine(model, url, api="chat")
        rollout = await chat.generate(prompt(), SAMPLING)
        with pytest.raises(InputError, match="prompt s:0@0 is more than its question"):
            await chat.generate(prompt("Think. 1+1=", question="1+1="), SAMPLING)
    assert asked[0]["prompt"] == "1+1="
    assert asked[1]["messages"] == [{"role": "user", "content": "1+1="}]
    assert rollout.text == "said"
    assert len(asked) == 2


async def test_no_more_requests_are_in_flight_than_allowed(model):
    lock, now, most = threading.Lock(), [0], [0]

    def answer(body, key):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return completion("1")

    with served(answer) as url:
        client = engine(model, url, requests=3)
        made = await asyncio.gather(*(client.generate(prompt(), SAMPLING) for _ in range(12)))
    assert len(made) == 12
    assert most == [3]
    assert client.stats()["rollout/rollouts"] == 12


async def test_the_key_comes_from_the_environment(model, monkeypatch):
    monkeypatch.setenv("A_KEY", "secret")
    keys = []

    def answer(body, key):
        keys.append(key)
        return completion("1")

    with served(answer) as url:
        await engine(model, url, api_key_env="A_KEY").generate(prompt(), SAMPLING)
    assert keys == ["Bearer secret"]


async def test_a_busy_endpoint_is_asked_again(model):
    replies = [503, 429, completion("1")]
    with served(lambda body, key: replies.pop(0)) as url:
        rollout = await engine(model, url, retries=2).generate(prompt(), SAMPLING)
    assert rollout.text == "1"


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_what_no_further_attempt_would_change_is_refused_at_once(model, status):
    asked = []

    def answer(body, key):
        asked.append(1)
        return status

    with served(answer) as url, pytest.raises(InputError) as caught:
        await engine(model, url, retries=3).generate(prompt(), SAMPLING)
    assert len(asked) == 1
    said = str(caught.value)
    assert f"the endpoint {url} (model 'm') answers {status}: " in said
    assert "correct eval.endpoint" in said


@pytest.mark.parametrize(
    ("answer", "options", "says"),
    [
        (lambda *_: 500, {"retries": 1}, r"answers 500: .*after 1 retries"),
        (lambda *_: time.sleep(0.5) or "", {"timeout_s": 0.1}, r"gave no answer in 0\.1 s|Timeout"),
        (lambda *_: 'RAW {"id": "1"}', {}, "sent no completion"),
    ],
    ids=["down", "silent", "another protocol"],
)
async def test_an_endpoint_that_gives_no_answer_is_named(model, answer, options, says):
    with served(answer) as url, pytest.raises(EngineError, match=says) as caught:
        await engine(model, url, **options).generate(prompt(), SAMPLING)
    assert str(caught.value).startswith(f"the endpoint {url} (model 'm')")


async def test_an_endpoint_that_is_not_there_is_named(model):
    with served(lambda *_: 500) as url:
        pass
    with pytest.raises(EngineError, match=r"APIConnectionError: .*after 0 retries"):
        await engine(model, url).generate(prompt(), SAMPLING)


def refused(**changes):
    config = RunConfig(model={"path": "m"}, **changes)
    with pytest.raises(InputError) as caught:
        check(evaluating(config))
    return str(caught.value)


def test_an_endpoint_without_name_or_key_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.delenv("NO_KEY", raising=False)
    said = refused(eval={"sources": [SET], "endpoint": {"api_key_env": "NO_KEY"}})
    assert "eval.endpoint.base_url is not set" in said
    assert "eval.endpoint.model is not set" in said
    assert "eval.endpoint.api_key_env = 'NO_KEY': there is no such environment variable" in said
    said = refused(eval={"sources": [SET], "endpoint": {"url": "x"}})
    assert "rollout.engine_options.url: unknown setting" in said


def test_nothing_is_trained_with_an_endpoint():
    config = RunConfig(model={"path": "m"}, eval={"sources": [SET], "endpoint": {"model": "m"}})
    with pytest.raises(InputError, match=r"eval.endpoint = .*for `oapl eval` alone; leave it out"):
        check(config)
    config = RunConfig(model={"path": "m"}, rollout={"engine": "endpoint"})
    with pytest.raises(InputError, match=r"takes no weights, and answers `oapl eval` alone"):
        check(config)


def test_an_endpoint_takes_no_device(model):
    config = RunConfig(
        cluster={"device": "cuda", "devices_per_engine": 2.0},
        rollout={"num_engines": 4, "tensor_parallel_size": 2},
        eval={"endpoint": {"base_url": "u", "model": "m"}},
    )
    made = evaluating(config)
    assert (made.cluster.device, made.cluster.devices_per_engine) == ("cpu", 0.0)
    assert (made.rollout.num_engines, made.rollout.tensor_parallel_size) == (1, 1)
    assert evaluating(made) == made
    assert evaluating(dataclasses.replace(config, eval=RunConfig().eval)).cluster.device == "cuda"
