"""Verifiers are tried before a run starts, and a run ends when one does not work."""

import asyncio
import re

import pytest

from deploy.run import reward_servers, trial
from deploy.run.reward_servers import RewardServers
from oapl.config import RunConfig
from oapl.errors import VerifierError
from oapl.records import Judgement, Trouble, Verdict
from reward_server import settings
from tests.support.judging import prompt, server

ASKED = prompt({"answer": "42", "level": 3}, {"function": 1.0})
GOOD = "def reward(p, r, a):\n    return float(r == 'x')\n"


async def tried(tmp_path, text, *, start_s=20.0, **reward):
    """Try a reward function out, as a run does, in a reward server of this process."""
    (tmp_path / "mine.py").write_text(text)
    options = {"function": {"function": f"{tmp_path / 'mine.py'}:reward", "start_s": start_s}}
    table = {"verifiers": {"function": 1.0}, "options": options, **reward}
    config = settings.prepare(RunConfig(reward=table))
    async with server({"function": 1.0}, config.reward.options, **reward) as running:
        await trial.try_out(config, [running], [ASKED])
        return await running.stats()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nonsense\n" + GOOD, "failure: .*No module named 'nonsense' .mine.py:1."),
        ("def reward(p, r, a):\n    return a['none']\n", "error: KeyError: 'none' .mine.py:2."),
        ("def reward(p, r, a):\n    pass\n", "error: TypeError: the reward function gave None"),
        ("def reward(p, r, a):\n    return float('nan')\n", "error: the verifier gave the reward"),
        ("import os\ndef reward(p, r, a):\n    os._exit(3)\n", "runtime_error: .* exit code 3"),
        ("def reward(response, tests):\n    return 1\n", "failure: .*the column 'tests'"),
        ("import sys\nsys.exit(2)\n", "failure: .*SystemExit: 2"),
    ],
)
async def test_a_verifier_that_never_works_is_found_before_the_run(tmp_path, text, message):
    with pytest.raises(VerifierError) as error:
        await tried(tmp_path, text, retries=0)
    assert re.search(
        f"^verifier function gave no verdict on any of 2 trial responses .*{message}",
        str(error.value),
    )
    assert "reward.options.function" in str(error.value), "the remedy"


async def test_a_verifier_that_hangs_is_found_and_told_which_limits_there_are(tmp_path):
    text = "import time\ndef reward(p, r, a):\n    time.sleep(60)\n"
    with pytest.raises(VerifierError, match=r"timeout: killed.*reward\.deadline_s.*start_s"):
        await tried(tmp_path, text, start_s=0.5, deadline_s=0.5)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "def reward(p, r, a):\n    return len(r.split('boxed{')[1])\n",
        "def reward(p, r, a):\n    return -1\n",
        "def reward(p, r, a):\n    assert r.endswith('know.')\n    return 1\n",
    ],
)
async def test_a_verifier_that_judges_any_response_passes_and_nothing_of_it_is_counted(
    tmp_path, text
):
    counted = await tried(tmp_path, text)
    assert not any(name.startswith("reward/function/mean") for name in counted)
    assert not any(value for name, value in counted.items() if name.startswith("faults/"))


class TroubledServer:
    """A reward server that tells of what is put in its queue."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Trouble] = asyncio.Queue()
        self.is_down = False

    async def troubles(self, timeout_s):
        if self.is_down:
            self.is_down = False
            raise ConnectionError("dead")
        if not timeout_s:
            return []
        return [await self.queue.get()]

    async def stats(self):
        return {}

    async def score(self, tasks):
        verdict = Verdict(kind="accepted", reward=1.0)
        return [Judgement(reward=1.0, verdicts={"mine": verdict}) for _ in tasks]


def trouble(kind="error", in_vain=0, sort="s"):
    return Trouble(verifier="mine", kind=kind, detail="why", sort=sort, in_vain=in_vain)


@pytest.mark.leaping
async def test_each_trouble_is_told_once_whichever_servers_have_it():
    servers, told = [TroubledServer(), TroubledServer()], []
    servers[1].is_down = True  # at first: it is asked again
    rewards = RewardServers(servers, told.append)
    rewards.listen()
    for one in servers:
        one.queue.put_nowait(trouble())
    servers[0].queue.put_nowait(trouble("timeout", sort="t"))
    await asyncio.sleep(60.0)
    assert sorted(told) == [
        "warning: verifier mine, first error: why",
        "warning: verifier mine, first timeout: why",
    ]
    assert not rewards.failed.done()
    await rewards.close()


@pytest.mark.leaping
@pytest.mark.parametrize(
    ("kind", "advice"),
    [("timeout", "reward.deadline_s"), ("error", "oapl score"), ("failure", "mend")],
)
async def test_a_verifier_that_does_not_work_ends_the_run_with_cause_and_remedy(kind, advice):
    one = TroubledServer()
    rewards = RewardServers([one], lambda text: None)
    rewards.listen()
    one.queue.put_nowait(trouble(kind, in_vain=6))
    await asyncio.sleep(1.0)
    assert not rewards.failed.done(), "that was the trial"
    await rewards.try_out(RunConfig(), [])
    one.queue.put_nowait(trouble(kind, in_vain=64))
    with pytest.raises(VerifierError) as error:
        await asyncio.wait_for(rewards.failed, 60.0)
    assert "verifier mine gave no verdict on 64 responses in a row" in str(error.value)
    assert f"the last {kind}: why" in str(error.value)
    assert advice in str(error.value)
    await rewards.close()


class StartsServers:
    """Processes of a run, as far as reward servers need them."""

    def __init__(self, running):
        self.running = running

    async def start(self, role, name):
        assert role == "reward"
        return type("Process", (), {"handle": self.running})


async def test_a_server_whose_verifier_fails_its_trial_tells_the_errors_and_leaves_nothing(
    tmp_path,
):
    (tmp_path / "mine.py").write_text("def reward(p, r, a):\n    return a['none']\n")
    options = {"function": {"function": f"{tmp_path / 'mine.py'}:reward"}}
    config = settings.prepare(
        RunConfig(reward={"verifiers": {"function": 1.0}, "options": options})
    )
    told = []
    async with server({"function": 1.0}, config.reward.options) as running:
        rewards = await reward_servers.start(config, StartsServers(running), told.append)
        with pytest.raises(VerifierError):
            await rewards.try_out(config, [ASKED])
        await rewards.close()
    assert told == ["warning: verifier function, first error: KeyError: 'none' (mine.py:2)"]
    assert [task for task in asyncio.all_tasks() if "listen" in repr(task)] == []
