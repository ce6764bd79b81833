"""How an attempt ends: what is told, what the status says, what is raised."""

import asyncio
import errno
import os
import signal

import pytest

from deploy.run import lifetime, training
from deploy.run.attempts import Attempts
from deploy.run.restarts import Failures
from deploy.run.signals import Stop, Stopped
from oapl.config import RunConfig
from oapl.config.restarts import WholeRestarts
from oapl.errors import CheckpointError, InputError, RankError, StorageError, in_one_line
from oapl.tracking import status


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        run={"name": "mine", "dir": str(tmp_path)},
        tracking={"console": "off", "wandb": "off"},
    )


def attempts(resume=None):
    never = Failures(WholeRestarts(max_restarts=0), "rank")
    return Attempts(restarts={"rank": never, "replay": never}, resume=resume)


async def attempt(config, monkeypatch, run, resume=None):
    monkeypatch.setattr(training, "_run", run)
    return await training._attempt(config, attempts(resume), Stop())


async def test_a_rank_that_met_a_full_disk_is_not_started_again(config, monkeypatch):
    """It would meet it again; any other failure of a rank is followed by another attempt."""
    often = Failures(WholeRestarts(max_restarts=9), "rank")
    tried = Attempts(restarts={"rank": often}, resume=None)
    full = RankError(f"learner rank 0 of 1 failed (OSError: {os.strerror(errno.ENOSPC)})")
    monkeypatch.setattr(training, "_run", raising(full))
    with pytest.raises(StorageError, match="no space left"):
        await training._attempt(config, tried, Stop())
    assert often.number == 0
    monkeypatch.setattr(training, "_run", raising(RankError("learner rank 0 of 1 died")))
    assert await training._attempt(config, tried, Stop()) is None
    assert often.number == 1


def raising(error):
    async def run(*_):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            RankError("learner rank 0 of 1 died"),
            RankError,
            "learner rank 0 of 1 died; the same command resumes from checkpoints/step-8",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device"),
            StorageError,
            "no space left in {folder}; free some; "
            "the same command resumes from checkpoints/step-8",
        ),
        (InputError("no such key"), InputError, "no such key"),
        (CheckpointError("step-8 is damaged"), CheckpointError, "step-8 is damaged"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_a_failure_is_told_once_with_what_the_same_command_does(
    config, monkeypatch, error, kind, words
):
    checkpoint = config.folder / "checkpoints" / "step-8"
    checkpoint.mkdir(parents=True)
    with pytest.raises(kind) as caught:
        await attempt(config, monkeypatch, raising(error), checkpoint)
    expected = words.format(folder=config.folder)
    assert in_one_line(caught.value) == expected
    lines = (config.folder / "messages.log").read_text().splitlines()
    assert [line.split("failed: ", 1)[1] for line in lines] == [f"{kind.__name__}: {expected}"]
    assert status.read(config.folder).phase == status.FAILED


async def test_a_run_folder_that_is_gone_is_told_though_nothing_can_be_written(config, monkeypatch):
    async def run(*_):
        for path in sorted(config.folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        config.folder.rmdir()
        raise FileNotFoundError(errno.ENOENT, "No such file", str(config.folder / "metrics.jsonl"))

    with pytest.raises(StorageError, match=f"the run folder {config.folder} is gone") as caught:
        await attempt(config, monkeypatch, run, config.folder / "checkpoints" / "step-8")
    assert "resumes from" not in in_one_line(caught.value), "its checkpoint is gone too"
    assert not config.folder.exists()


async def test_a_second_signal_ends_the_attempt_and_the_status_says_stopped(config, monkeypatch):
    async def run(config, attempts, tracker, stop):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(60)

    monkeypatch.setattr(training, "_run", run)
    outcome = await training.train(config, attempts(), ())
    assert (outcome.signal, outcome.step) == (signal.SIGTERM, 0)
    assert outcome.next == "the same command begins anew: there is no checkpoint yet"
    assert status.read(config.folder).phase == status.STOPPED
    told = (config.folder / "messages.log").read_text()
    assert "SIGTERM: stopping; once more ends at once" in told
    assert "SIGTERM again: ending at once" in told


async def test_who_asks_between_two_attempts_is_told_that_it_is_heard(config, monkeypatch):
    often = Failures(WholeRestarts(max_restarts=9, first_pause_s=60.0), "rank")
    often.add()
    monkeypatch.setattr(training, "_run", raising(RankError("learner rank 0 of 1 died")))
    stop = Stop()
    with stop.on_signals():
        tried = Attempts(restarts={"rank": often}, resume=None)
        attempting = asyncio.create_task(training._attempt(config, tried, stop))
        while not tried.failures:
            await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped):
            await attempting
    assert "SIGTERM: stopping" in (config.folder / "messages.log").read_text()
    assert status.read(config.folder).phase == status.STOPPED


async def test_a_cancelled_run_that_got_no_signal_stays_cancelled(config, monkeypatch):
    async def run(*_):
        await asyncio.sleep(60)

    monkeypatch.setattr(training, "_run", run)
    running = asyncio.create_task(training.train(config, attempts(), ()))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert status.read(config.folder).phase == status.FAILED


async def test_what_fails_beside_an_act_ends_it_in_its_own_name():
    failure, ended = asyncio.get_running_loop().create_future(), []

    async def act():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    asyncio.get_running_loop().call_later(0.01, failure.set_exception, RankError("the raylet"))
    with pytest.raises(RankError, match="the raylet"):
        await lifetime.unless_failed([failure], act())
    assert ended == [1]
    assert await lifetime.unless_failed([asyncio.Future()], asyncio.sleep(0, "done")) == "done"


async def test_how_long_an_attempt_lived_is_told_to_the_policy(config, monkeypatch):
    lived = []

    async def run(*_):
        await asyncio.sleep(0.05)
        raise RankError("learner rank 0 of 1 died")

    monkeypatch.setattr(training, "_run", run)
    monkeypatch.setattr(Failures, "add", lambda self, lived_s=0.0: lived.append(lived_s))
    tried = Attempts(restarts={"rank": Failures(WholeRestarts(), "rank")}, resume=None)
    assert await training._attempt(config, tried, Stop()) is None
    assert 0.05 <= lived[0] < 60


async def test_a_run_that_is_stopped_in_the_pause_before_a_start_says_so(config, monkeypatch):
    policy = WholeRestarts(max_restarts=9, first_pause_s=60.0, longest_pause_s=60.0)
    often = Failures(policy, "rank")
    often.add()
    monkeypatch.setattr(training, "_run", raising(RankError("learner rank 0 of 1 died")))
    loop = asyncio.get_running_loop()
    loop.call_later(0.3, os.kill, os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        tried = Attempts(restarts={"rank": often}, resume=None)
        outcome = await training.train(config, tried, ())
    assert (outcome.signal, often.number) == (signal.SIGTERM, 2)
    assert status.read(config.folder).phase == status.STOPPED
    assert "SIGTERM: stopping" in (config.folder / "messages.log").read_text()
