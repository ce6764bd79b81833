"""Rows of a run's data, read as the run will read them; what nobody could judge is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.data import prompts
from actors.data.context import context_tokens, evaluation_context, prompt_room
from actors.data.encoding import Encoded, RowCounts
from actors.data.ordering import Drawing, order_of
from deploy.checks.data_facts import SourceData
from oapl.config import RunConfig
from oapl.config.objective import is_judged, source_of
from oapl.errors import InputError, with_count
from oapl.records import Prompt
from oapl.replay.order import DrawOrder
from reward_server import settings as rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRead:
    """What was read of the sources.

    Attributes:
        counts: What became of the rows, by source.
        prompts: Of all sources; SFT: of the examples.
        order: Of the draws, which goes on from a checkpoint's cursor; None where nothing is drawn.
    """

    counts: Mapping[str, RowCounts]
    prompts: list[Prompt]
    order: DrawOrder | None = None

    def by_source(self, config: RunConfig) -> dict[str, SourceData]:
        """The prompts that are trained on, by source."""
        max_tokens = config.rollout.max_tokens
        room = prompt_room(context_tokens(config), "rollout.max_tokens", max_tokens)
        return {
            name: SourceData(
                prompts=[prompt for prompt in self.prompts if prompt.source == name],
                counts=count,
                room=room,
            )
            for name, count in self.counts.items()
        }

    def told(self, what: str, notes: list[str]) -> dict[str, str]:
        """A fact per source.

        Args:
            what: It is read for.
            notes: Gets a line for each source that lost rows.
        """
        for name, count in self.counts.items():
            if count.dropped or count.truncated:
                notes.append(f"{what} {name}: {count}")
        return {f"{what} {name}": str(count) for name, count in self.counts.items()}


def training_data(config: RunConfig, tokenizer: Any) -> DataRead:
    """Read `data.sources`: problems, or worked examples.

    Args:
        config: The run.
        tokenizer: The model's.

    Raises:
        InputError: A source cannot be read, or a row cannot be judged.
    """
    if source_of(config) == "examples":
        examples = prompts.ExampleQueue(config, tokenizer)
        return DataRead(counts=examples.counts, prompts=examples.prompts, order=examples.order)
    encoded = prompts.read_training(config, tokenizer)
    read = _read(encoded, config)
    order = order_of(read.prompts, Drawing.of(config))
    return DataRead(counts=read.counts, prompts=read.prompts, order=order)


def evaluation_data(config: RunConfig, tokenizer: Any) -> DataRead:
    """Read `eval.sources`.

    Args:
        config: The run.
        tokenizer: The model's.

    Raises:
        InputError: A source cannot be read, or a row cannot be judged.
    """
    prompt_room(evaluation_context(config), "eval.max_tokens", config.eval.max_tokens)
    return _read(prompts.read_evaluated(config.eval.sources, config, tokenizer), config)


def _read(encoded: Mapping[str, Encoded], config: RunConfig) -> DataRead:
    _demand_judgeable(encoded, config)
    return DataRead(
        counts={name: part.counts for name, part in encoded.items()},
        prompts=[prompt for part in encoded.values() for prompt in part.prompts],
    )


def _demand_judgeable(encoded: Mapping[str, Encoded], config: RunConfig) -> None:
    """Refuse a row by which its verifiers could judge nothing: its group would only fail."""
    if not is_judged(config):
        return
    checks = rewards.prompt_checks(config)
    for part in encoded.values():
        failed: list[str] = []
        for problem, prompt in zip(part.problems, part.prompts, strict=True):
            for name in prompt.verifiers:
                try:
                    checks[name](prompt)
                except ValueError as error:
                    failed.append(
                        f"{problem.place}: the verifier {name} could judge no response: {error}"
                    )
        if failed:
            raise InputError(with_count(failed, len(part.prompts)))
