"""Filters are applied to a stored set, one group at a time, and a new set is written.

Invariants: the result is whole or absent, so the same command after a kill begins anew; memory does
not grow with the set, but for what a filter remembers (its file says how much); every group goes
through the filters once, in the order of the set, and each filter sees what those before have left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import track

from deploy.filtering import report
from deploy.filtering.choosing import Chosen
from deploy.filtering.report import FINDINGS, Stage
from deploy.filters.base import Finding
from oapl import groups_file
from oapl.errors import InputError
from oapl.groups_file import StoredGroup, Writer
from oapl.whole_files import written_aside


def apply(
    source: Path,
    out: Path,
    filters: Sequence[Chosen],
    *,
    threshold: float,
    overwrite: bool = False,
    console: Console | None = None,
) -> list[Stage]:
    """Write what the filters leave of a set, and what each of them did.

    Args:
        source: The stored groups.
        out: Folder of the result: shards, `_filter.json` and findings.
        filters: At least one, in order.
        threshold: A rollout is right where its reward is above this.
        overwrite: Replace a set that is there.
        console: Where to show progress and the table.

    Returns:
        What came to each filter and what passed it.

    Raises:
        InputError: The set is damaged, `out` is in the way, or a filter lacks what it looks at;
            nothing is written.
    """
    console = console or Console(stderr=True)
    check_paths(source, out, overwrite)
    header = replace(groups_file.header(source), made_by="filter")
    stages = [Stage(chosen) for chosen in filters]
    with written_aside(out) as part, Writer(part, header) as writer:
        for group in _read(source, console):
            left = _left(group, stages, threshold, part)
            if left is not None:
                writer.add(left)
        report.write(part, source, threshold, stages)
    report.show(out, stages, console)
    return stages


def check_paths(source: Path, out: Path, overwrite: bool) -> None:
    """Refuse a result that would be in the way of something.

    Args:
        source: What is read.
        out: Where a stored set is to be written.
        overwrite: Replace a set that is there.

    Raises:
        InputError: `out` holds the input, is something else, or is there.
    """
    if source.resolve() == out.resolve() or out.resolve() in source.resolve().parents:
        raise InputError(f"--out {out} is or holds the input; write the result to another folder")
    if not out.exists():
        return
    if not out.is_dir() or not groups_file.is_set(out):
        raise InputError(f"--out {out} exists and is no stored set; name another folder")
    if not overwrite:
        raise InputError(f"--out {out} exists; replace it by --overwrite, or name another folder")


def _read(source: Path, console: Console) -> Iterator[StoredGroup]:
    paths = groups_file.shards(source)
    is_shown = console.is_terminal
    for path in track(paths, "shards", console=console, disable=not is_shown, transient=True):
        yield from groups_file.read_shard(path)


def _left(
    group: StoredGroup, stages: Sequence[Stage], threshold: float, folder: Path
) -> StoredGroup | None:
    """What all filters leave of a group; None for nothing."""
    for number, stage in enumerate(stages):
        stage.came.add(group, threshold)
        choice = stage.chosen.filter.choose(group)
        if choice.finding is not None:
            stage.num_findings += 1
            _note(choice.finding, folder / FINDINGS.format(number, stage.chosen.name))
        if not choice.is_kept.any():
            return None
        if not choice.is_kept.all():
            group = group.keeping(choice.is_kept)
        stage.passed.add(group, threshold)
    return group


def _note(finding: Finding, path: Path) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(finding, ensure_ascii=False) + "\n")
