"""The LLM judge over a real vLLM server on the loopback interface."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.support.judging import prompt, rollout, server

pytestmark = pytest.mark.integration

START_S = 600


@pytest.fixture(scope="module")
def vllm_server(tiny_model, tmp_path_factory):
    """Its URL, and the process group to kill."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = {
        "model": tiny_model,
        "served-model-name": "tiny",
        "host": "127.0.0.1",
        "port": port,
        "dtype": "float32",
        "max-model-len": 512,
        "block-size": 32,
        "kv-cache-memory-bytes": 2**26,
        "max-num-seqs": 4,
        "chat-template": "{{ messages[0]['content'] }}",
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
    command += [f"--{name}={value}" for name, value in flags.items()]
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        _end(process)


async def test_a_vllm_server_judges_and_once_it_is_gone_only_kept_replies_do(vllm_server, tmp_path):
    url, process = vllm_server
    options = {
        "verifier": "judge",
        "base_url": url,
        "model": "tiny",
        "template": "{reference}|{response}",
        "max_tokens": 24,
        "retries": 0,
        "concurrency": 1,
    }
    told = {
        name: {**options, "extra": {"structured_outputs": {"choice": [f"VERDICT: {word}"]}}}
        for name, word in {"right": "CORRECT", "wrong": "INCORRECT"}.items()
    }
    told["right"]["cache"] = str(tmp_path / "judge.sqlite")
    names = dict.fromkeys([*told, "noise"], 1.0)
    task = prompt({"answer": "4"}, names), rollout("it is 4")
    async with server(names, {**told, "noise": options}) as judges:
        (judgement,) = await judges.score([task])
        verdicts = judgement.verdicts
        assert (verdicts["right"].kind, verdicts["right"].reward) == ("accepted", 1.0)
        assert (verdicts["wrong"].kind, verdicts["wrong"].reward) == ("wrong_answer", 0.0)
        assert verdicts["noise"].kind == "error"  # an untrained model says nothing of use
        assert verdicts["noise"].parts["completion_tokens"] == 24
        assert verdicts["right"].parts["prompt_tokens"] == len("4|it is 4")
        assert (await judges.stats())["reward/noise/error_rate"] == 1.0
        _end(process)
        kept, lost = await judges.score(
            [(prompt({"answer": "4"}, {name: 1.0}), rollout("it is 4")) for name in told]
        )
    assert kept.verdicts["right"].parts["cached"] == 1.0
    assert kept.reward == 1.0
    assert "APIConnectionError" in lost.failure
    assert lost.verdicts == {}


def _wait(url, process, log):
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.3)
    raise AssertionError(f"no vLLM server after {START_S} s:\n{log.read_text()[-2000:]}")


def _end(process):
    """vLLM's engine is a process of its own, in the same group."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=30)
