"""`oapl init`: a commented recipe for a model and a data file, from a look at both.

The work is in `deploy/commands/_init/`: `looks` at model and data, `choices` of settings, and the
`recipe` as it is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a commented recipe for a model and a data file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.add_argument("--model", required=True, help="folder or hub name")
    parser.add_argument(
        "--data", required=True, type=Path, help="JSONL or Parquet file of problems"
    )
    parser.add_argument("--device", default="", help="cpu, cuda or npu (default: what torch sees)")
    parser.add_argument("-o", "--output", type=Path, default=Path("recipe.toml"), metavar="FILE")
    parser.add_argument("--force", action="store_true", help="replace FILE")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.commands._init.recipe import init

    for line in init(
        options.model,
        options.data,
        device=options.device,
        output=options.output,
        force=options.force,
    ):
        print(line)
    return 0
