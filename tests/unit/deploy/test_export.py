"""Stored answers as logs of inspect-ai, which the package reads where an environment has it."""

import json
import os
import subprocess

import numpy as np
import pytest

from deploy.commands import main
from tests.support.evaluated import answered, protocol, write_run

PYTHON = "OAPL_INSPECT_PYTHON"
"""Names the Python of an environment with inspect-ai, which is none of the project's."""
READER = """
import json, sys
from inspect_ai.log import read_eval_log
log = read_eval_log(sys.argv[1])
print(json.dumps([
    log.status, log.eval.task, log.eval.config.epochs, log.eval.model_generate_config.top_p,
    log.results.scores[0].metrics["mean"].value,
    [[s.id, s.epoch, s.target, s.output.completion, s.output.stop_reason, s.scores["reward"].value]
     for s in log.samples],
]))
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    answers = [
        answered("a", (1.0, 0.0), 1.0, texts=(r"\boxed{7}", "no <b>idea</b>")),
        answered("b", (0.5, None), 0.0, reference={"answer": ["8", "08"]}),
    ]
    run = write_run(folder / "r", "eval", {"sums": answers}, protocol(2, greedy=True))
    assert main(["export", str(run), "--inspect", str(folder / "logs")]) == 0
    return folder / "logs"


def test_each_sample_is_an_epoch_with_its_reward_and_what_the_verifiers_said(logs):
    log = json.loads((logs / "sums.json").read_text())
    told = [(s["id"], s["epoch"], s["scores"]["reward"]["value"]) for s in log["samples"]]
    assert told == [("sums:a@0", 1, 1.0), ("sums:a@0", 2, 0.0), ("sums:b@0", 1, 0.5)]
    first, second, third = log["samples"]
    assert first["scores"]["reward"]["answer"] == first["target"] == "7"
    assert first["scores"]["reward"]["metadata"]["math"]["kind"] == "accepted"
    assert second["messages"][1]["content"] == "no <b>idea</b>"
    assert third["target"] == ["8", "08"]
    assert log["results"]["scores"][0]["metrics"]["mean"]["value"] == 0.5
    assert log["eval"]["model_generate_config"] == {
        "temperature": 0.6,
        "top_p": 0.95,
        "max_tokens": 64,
    }


def test_greedy_answers_are_a_log_of_their_own(logs):
    assert sorted(path.name for path in logs.iterdir()) == ["sums-greedy.json", "sums.json"]
    log = json.loads((logs / "sums-greedy.json").read_text())
    assert [sample["scores"]["reward"]["value"] for sample in log["samples"]] == [1.0, 0.0]
    assert log["eval"]["model_generate_config"]["temperature"] == 0.0


def test_the_package_reads_them(logs):
    python = os.environ.get(PYTHON)
    if not python:
        pytest.skip(f"set {PYTHON} to the Python of an environment with inspect-ai")
    answer = subprocess.run(
        [python, "-c", READER, str(logs / "sums.json")], capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    status, task, epochs, top_p, mean, samples = json.loads(answer.stdout)
    assert (status, task, epochs, top_p, mean) == ("success", "sums", 2, 0.95, 0.5)
    assert samples[0] == ["sums:a@0", 1, "7", r"\boxed{7}", "stop", 1.0]
    assert np.mean([sample[-1] for sample in samples]) == 0.5


def test_what_holds_no_answers_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--inspect", str(tmp_path / "logs")]) == 2
    assert "holds no stored answers" in capsys.readouterr().err
