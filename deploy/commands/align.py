"""`oapl align`: the log-probs that rollouts were sampled with, beside a plain forward pass."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from oapl.errors import InputError

if TYPE_CHECKING:
    from oapl.groups_file import StoredGroup

HELP = "compare recorded log-probs with a plain forward pass of transformers"
BOUND = 1.05
"""Largest mean exp(|difference|) over all tokens that counts as aligned."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = (
        f"{HELP}: mean exp(|difference|) over the tokens, 1 is perfect; exit code 1 above the bound"
    )
    parser.add_argument(
        "folder", metavar="SET", type=Path, help="stored groups, or the folder of a run that has"
    )
    parser.add_argument("--model", required=True, help="the weights that sampled them")
    parser.add_argument(
        "--version", type=int, help="only groups of this version: the learner step of the weights"
    )
    parser.add_argument("--limit", type=int, default=64, help="rollouts at most (default 64)")
    parser.add_argument("--bound", type=float, default=BOUND, help=f"(default {BOUND})")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the weights (default float32)",
    )


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from rich.console import Console

    from deploy.commands._align.comparing import compare, plain_scorer

    groups = _groups(options.folder, options.version)
    found = compare(groups, plain_scorer(options.model, options.dtype), options.limit)
    screen = Console()
    of_rollouts = sorted(found.of_rollouts)
    middle, high = (of_rollouts[int(share * (len(of_rollouts) - 1))] for share in (0.5, 0.95))
    is_aligned = found.ratio <= options.bound
    lines = (
        f"{len(of_rollouts)} rollouts, {found.num_tokens:,} tokens, {found.left_out} left out",
        f"mean exp(|difference|) {found.ratio:.6f} over all tokens, largest difference "
        f"{found.largest:.4g} nats",
        f"per rollout: median {middle:.6f}, 95th percentile {high:.6f}, most {of_rollouts[-1]:.6f}",
        f"by tenth of a response: {' '.join(f'{ratio:.4f}' for ratio in found.of_tenths)}",
        f"{'aligned' if is_aligned else 'NOT aligned'}: the bound is {options.bound:g}",
    )
    for line in lines:
        screen.print(line, highlight=False, soft_wrap=True)
    return 0 if is_aligned else 1


def _groups(folder: Path, version: int | None) -> Iterator[StoredGroup]:
    """Those of one version: another one had other weights.

    Raises:
        InputError: There are none, or they are of several versions and none was asked for.
    """
    from oapl import groups_file
    from oapl.tracking.rollouts import FOLDER

    held = folder if groups_file.is_set(folder) else folder / FOLDER
    if not groups_file.is_set(held):
        raise InputError(
            f"{folder} holds no stored groups (groups-*.parquet); name a set, or the folder of a "
            "run that has stored some"
        )
    versions = sorted({group.version for group in groups_file.read(held)})
    if version is None and len(versions) > 1:
        raise InputError(
            f"{held} has groups of versions {', '.join(map(str, versions[:8]))}"
            f"{', ...' if len(versions) > 8 else ''}, each sampled by other weights; choose one by "
            "--version, and its weights by --model"
        )
    if version is not None and version not in versions:
        raise InputError(
            f"--version {version}: {held} has groups of versions "
            f"{', '.join(map(str, versions[:8]))} only"
        )
    return (g for g in groups_file.read(held) if version is None or g.version == version)
