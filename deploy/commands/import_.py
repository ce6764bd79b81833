"""`oapl import`: logged traces of other systems become stored groups.

The work is in `deploy/importing/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.commands import _shared

HELP = "make stored groups of logged traces"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See `deploy.commands.Verb`."""
    parser.description = (
        "Reads traces (.jsonl, .jsonl.gz, .parquet): a line has messages, the last of them the "
        "assistant's, or a prompt (text or messages) and a response; a reward; and what else is "
        "known. Writes them to OUT as the model sees them: the prompt by its template, the "
        "response behind it, EOS where it was not cut off (finish_reason: length). The traces of a "
        "prompt are a group: those of equal group or id, else of equal prompts. Text beside a "
        "prompt is taken just as it was sampled; an assistant's message must come through the "
        "template unchanged. What cannot be stored is refused with its line. A killed command "
        "leaves nothing; the same command begins again."
    )
    parser.add_argument("source", metavar="TRACES", type=Path, help="the traces")
    parser.add_argument("--out", required=True, type=Path, metavar="OUT", help="the set")
    parser.add_argument("--model", required=True, metavar="PATH", help="folder or hub name")
    _shared.add_overrides(parser)
    parser.add_argument(
        "--column",
        dest="columns",
        action="append",
        default=[],
        metavar="MEANING=KEY",
        help="which column is messages, prompt, response, reward, answer, reference, group, id, "
        "source, v_star, temperature or finish_reason, if not that of its name (completion and "
        "score are known too); a dot leads into a column, nothing behind = is no column",
    )
    parser.add_argument(
        "--score",
        action="store_true",
        help="have log-probs scored by the model at temperature 1, for objectives that read them",
    )
    parser.add_argument(
        "--sampled-by-model",
        action="store_true",
        help='the model itself sampled the responses; objective.anchor = "sampler" then has the '
        "learner score them, at whatever temperature they were sampled",
    )
    parser.add_argument(
        "--skip",
        action="store_true",
        help="leave out and count traces that are refused; a line that is no JSON ends it even so",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="REWARD",
        help="counted as right is a response whose reward is above this (default 0)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")


def run(options: argparse.Namespace) -> int:
    """See `deploy.commands.Verb`."""
    from deploy.importing import columns, running

    running.apply(
        options.source,
        options.out,
        running.config_of(options.model, options.overrides, scores=options.score),
        columns.from_words(options.columns),
        running.Options(
            scores=options.score,
            is_own=options.sampled_by_model,
            skip=options.skip,
            threshold=options.threshold,
            overwrite=options.overwrite,
        ),
    )
    return 0
