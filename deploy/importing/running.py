"""A file of traces is read, and a stored set written.

Invariants: the result is whole or absent, so the same command after a kill begins anew; every line
is stored, or refused with its place, or skipped and counted. `grouping` says what memory it takes.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from actors.data.context import context_tokens
from actors.data.fingerprints import header_of
from actors.data.tokenizer import load_tokenizer
from deploy.filtering.running import check_paths
from deploy.importing import scoring
from deploy.importing.columns import Columns
from deploy.importing.grouping import Builder, Skipped, counted, grouped
from deploy.importing.rendering import Renderer
from deploy.importing.report import Report
from deploy.importing.scoring import EngineScorer, Scorer
from deploy.importing.traces import Reader
from oapl.config import RunConfig
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.groups_file import StoredGroup, Writer
from oapl.replay.stored import OF_ANOTHER, OF_THE_MODEL
from oapl.whole_files import written_aside

READ = (
    *("data.template", "data.system_prompt", "data.template_options", "data.date"),
    *("model.trust_remote_code", "rollout.context_tokens"),
)
"""Settings that decide about tokens, and may be overridden."""
READ_BY_ENGINE = (
    *("model.dtype", "rollout.engine", "rollout.engine_options", "rollout.tensor_parallel_size"),
    *("cluster.device", "cluster.engine_threads", "cluster.start_timeout_s", "sync.timeout_s"),
)
"""And those of the engine that scores."""

ScorerOf = Callable[[RunConfig], contextlib.AbstractContextManager[Scorer]]


def config_of(model: str, overrides: Sequence[str], *, scores: bool) -> RunConfig:
    """The settings of an import.

    Args:
        model: Folder or hub name.
        overrides: KEY=VALUE.
        scores: Whether an engine scores.

    Raises:
        InputError: A setting is wrong, or none that is read here.
    """
    known = READ + READ_BY_ENGINE if scores else READ
    for override in overrides:
        key = override.partition("=")[0]
        if not any(key == one or key.startswith(f"{one}.") for one in known):
            raise InputError(f"{override}: an import reads {', '.join(known)} alone; leave it out")
    config = load_config(None, overrides)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, path=model))


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an import goes.

    Attributes:
        scores: Have the log-probs of the responses scored by the model.
        is_own: The model itself sampled the responses, so that a learner that starts from it can
            score them, at any temperature.
        skip: Leave out and count traces that are refused; else the first one ends the import.
        threshold: A response is right where its reward is above this, for the report.
        overwrite: Replace a set that is there.
    """

    scores: bool = False
    is_own: bool = False
    skip: bool = False
    threshold: float = 0.0
    overwrite: bool = False


def apply(
    source: Path,
    out: Path,
    config: RunConfig,
    columns: Columns,
    options: Options,
    *,
    console: Console | None = None,
    scorer_of: ScorerOf = EngineScorer,
) -> Report:
    """Write a set of what a file of traces holds.

    Args:
        source: The traces, JSONL or Parquet.
        out: Folder of the result: shards and `_import.json`.
        config: Of `config_of`.
        columns: Which mean what.
        options: How it goes.
        console: Where to show progress and the report.
        scorer_of: Makes what scores.

    Returns:
        What was done.

    Raises:
        InputError: A trace or a setting is refused, or nothing is left; nothing is written.
        EngineError: The engine failed; nothing is written.
    """
    console = console or Console(stderr=True)
    check_paths(source, out, options.overwrite)
    if options.scores:
        scoring.set_environment(config)
    skipped = Skipped(is_allowed=options.skip)
    builder, report = _begin(source, config, options, skipped)
    traces = Reader(source, columns, at_one=options.scores)
    counts = counted(traces, skipped)
    scorer: contextlib.AbstractContextManager[Scorer | None]
    scorer = scorer_of(config) if options.scores else contextlib.nullcontext()
    with scorer as score, written_aside(out) as part, Writer(part, report.header) as writer:
        groups = _built(traces, counts, builder, skipped, console)
        for group in groups if score is None else scoring.scored(groups, score):
            writer.add(group)
            report.add(group)
        _demand_groups(report)
        report.write(part)
    report.show(out, console)
    return report


def _begin(
    source: Path, config: RunConfig, options: Options, skipped: Skipped
) -> tuple[Builder, Report]:
    """What writes groups as a run would, and what counts them."""
    tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
    header = header_of(
        config, tokenizer, made_by="import", logprobs="scored" if options.scores else None
    )
    room = context_tokens(config) - int(options.scores)  # an engine scores what leaves it one more
    version = OF_THE_MODEL if options.is_own else OF_ANOTHER
    builder = Builder(Renderer(config, tokenizer, room, version), skipped)
    return builder, Report(
        source=source,
        header=header,
        threshold=options.threshold,
        skipped=skipped,
        left_out=builder.left_out,
    )


def _built(
    traces: Reader, counts: Counter[bytes], builder: Builder, skipped: Skipped, console: Console
) -> Iterator[StoredGroup]:
    found, total = grouped(traces, counts, skipped), len(counts)
    is_shown = console.is_terminal
    for group in track(
        found, "groups", total=total, console=console, disable=not is_shown, transient=True
    ):
        built = builder.build(group)
        if built is not None:
            yield built


def _demand_groups(report: Report) -> None:
    if not report.stored.groups:
        why = "; ".join(report.skipped.first.values()) or "it has no lines"
        raise InputError(f"{report.source}: no trace is left to store: {why}")
