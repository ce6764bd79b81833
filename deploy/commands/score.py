"""`oapl score`: judge stored responses by one verifier, as a run would, without Ray.

Records go in as `{id, response, prompt, answer, ...}`, JSON Lines (gzip too) or Parquet, the
rollouts that a run has stored included; verdicts come out as JSON Lines, in the order of the input.
Invariants: what is wrong with the input is said before anything is written; a line is written
whole, as soon as those before it are; memory does not grow with the file.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from actors.data.sources import Row, read_rows
from oapl.config import RunConfig
from oapl.config.sections import DataSource
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.records import KINDS, Judgement, Prompt, Rollout
from reward_server import server

CHUNK = 8
"""Records a call: a line waits for no more than these."""
MIN_CALLS = 64
LINE_EVERY_S = 10.0
"""Between two lines of progress, where there is no terminal."""
OWN = ("response", "prompt", "question", "reference", "finish_reason")
"""Columns that are no part of the reference."""
FAILED = "error"


@dataclass(slots=True)
class Summary:
    """What became of the records.

    Attributes:
        num_unjudged: Those that nobody could judge: a prompt without what its verifier needs, a
            verifier that cannot start. They count as `error` and have no reward.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    rewards: list[float] = field(default_factory=list)
    num_unjudged: int = 0
    example: str = ""
    seconds: float = 0.0

    @property
    def count(self) -> int:
        return self.kinds.total()


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
        The exit code: 0, or 1 when no record could be judged.

    Raises:
        InputError: A record, an option or a path cannot be used; nothing was written.
    """
    console = console or Console(stderr=True)
    config, name = _config(verifier, options, overrides, workers, deadline_s)
    server.check(config)
    _check_paths(source, out, overwrite)
    total = sum(1 for _ in _tasks(source, name))
    if not total:
        raise InputError(f"{source} has no records; give at least one")
    summary = asyncio.run(_score(server.prepare(config), name, source, out, total, console))
    _show(summary, verifier, out, console)
    return int(summary.num_unjudged == summary.count)


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


def _tasks(source: Path, name: str) -> Iterator[tuple[Any, tuple[Prompt, Rollout]]]:
    """Id and task of every record.

    Raises:
        InputError: Names file, line and rule.
    """
    rows = read_rows(DataSource(name=source.name, path=str(source)))
    for index, (place, row) in enumerate(rows):
        yield row.get("id"), _task(index, place, row, name)


def _task(index: int, place: str, row: Row, name: str) -> tuple[Prompt, Rollout]:
    if not isinstance(row.get("id"), str | int):
        raise InputError(f"{place}: id is {row.get('id')!r}; it must be text or a number")
    response = row.get("response")
    if not isinstance(response, str):
        found = repr(response)[:60] if "response" in row else "missing"
        raise InputError(f"{place}: response is {found}; it must be text (it may be empty)")
    text = _text(row.get("prompt", ""), place)
    prompt = Prompt(
        id=f"{row['id']}#{index}",
        text=text,
        token_ids=np.empty(0, np.int32),
        verifiers={name: 1.0},
        reference=_reference(row, place),
        source=str(row.get("source", "")),
        question=str(row.get("question") or text),
    )
    rollout = Rollout(
        token_ids=np.zeros(_num_tokens(row, place), np.int32),
        inference_logprobs=None,
        finish_reason="length" if row.get("finish_reason") == "length" else "stop",
        text=response,
        first_version=0,
        last_version=0,
    )
    return prompt, rollout


def _text(prompt: Any, place: str) -> str:
    """A prompt's text; of a chat the user's last words."""
    if isinstance(prompt, str):
        return prompt
    last = prompt[-1] if isinstance(prompt, list | tuple) and prompt else None
    if isinstance(last, Mapping) and isinstance(last.get("content"), str):
        return last["content"]
    raise InputError(
        f"{place}: prompt is {prompt!r:.60}; it must be text, or a list of chat messages"
    )


def _num_tokens(row: Row, place: str) -> int:
    count = row.get("num_tokens", 0)
    if not isinstance(count, int) or count < 0:
        raise InputError(f"{place}: num_tokens is {count!r}; it must be a number of tokens")
    return count


def _reference(row: Row, place: str) -> dict[str, Any]:
    """What the verifier may need: every other column, as data loading gives it."""
    reference = {key: value for key, value in row.items() if key not in OWN}
    stored = row.get("reference")
    if isinstance(stored, str):  # the rollouts that a run has stored
        try:
            stored = json.loads(stored)
        except ValueError as error:
            raise InputError(f"{place}: reference is not JSON ({error})") from error
    if isinstance(stored, Mapping):
        reference |= stored
    answer = reference.get("answer")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        reference["answer"] = str(answer)
    return reference


async def _score(
    config: RunConfig, name: str, source: Path, out: Path, total: int, console: Console
) -> Summary:
    """Keep the server busy with calls of a few records; write them in their order."""
    running = server.build(config)
    summary, started = Summary(), time.monotonic()
    calls: deque[tuple[list[Any], asyncio.Task[list[Judgement]]]] = deque()
    max_calls = max(MIN_CALLS, 4 * config.reward.workers)
    try:
        with out.open("wb", buffering=0) as file, _Shown(console, total) as shown:
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
    for id, task in _tasks(source, name):
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
        summary.example = summary.example or judgement.failure
        row = {"verdict": FAILED, "reward": None, "detail": _line(judgement.failure)}
        return {**row, "parts": {}, "seconds": 0.0}
    verdict = judgement.verdicts[name]
    summary.kinds[verdict.kind] += 1
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


class _Shown:
    """Progress: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._total = total
        self._started = self._told = time.monotonic()
        self._bar = Progress(
            TextColumn("judged"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=total, rate=0.0)

    def __enter__(self) -> _Shown:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, count: int) -> None:
        now = time.monotonic()
        rate = count / (now - self._started)
        self._bar.update(self._task, completed=count, rate=rate)
        if not self._console.is_terminal and now - self._told >= LINE_EVERY_S:
            self._told = now
            self._console.print(f"{count} of {self._total} judged, {rate:,.0f}/s", highlight=False)


def _show(summary: Summary, verifier: str, out: Path, console: Console) -> None:
    count, rewards = summary.count, summary.rewards
    accepted = summary.kinds["accepted"]
    title = f"{verifier}: {accepted} of {count} accepted"
    table = Table("verdict", "records", "share", title=title)
    for kind in KINDS:
        if summary.kinds[kind] or kind in ("accepted", "timeout", FAILED):
            table.add_row(kind, f"{summary.kinds[kind]}", f"{summary.kinds[kind] / count:.1%}")
    console.print(table)
    mean = sum(rewards) / len(rewards) if rewards else math.nan
    console.print(
        f"mean reward {mean:.4f}, {summary.kinds['timeout']} timeouts, "
        f"{summary.kinds[FAILED]} errors, {count / summary.seconds:,.1f} items/s; see {out}",
        highlight=False,
    )
    if summary.num_unjudged:
        console.print(
            f"{summary.num_unjudged} records could not be judged; the first: {summary.example}",
            style="red",
            highlight=False,
            markup=False,
        )
