"""How rollouts are drawn in a run, and how the answers of its evaluations are."""

from __future__ import annotations

from typing import Any

from oapl.config import RunConfig, protocols
from oapl.config.sections import AnswersSection, EvalSource, ks_of
from oapl.evaluation.protocol import Protocol
from oapl.records import Sampling

DRAWN = ("temperature", "top_p", "top_k", "max_tokens")


def of_rollouts(config: RunConfig) -> Sampling:
    """As the section `rollout` says."""
    section = config.rollout
    return Sampling(
        temperature=section.temperature,
        top_p=section.top_p,
        top_k=section.top_k,
        max_tokens=section.max_tokens,
    )


def protocol_of(config: RunConfig, source: EvalSource) -> Protocol:
    """How an evaluation set is answered and judged.

    The section `eval`, under it the protocol of the set, under that what the set says itself; where
    `eval.as_rollouts` asks for that, the first draws answers as rollouts are.

    Args:
        config: The run.
        source: One of `eval.sources`.

    Raises:
        InputError: The set's protocol does not exist.
    """
    section, name = config.eval, source.protocol or config.eval.protocol
    said: dict[str, Any] = {key: getattr(section, key) for key in protocols.SETTINGS}
    if section.ks == ks_of(section.num_samples):
        del said["ks"]  # nobody's word: the set's own number says which
    if section.as_rollouts:
        said |= {key: getattr(config.rollout, key) for key in DRAWN}
    if source.protocol:
        said |= protocols.read(source.protocol, f"protocol of evaluation set {source.name!r}")
    said |= source.answers
    made = AnswersSection(**said)
    drawn = {key: getattr(made, key) for key in DRAWN}
    return Protocol(
        name=_told(name, made) if name else "",
        num_samples=made.num_samples,
        sampling=Sampling(**drawn | {"max_tokens": made.max_tokens or config.rollout.max_tokens}),
        greedy=made.greedy,
        ks=made.ks,
        threshold=made.threshold,
        category=source.category,
        reflection_words=section.reflection_words,
    )


def _told(name: str, made: AnswersSection) -> str:
    """The protocol's name, and whether something differs from what it says."""
    table = protocols.read(name)
    says = AnswersSection(**table)
    changed = [key for key in table if getattr(says, key) != getattr(made, key)]
    return f"{name} but for {', '.join(changed)}" if changed else name
