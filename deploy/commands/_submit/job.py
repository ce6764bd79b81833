"""A Ray job is sent, followed to its end, and stopped when we are."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from deploy.checks.settings import check_job
from deploy.checks.shadows import check_shipped
from deploy.checks.stages import check_all
from deploy.commands._submit.shipped import EXCLUDES, entrypoint, is_shipped
from deploy.processes import ray_cluster
from deploy.run.folders import moved_here
from oapl.config.objective import is_judged
from oapl.config.toml import load_config
from oapl.errors import InputError, OaplError
from oapl.tracking.status import STOPPED_AT
from reward_server import settings as rewards

EXIT_TERMINATED, EXIT_KILLED = 128 + signal.SIGTERM, 128 + signal.SIGKILL
QUIET_S = 300.0
"""How long the job server may be away while a job runs."""
RETRY_S = 2.0


def submit(
    recipe: Path,
    overrides: Sequence[str],
    *,
    address: str = "",
    exclude: Sequence[str] = (),
    grace_s: int = 600,
) -> int:
    """Run a recipe as a job and follow it to its end.

    Args:
        recipe: A TOML file.
        overrides: As of `oapl train`.
        address: Job server, `http://HOST:8265`; default RAY_ADDRESS, else `cluster.address`.
        exclude: Patterns beside `EXCLUDES`.
        grace_s: Seconds between the request to stop and the kill.

    Returns:
        The exit code of the run; 143 when it was stopped with a checkpoint, 137 when it was killed
        before it had written one.

    Raises:
        InputError: The recipe is wrong, no job server answers, or the working directory is too
            large to be shipped or holds a file that a job would import in another's place.
        OaplError: The job server went away, or the cluster could not start the job.
    """
    written = load_config(recipe, overrides)
    config = moved_here(written, recipe, overrides)
    if config != written:
        overrides = [*overrides, f"run.name={config.run.name}"]
    check_all(config)
    check_job(config)
    check_shipped(Path.cwd())
    if is_judged(config):
        rewards.check(config)
    named = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    client = _client(address or named or config.cluster.address)
    excludes = [*EXCLUDES, *exclude]
    command = entrypoint(config, recipe, overrides, is_shipped=lambda p: is_shipped(p, excludes))
    job = _send(client, command, excludes, grace_s)
    print(f"job {job}: {command}\nrun folder: {config.folder}", file=sys.stderr)
    return asyncio.run(_follow(client, job, grace_s))


def _client(where: str) -> Any:
    if not where:
        raise InputError(
            "no cluster is named; give --address http://HOST:8265 (the dashboard of the head "
            "node), or set RAY_ADDRESS or cluster.address"
        )
    if where.startswith(("http://", "https://")):
        _check_server(where)
    elif where != "auto" and "://" not in where:
        ray_cluster.check_answers(where)
    os.environ["RAY_API_SERVER_ADDRESS"] = where  # RAY_ADDRESS would go before an argument
    ray_cluster.offer_token()
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(where)
    except (ConnectionError, RuntimeError) as error:
        raise InputError(f"--address {where}: no job can be submitted there: {error}") from error


def _check_server(where: str) -> None:
    """Ray's client waits for ever for a server that takes connections and says nothing."""
    try:
        with urllib.request.urlopen(where, timeout=ray_cluster.ANSWER_TIMEOUT_S):
            pass
    except urllib.error.HTTPError:
        pass  # it speaks
    except (OSError, ValueError) as error:
        raise InputError(
            f"--address {where}: no job server answers there ({error}); `ray start --head` prints "
            "the dashboard's address, which is it"
        ) from error


def _send(client: Any, command: str, excludes: Sequence[str], grace_s: int) -> str:
    environment = {
        # Read by the process that stops the job: from the request to stop to the kill.
        "RAY_JOB_STOP_WAIT_TIME_S": str(grace_s),
    }
    runtime = {"working_dir": ".", "excludes": list(excludes), "env_vars": environment}
    try:
        return str(client.submit_job(entrypoint=command, runtime_env=runtime))
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"the job was not taken: {error}; where the working directory is too large, leave "
            "files here by --exclude PATTERN"
        ) from error


async def _follow(client: Any, job: str, grace_s: int) -> int:
    """Print the job's log until it has ended; the first signal stops the job, the second us."""
    loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)

    def stop() -> None:
        for number in signals:
            loop.remove_signal_handler(number)
        print(f"stopping job {job}; it has {grace_s} s for a checkpoint", file=sys.stderr)
        stopping.append(loop.create_task(asyncio.to_thread(client.stop_job, job)))

    stopping: list[asyncio.Task[Any]] = []
    for number in signals:
        loop.add_signal_handler(number, stop)
    last = ""
    async for text in _log(client, job):
        print(text, end="", flush=True)
        last = (last + text)[-2000:]
    for task in stopping:
        await task
    return _exit_code(await asyncio.to_thread(client.get_job_info, job), last)


async def _log(client: Any, job: str) -> AsyncIterator[str]:
    """The job's output until its end; a connection that breaks is made again."""
    loop = asyncio.get_running_loop()
    printed, heard = 0, loop.time()
    while True:
        try:
            seen = 0
            async for text in client.tail_job_logs(job):
                heard = loop.time()
                seen += len(text)
                if seen > printed:  # a new connection begins with what is known already
                    yield text[-(seen - printed) :]
                    printed = seen
            if (await asyncio.to_thread(client.get_job_status, job)).is_terminal():
                return
            heard = loop.time()
        except (OSError, RuntimeError) as error:
            if loop.time() - heard > QUIET_S:
                raise OaplError(
                    f"the job server has not answered for {QUIET_S:g} s ({error}); job {job} may "
                    "go on without us"
                ) from error
        await asyncio.sleep(RETRY_S)


def _exit_code(info: Any, last: str) -> int:
    """Ray's own command knows 0 and 1 only, and 0 for a job that was stopped."""
    status = str(getattr(info.status, "value", info.status))
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":  # Ray keeps no exit code of a job that it has stopped
        return EXIT_TERMINATED if STOPPED_AT in last else EXIT_KILLED
    if info.driver_exit_code is None:
        raise OaplError(f"the cluster could not run the job: {info.message}")
    code = int(info.driver_exit_code)
    return code if code >= 0 else 128 - code
