"""A sample of what was trained on, with text, rewards and verdicts: `rollouts/step-A-B.parquet`.

Invariants: a part file ends at a checkpoint at the latest (`flush`), so no row is written twice by
a resumed run: rows after its step are moved to `rollouts/after-step-N/`; which groups of a step are
kept depends on the step alone, not on which came first (those are the short ones).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.records import CreditedGroup, Verdict
from oapl.whole_files import written_aside

FOLDER = "rollouts"
ROWS_PER_PART = 512
SHOWN_CHARACTERS = 1500

Row = dict[str, Any]


class RolloutStore:
    """Keeps `tracking.rollout_groups_per_step` groups of each learner step.

    Args:
        config: The run.
        folder: Its folder.
        tell: Is given the rows of each part file, for who shows them elsewhere.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        tell: Callable[[Sequence[Row]], None] | None = None,
    ) -> None:
        self._tell = tell
        self._per_step = config.tracking.rollout_groups_per_step
        self._folder = folder / FOLDER
        self._rows: list[Row] = []

    def add(self, groups: Sequence[CreditedGroup], step: int) -> None:
        """Keep a sample of the groups that a learner step trained on.

        Args:
            groups: All of them.
            step: The learner step; it alone seeds the draw.
        """
        count = min(self._per_step, len(groups))
        for index in sorted(np.random.default_rng(step).permutation(len(groups))[:count]):
            self._rows += _rows(groups[index], step)
        if len(self._rows) >= ROWS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write what is held back as one part file."""
        if not self._rows:
            return
        first, last = self._rows[0]["step"], self._rows[-1]["step"]
        _write(self._rows, self._folder / f"step-{first:07d}-{last:07d}.parquet")
        if self._tell is not None:
            self._tell(self._rows)
        self._rows = []

    def save_all(self, groups: Sequence[CreditedGroup], path: Path) -> None:
        """Write whole groups, token ids and log-probs included, to be looked into or replayed.

        Args:
            groups: What to write.
            path: The Parquet file.
        """
        _write([row for group in groups for row in _rows(group, step=-1, is_whole=True)], path)


def _rows(group: CreditedGroup, step: int, is_whole: bool = False) -> list[Row]:
    scored, prompt = group.scored, group.scored.group.prompt
    rows = []
    for index, rollout in enumerate(scored.group.rollouts):
        row: Row = {
            "step": step,
            "version": scored.group.version,
            "id": prompt.id,
            "attempt": prompt.attempt,
            "source": prompt.source,
            "question": prompt.question,
            "prompt": prompt.text,
            "reference": json.dumps(dict(prompt.reference), default=str),
            "response": rollout.text,
            "reward": float(scored.rewards[index]),
            "credit": float(group.credit.values[index]),
            "verdicts": json.dumps(_verdicts(scored.verdicts[index])),
            "num_tokens": len(rollout.token_ids),
            "prompt_tokens": len(prompt.token_ids),
            "finish_reason": rollout.finish_reason,
        }
        rows.append(row | (_tokens(group, index) if is_whole else {}))
    return rows


def _verdicts(verdicts: Mapping[str, Verdict]) -> dict[str, Any]:
    return {
        name: {
            "kind": v.kind,
            "reward": v.reward,
            "detail": v.detail,
            "seconds": v.seconds,
            "parts": dict(v.parts),
        }
        for name, v in verdicts.items()
    }


def _tokens(group: CreditedGroup, index: int) -> Row:
    inner = group.scored.group
    rollout, sampling = inner.rollouts[index], inner.sampling
    logprobs = rollout.inference_logprobs
    return {
        "prompt_token_ids": inner.prompt.token_ids.tolist(),
        "token_ids": rollout.token_ids.tolist(),
        "inference_logprobs": None if logprobs is None else logprobs.tolist(),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_tokens": sampling.max_tokens,
    }


def _write(rows: list[Row], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with written_aside(path) as part:
        pq.write_table(pa.Table.from_pylist(rows), part)


def set_aside(folder: Path, step: int) -> int:
    """Move rows after `step` out of the way of a run that goes on from there.

    Args:
        folder: The run's.
        step: Learner steps made by the checkpoint that the run goes on from.

    Returns:
        How many rows were moved.
    """
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    moved = 0
    for path in _parts(folder):
        table = pq.read_table(path)
        after = table.filter(pc.field("step") > step)
        if not len(after):
            continue
        target = folder / FOLDER / f"after-step-{step}"
        target.mkdir(exist_ok=True)
        pq.write_table(after, _free(target / path.name))
        before = table.filter(pc.field("step") <= step)
        if len(before):
            with written_aside(path) as part:
                pq.write_table(before, part)
        else:
            path.unlink()
        moved += len(after)
    return moved


def _parts(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("step-*.parquet"))


def _free(path: Path) -> Path:
    """The path, or a numbered one where a run already went back to the same step before."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}.{number}")
    return free


def read(folder: Path) -> list[Row]:
    """Read all stored rows of a run, in order of steps.

    Raises:
        InputError: The run has stored none.
    """
    import pyarrow.parquet as pq

    paths = _parts(folder)
    if not paths:
        raise InputError(
            f"{folder} holds no stored rollouts ({FOLDER}/step-*.parquet); name a run folder whose "
            "tracking.rollout_groups_per_step is above 0"
        )
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def show(folder: Path, limit: int = 5, console: Console | None = None) -> None:
    """Print the best and the worst stored rollouts, the latest first among equals.

    A response that was given several times to the same question is shown once, with its count.

    Args:
        folder: The run's.
        limit: How many of each.
        console: Where to print; None means standard output.

    Raises:
        InputError: The run has stored none.
    """
    console = console or Console()
    rows = read(folder)
    ranked = sorted(rows, key=lambda row: (-row["reward"], -row["step"]))
    times = Counter(map(_said, ranked))
    distinct: dict[tuple[Any, ...], Row] = {}
    for row in ranked:
        distinct.setdefault(_said(row), row)
    ranked = list(distinct.values())
    best = ranked[:limit]
    worst = sorted(ranked[limit:], key=lambda row: (row["reward"], -row["step"]))[:limit]
    steps = f"steps {rows[0]['step']} to {rows[-1]['step']}"
    console.print(f"{len(rows)} stored rollouts of {folder.name}, {steps}", style="bold")
    for title, chosen, style in (("best", best, "green"), ("worst", worst, "red")):
        if chosen:
            console.rule(f"[bold {style}]{title}", style=style)
        for row in chosen:
            console.print(_panel(row, style, times[_said(row)]))


def _said(row: Row) -> tuple[Any, ...]:
    """What makes a row differ from another for a reader."""
    return row["question"] or row["prompt"], row["response"], row["reward"]


def _panel(row: Row, style: str, times: int) -> Panel:
    verdicts = json.loads(row["verdicts"])
    count = f"{times} times, the last at " if times > 1 else ""
    facts = Text(
        f"{count}step {row['step']}   version {row['version']}   reward {row['reward']:g}   "
        f"credit {row['credit']:+.3f}   {row['num_tokens']} tokens   {row['finish_reason']}",
        style="dim",
    )
    lines = [
        Text(f"{name}: {v['kind']} {v['reward']:g} {v['detail']}".rstrip(), style=style)
        for name, v in verdicts.items()
    ]
    body = Group(
        facts,
        Text(_shortened(row["question"] or row["prompt"]), style="cyan"),
        Text(_shortened(row["response"])),
        *lines,
    )
    return Panel(body, title=Text(row["id"]), title_align="left", border_style=style)


def _shortened(text: str) -> str:
    """Head and tail of a long text: a response's end holds its answer."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    half = SHOWN_CHARACTERS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"
