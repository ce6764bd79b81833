"""`oapl eval` against an endpoint on the loopback, all in this process: no Ray, no engine."""

import dataclasses
import json
import re

import pytest

from deploy.recipes.toy_judge import served
from deploy.run import program
from oapl.config import RunConfig
from oapl.errors import InputError
from tests.support.makers import make_model

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SUM = re.compile(r"(\d+)\+(\d+)=")


@pytest.fixture
def config(tmp_path):
    make_model(tmp_path / "model")
    rows = [json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) for n in range(6)]
    (tmp_path / "sums.jsonl").write_text("\n".join(rows) + "\n")
    return RunConfig(
        run={"dir": str(tmp_path / "runs")},
        model={"path": str(tmp_path / "model")},
        rollout={"max_tokens": 8},
        cluster={"mode": "local"},
        sync={"transport": "local"},
        tracking={"console": "off", "wandb": "off"},
        eval={
            "sources": [{"name": "s", "path": str(tmp_path / "sums.jsonl")}],
            "num_samples": 2,
            "ks": [1],
        },
    )


def at(config, url):
    table = {"base_url": url, "model": "m", "api": "text", "requests": 4, "retries": 2}
    return dataclasses.replace(config, eval=dataclasses.replace(config.eval, endpoint=table))


def reply(body):
    """Right of an even number; of an odd one at temperature 0 alone."""
    first = int(SUM.search(body["prompt"])[1])
    is_right = first % 2 == 0 or body["temperature"] == 0
    answer = first + 1 if is_right else 0
    choice = {"index": 0, "finish_reason": "stop", "text": f"\\boxed{{{answer}}}"}
    made = {"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}
    return "RAW " + json.dumps(made)


def test_an_endpoint_is_evaluated_and_its_answers_are_kept(config):
    with served(lambda body, key: reply(body)) as url:
        outcome = program.evaluate(at(config, url))
    assert outcome.after["eval/s/mean@2"] == 0.5
    assert outcome.after["eval/s/greedy"] == 1.0
    assert "eval/s/entropy" not in outcome.after, "an endpoint tells no log-probs"
    folder = config.folder / "evaluations"
    assert len((folder / "eval.s.jsonl").read_text().splitlines()) == 6
    assert (folder / "eval" / "s" / "groups-00000.parquet").is_file()


def test_an_endpoint_that_refuses_ends_the_command_and_what_was_answered_is_not_asked_again(config):
    asked = []

    def refusing(body, key):
        asked.append(body["prompt"])
        return 404 if body["prompt"].startswith("5") else reply(body)

    with served(refusing) as url, pytest.raises(InputError, match=r"answers 404: .*correct eval"):
        program.evaluate(at(config, url))
    (told,) = [one for one in messages(config) if "failed:" in one]
    assert "failed: InputError: " in told
    assert "answers 404: " in told
    asked.clear()
    again = served(lambda body, key: asked.append(body["prompt"]) or reply(body), port_of(url))
    with again as url:
        outcome = program.evaluate(at(config, url))
    assert asked == ["5+1="] * 3
    assert outcome.after["eval/s/mean@2"] == 0.5


def messages(config):
    return (config.folder / "messages.log").read_text().splitlines()


def port_of(url):
    return int(url.rpartition(":")[2].partition("/")[0])
