"""Groups that were trained on, as stored groups (`oapl.groups_file`): `rollouts/groups-N.parquet`.

A sample of each learner step, for people to look at, or all of them, to train on again. Invariants:
a shard ends at a checkpoint at the latest (`flush`), so no row is written twice by a resumed run:
groups after its step are moved to `rollouts/_after-step-N/`; of all groups each is stored once,
however many steps trained on it; which groups of a step are in the sample depends on the step
alone, not on which came first (those are the short ones).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console, Group
from rich.panel import Panel
from rich.text import Text

from oapl import groups_file
from oapl.config import RunConfig
from oapl.errors import InputError
from oapl.groups_file import Header, StoredGroup, Writer
from oapl.records import CreditedGroup, TokenScores
from oapl.whole_files import written_aside

FOLDER = "rollouts"
ROWS_PER_SHARD = 512
SHOWN_CHARACTERS = 1500

Row = dict[str, Any]


class RolloutStore:
    """Keeps of each learner step what `tracking.store_groups` says.

    Args:
        config: The run.
        folder: Its folder; what was stored after the step that it goes on from is set aside.
        header: What stored groups say of the run.
        tell: Is given the rows of the sample as its groups are written, to show them elsewhere.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        header: Header,
        tell: Callable[[Sequence[Row]], None] | None = None,
    ) -> None:
        self._tell = tell
        self._stores = config.tracking.store_groups
        self._per_step = config.tracking.rollout_groups_per_step
        self._folder = folder / FOLDER
        self._header = header
        self._writer: Writer | None = None
        self._stored: set[str] = set()
        self._untold: list[Row] = []

    def wanted(self, groups: Sequence[CreditedGroup], step: int) -> tuple[int, ...]:
        """Tell which groups `add` would keep, of those with log-probs that the learner's can be
        compared with.

        Args:
            groups, step: As of `add`.

        Returns:
            Their places among `groups`.
        """
        kept = [] if self._stores == "off" else self._kept(groups, self._drawn(groups, step))
        rollouts = ((index, groups[index].scored.group.rollouts) for index in kept)
        return tuple(i for i, found in rollouts if found[0].inference_logprobs is not None)

    def add(
        self, groups: Sequence[CreditedGroup], step: int, scores: Sequence[TokenScores] = ()
    ) -> None:
        """Keep groups that a learner step trained on.

        Args:
            groups: All of them.
            step: The learner step; it alone seeds the sample.
            scores: What the learner thought of the tokens of those that are `wanted`.
        """
        if self._stores == "off":
            return
        writer = self._writer = self._writer or self._open()
        drawn = self._drawn(groups, step)
        by_place = {(one.group_index, one.place): one.logprobs for one in scores}
        for index in self._kept(groups, drawn):
            group = groups[index]
            places = [(index, place) for place in range(len(group.scored.group.rollouts))]
            is_scored = all(place in by_place for place in places)
            learner = tuple(by_place[place] for place in places) if is_scored else None
            writer.add(StoredGroup.from_credited(group, step, learner))
            self._stored.add(group.id)
        for index, group in enumerate(groups):
            if index in drawn:
                self._untold += rows_of(StoredGroup.from_credited(group, step))
        if len(self._untold) >= ROWS_PER_SHARD:
            self.flush()

    def _drawn(self, groups: Sequence[CreditedGroup], step: int) -> set[int]:
        """Places of the sample."""
        order = np.random.default_rng(step).permutation(len(groups))
        return {int(index) for index in order[: self._per_step]}

    def _kept(self, groups: Sequence[CreditedGroup], drawn: Collection[int]) -> list[int]:
        """Places of what is written: the sample, or all that are not written yet."""
        if self._stores == "sample":
            return sorted(drawn)
        places = {group.id: index for index, group in enumerate(groups)}
        return sorted(index for id_, index in places.items() if id_ not in self._stored)

    def _open(self) -> Writer:
        _set_aside_others(self._folder, self._header)
        writer = Writer(self._folder, self._header, ROWS_PER_SHARD)
        if self._stores == "all" and groups_file.is_set(self._folder):
            self._stored = set(groups_file.ids(self._folder))
        return writer

    def flush(self) -> None:
        """Write what is held back as a shard."""
        if self._writer is not None:
            self._writer.flush()
        if self._tell is not None and self._untold:
            self._tell(self._untold)
        self._untold = []

    def save_all(self, groups: Sequence[CreditedGroup], folder: Path) -> None:
        """Write groups into a set of their own, to be looked into or trained on again.

        Args:
            groups: What to write.
            folder: The set; one that is there is replaced.
        """
        with written_aside(folder) as part, Writer(part, self._header) as writer:
            for group in groups:
                writer.add(StoredGroup.from_scored(group.scored))


def rows_of(group: StoredGroup) -> list[Row]:
    """Give of each rollout what a person reads."""
    prompt = group.prompt
    return [
        {
            "step": group.step,
            "version": group.version,
            "id": prompt.id,
            "question": prompt.question,
            "prompt": prompt.text,
            "response": rollout.text,
            "reward": float(group.rewards[index]),
            "credit": None if group.credit is None else float(group.credit[index]),
            "verdicts": json.dumps({name: asdict(v) for name, v in group.verdicts[index].items()}),
            "num_tokens": len(rollout.token_ids),
            "finish_reason": rollout.finish_reason,
        }
        for index, rollout in enumerate(group.rollouts)
    ]


def set_aside(folder: Path, step: int) -> int:
    """Move groups after `step` out of the way of a run that goes on from there.

    Args:
        folder: The run's.
        step: Learner steps made by the checkpoint that the run goes on from.

    Returns:
        How many rollouts were moved.
    """
    held = folder / FOLDER
    if not groups_file.is_set(held):
        return 0
    said, late = groups_file.header(held), _shards_after(held, step)
    if not late:
        return 0
    moved = 0
    with written_aside(_free(held / f"_after-step-{step}")) as part, Writer(part, said) as writer:
        for group in (group for path in late for group in groups_file.read_shard(path)):
            if group.step > step:
                writer.add(group)
                moved += len(group.rollouts)
    for path in reversed(late):  # a kill in between leaves no gap in the numbers
        before = [group for group in groups_file.read_shard(path) if group.step <= step]
        if before:
            groups_file.write_shard(path, before, said)
        else:
            path.unlink()
    return moved


def _shards_after(folder: Path, step: int) -> list[Path]:
    """The shards with groups of later steps, which are the last ones."""
    late: list[Path] = []
    for path in reversed(groups_file.shards(folder)):
        if all(group.step <= step for group in groups_file.read_shard(path)):
            break
        late.insert(0, path)
    return late


def _set_aside_others(folder: Path, ours: Header) -> None:
    """A run may go on with another template; a set has one."""
    if groups_file.is_set(folder) and groups_file.header(folder) != ours:
        target = _free(folder / "_earlier")
        target.mkdir()
        for path in reversed(groups_file.shards(folder)):
            path.rename(target / path.name)


def _free(path: Path) -> Path:
    """The path, or a numbered one where a run already went back to the same step before."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free


def read(folder: Path) -> Iterator[Row]:
    """Give what a person reads of all stored rollouts of a run, in order of steps.

    Raises:
        InputError: The run has stored none, or a shard is damaged.
    """
    held = folder / FOLDER
    if not groups_file.is_set(held):
        raise InputError(
            f"{folder} holds no stored rollouts ({FOLDER}/groups-*.parquet); name the folder of a "
            'run whose tracking.store_groups is "sample" or "all"'
        )
    for group in groups_file.read(held):
        yield from rows_of(group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Which:
    """Which stored rollouts are looked at; what is not given leaves all in.

    Attributes:
        verdict: Kind that one of their verdicts has, like `accepted` or `timeout`.
        prompt: Part of their question or id, in any letters.
        steps: First and last learner step at which they were trained on.
    """

    verdict: str = ""
    prompt: str = ""
    steps: tuple[int, int] | None = None

    def has(self, row: Row) -> bool:
        """Whether a rollout is one of them."""
        if self.steps is not None and not self.steps[0] <= row["step"] <= self.steps[1]:
            return False
        asked = f"{row['id']}\n{row['question'] or row['prompt']}".lower()
        if self.prompt.lower() not in asked:
            return False
        return not self.verdict or self.verdict in _verdicts(row)


def show(
    folder: Path,
    limit: int = 5,
    console: Console | None = None,
    which: Which | None = None,
) -> None:
    """Print the best and the worst stored rollouts, the latest first among equals.

    Those of a list answer different questions, and no text is printed twice: what was said several
    times stands there once, with its count. Goes over the stored rollouts twice, and holds those
    alone that it shows.

    Args:
        folder: The run's.
        limit: How many of each.
        console: Where to print; None means standard output.
        which: Those to look at; None means all.

    Raises:
        InputError: The run has stored none, or none of these.
    """
    console, which = console or Console(), which or Which()
    marks = [_mark(row) for row in read(folder) if which.has(row)]
    if not marks:
        kinds = Counter(kind for row in read(folder) for kind in _verdicts(row))
        steps = [row["step"] for row in read(folder)]
        raise InputError(
            f"none of the rollouts that {folder} has stored is one of those; they have the "
            f"verdicts {', '.join(sorted(kinds))} and are of steps {min(steps)} to {max(steps)}"
        )
    times = Counter(mark.said for mark in marks)
    latest = {mark.said: mark for mark in sorted(marks, key=lambda mark: mark.step)}
    best = _different(sorted(latest.values(), key=lambda m: (-m.reward, -m.step)), limit, ())
    are_alike = len({mark.reward for mark in marks}) == 1  # then none of them is worse
    ranked = sorted(latest.values(), key=lambda m: (m.reward, -m.step))
    worst = [] if are_alike else _different(ranked, limit, best)
    chosen = {*best, *worst}
    rows = {mark: row for row in read(folder) if (mark := _mark(row)) in chosen}
    steps_told = f"steps {min(mark.step for mark in marks)} to {max(mark.step for mark in marks)}"
    console.print(f"{len(marks)} stored rollouts of {folder.name}, {steps_told}", style="bold")
    first = f"all of reward {marks[0].reward:g}" if are_alike else "best"
    for title, shown, style in ((first, best, "green"), ("worst", worst, "red")):
        if shown:
            console.rule(f"[bold {style}]{title}", style=style)
        for mark in shown:
            console.print(_panel(rows[mark], style, times[mark.said]))


class _Mark(NamedTuple):
    """What tells a rollout from others: question and text by their hashes."""

    question: int
    text: int
    reward: float
    step: int

    @property
    def said(self) -> tuple[int, int, float]:
        """What was said, whenever."""
        return self.question, self.text, self.reward


def _mark(row: Row) -> _Mark:
    question = hash(row["question"] or row["prompt"])
    return _Mark(question, hash(row["response"]), row["reward"], row["step"])


def _different(ranked: Sequence[_Mark], limit: int, others: Sequence[_Mark]) -> list[_Mark]:
    """The first ones of different questions, none with a text of one before or of `others`."""
    questions: set[int] = set()
    texts = {mark.text for mark in others}
    found: list[_Mark] = []
    for mark in ranked:
        if len(found) < limit and mark.question not in questions and mark.text not in texts:
            found.append(mark)
            questions.add(mark.question)
            texts.add(mark.text)
    return found


def _verdicts(row: Row) -> set[str]:
    return {verdict["kind"] for verdict in json.loads(row["verdicts"]).values()}


def _panel(row: Row, style: str, times: int) -> Panel:
    verdicts = json.loads(row["verdicts"])
    credit = "" if row["credit"] is None else f"credit {row['credit']:+.3f}   "
    count = f"{times} times, the last at " if times > 1 else ""
    facts = Text(
        f"{count}step {row['step']}   version {row['version']}   reward {row['reward']:g}   "
        f"{credit}{row['num_tokens']} tokens   {row['finish_reason']}",
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
