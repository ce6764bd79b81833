"""What a dry run says of the evaluation sets: how each is answered, and what it can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from oapl.comparison.power import smallest_difference
from oapl.comparison.words import smallest_told
from oapl.config import RunConfig
from oapl.errors import InputError, with_count
from oapl.evaluation.measures.categories import category_of
from oapl.records import Prompt
from oapl.sampling import protocol_of


def evaluation_facts(config: RunConfig, prompts: Sequence[Prompt]) -> dict[str, str]:
    """Say how each set is answered, and the smallest difference that it can show.

    Args:
        config: The run.
        prompts: Of all sets.

    Returns:
        Name to one line of text, as of `PreflightReport.facts`.
    """
    sizes = Counter(prompt.source for prompt in prompts)
    facts = {}
    for source in config.eval.sources:
        if size := sizes[source.name]:
            protocol = protocol_of(config, source)
            samples = protocol.num_samples or 1
            least = smallest_difference(size, samples)
            facts[f"eval {source.name} answers"] = str(protocol)
            facts[f"eval {source.name} shows"] = smallest_told(least, size, samples)
    return facts


def demand_categories(config: RunConfig, prompts: Sequence[Prompt]) -> None:
    """Refuse a set that shall be told by category where a row has none.

    Args:
        config: The run.
        prompts: Of all sets.

    Raises:
        InputError: Rows lack the column.
    """
    for source in config.eval.sources:
        if source.category:
            lost = list(_without(source.category, source.name, prompts))
            if lost:
                size = sum(prompt.source == source.name for prompt in prompts)
                raise InputError(with_count(lost, size))


def _without(column: str, name: str, prompts: Sequence[Prompt]) -> Iterator[str]:
    for prompt in prompts:
        if prompt.source == name and category_of(prompt.reference, column) is None:
            there = ", ".join(sorted(prompt.reference)) or "none"
            yield (
                f"{prompt.id}: no column {column!r}, which is the category of evaluation set "
                f"{name!r}; its columns are {there}: name one of them, or leave category out"
            )
