"""Stored responses are judged by one verifier, as in a run, without Ray.

Records go in as `{id, response, prompt, answer, ...}`, JSON Lines (gzip too) or Parquet, the
rollouts that a run has stored included; verdicts come out as JSON Lines, in the order of the input.
Invariants: what is wrong with the input is said before anything is written; a line is written
whole, as soon as those before it are; memory does not grow with the file.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.commands._score.records import tasks_of
from deploy.commands._score.shown import FAILED, UNJUDGED, ProgressShown, Summary, show
from oapl.config import RunConfig
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.records import Judgement, Prompt, Rollout
from reward_server import server

CHUNK = 8
"""Records a call: a line waits for no more than these."""
MIN_CALLS = 64


def score(
    source: Path,
    verifier: str,
    out: Path,
    *,
    options: Sequence[str] = (),
    overrides: Sequence[str] = (),
    workers: int | None = None,
    deadline_s: float | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> int:
    """Judge every record of `source` and write the verdicts to `out`.

    Args:
        source: Records.
        verifier: A file of `reward_server/verifiers`, or a dotted path.
        out: JSON Lines: id, verdict, reward, detail, parts, seconds.
        options: The verifier's own, `key=value`.
        overrides: Settings of a run, `reward.on_failure=-1`.
        workers: Processes; all cores unless said.
        deadline_s: Hard limit for one record; `reward.deadline_s` unless said.
        overwrite: Replace `out`.
        console: Where to show progress and summary.

    Returns:
        The exit code: 0, or 1 when the verifier gave no record a verdict.

    Raises:
        InputError: A record, an option or a path cannot be used; nothing was written.
    """
    console = console or Console(stderr=True)
    config, name = _config(verifier, options, overrides, workers, deadline_s)
    server.check(config)
    _check_paths(source, out, overwrite)
    total = sum(1 for _ in tasks_of(source, name))
    if not total:
        raise InputError(f"{source} has no records; give at least one")
    summary = asyncio.run(_score(server.prepare(config), name, source, out, total, console))
    show(summary, verifier, out, console)
    return int(summary.is_in_vain)


def _config(
    verifier: str,
    options: Sequence[str],
    overrides: Sequence[str],
    workers: int | None,
    deadline_s: float | None,
) -> tuple[RunConfig, str]:
    """Settings of a run with this one verifier, and its name there, which has no dots."""
    name = verifier.rpartition(".")[2]
    for option in options:
        if "=" not in option:
            raise InputError(f"--option {option!r} is not key=value; write it as in mode=prorl")
    lowest = ["reward.on_failure=-1"] if "range=minus_one_one" in options else []
    lines = [
        *lowest,  # a hang must not pay more than a wrong answer
        *overrides,
        f"reward.verifiers={{{name} = 1.0}}",
        *(f"reward.options.{name}.{option}" for option in options),
        f"reward.workers={workers or os.cpu_count() or 1}",
        *([f"reward.options.{name}.verifier='{verifier}'"] if name != verifier else []),
        *([f"reward.deadline_s={deadline_s}"] if deadline_s is not None else []),
    ]
    return load_config(None, lines), name


def _check_paths(source: Path, out: Path, overwrite: bool) -> None:
    if out.suffix == ".gz":
        raise InputError(f"--out {out}: verdicts are written as plain JSON Lines; name it .jsonl")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: it must be a file in a folder that exists")
    if out.exists() and source.exists() and out.samefile(source):
        raise InputError(f"--out {out} is the input; write the verdicts to another file")
    if out.exists() and not overwrite:
        raise InputError(f"--out {out} exists; replace it by --overwrite, or name another file")


async def _score(
    config: RunConfig, name: str, source: Path, out: Path, total: int, console: Console
) -> Summary:
    """Keep the server busy with calls of a few records; write them in their order."""
    running = server.build(config)
    summary, started = Summary(), time.monotonic()
    calls: deque[tuple[list[Any], asyncio.Task[list[Judgement]]]] = deque()
    max_calls = max(MIN_CALLS, 4 * config.reward.workers)
    try:
        with out.open("wb", buffering=0) as file, ProgressShown(console, total) as shown:
            for ids, tasks in _chunks(source, name):
                if len(calls) == max_calls:
                    await _write(file, *calls.popleft(), name, summary)
                    shown.update(summary.count)
                calls.append((ids, asyncio.create_task(running.score(tasks))))
            while calls:
                await _write(file, *calls.popleft(), name, summary)
                shown.update(summary.count)
    finally:
        for _, call in calls:
            call.cancel()
        await running.close()
    summary.seconds = time.monotonic() - started
    return summary


def _chunks(source: Path, name: str) -> Iterator[tuple[list[Any], list[tuple[Prompt, Rollout]]]]:
    ids: list[Any] = []
    tasks: list[tuple[Prompt, Rollout]] = []
    for id, task in tasks_of(source, name):
        ids.append(id)
        tasks.append(task)
        if len(ids) == CHUNK:
            yield ids, tasks
            ids, tasks = [], []
    if ids:
        yield ids, tasks


async def _write(
    file: Any, ids: Sequence[Any], call: asyncio.Task[list[Judgement]], name: str, summary: Summary
) -> None:
    """Whole lines in one piece: nothing that ends this process leaves half of one."""
    lines = [
        json.dumps({"id": id, **_row(judgement, name, summary)}, ensure_ascii=False)
        for id, judgement in zip(ids, await call, strict=True)
    ]
    data = ("\n".join(lines) + "\n").encode(errors="backslashreplace")
    if file.write(data) != len(data):
        raise OSError(f"{file.name}: the disk took only a part of a line")


def _row(judgement: Judgement, name: str, summary: Summary) -> dict[str, Any]:
    if judgement.failure is not None:
        summary.kinds[FAILED] += 1
        summary.num_unjudged += 1
        summary.note(UNJUDGED, judgement.failure)
        row = {"verdict": FAILED, "reward": None, "detail": _line(judgement.failure)}
        return {**row, "parts": {}, "seconds": 0.0}
    verdict = judgement.verdicts[name]
    summary.kinds[verdict.kind] += 1
    summary.note(verdict.kind, verdict.detail)
    summary.rewards.append(verdict.reward)
    return {
        "verdict": verdict.kind,
        "reward": verdict.reward,
        "detail": _line(verdict.detail),
        "parts": dict(verdict.parts),
        "seconds": round(verdict.seconds, 6),
    }


def _line(text: str) -> str:
    return " ".join(text.split())
