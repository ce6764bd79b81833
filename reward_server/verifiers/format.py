"""The shape of a response: a thought and an answer, each in its tags.

loose: at least one `<think>` block and at least one `<answer>` block outside the thoughts, which
may speak of tags. strict: exactly one `<think>` block, and after it exactly one `<answer>` block,
no tag more. A block is an opening tag and the next closing tag of its kind with something between;
where the prompt itself ended with `<think>`, the response's first block is open already. Text
outside the blocks is free.
`require = "think"` asks for the thought alone, paired and not empty (ReMix section 4.4.4).
Source: the two rules are those of "Model collapse" 1 in the Perplexity report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from oapl.config.fields import section
from oapl.records import Prompt, Rollout, Verdict
from oapl.tags import blocks, tag
from reward_server.verifiers import base


@section
class Config:
    """Options of the format verifier."""

    rule: Literal["loose", "strict"] = "loose"
    """loose: at least one block of each kind; strict: exactly one of each, in order."""
    require: Literal["think_and_answer", "think"] = "think_and_answer"
    """Which blocks; where it is think, answer tags are free text."""
    truncated: base.Truncated = "wrong"
    """A response cut off before EOS: 0 without a look, or judge it by what it says."""


class FormatVerifier:
    """Looks at tags alone: 1 where the rule is kept, else 0. See `oapl.interfaces.Verifier`.

    What both rules say is in the parts.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._wanted = config.require.split("_and_")

    def verify(self, prompt: Prompt, rollout: Rollout) -> Verdict:
        """Look at the tags of a response."""
        text = ("<think>" if base.opens_thinking(prompt) else "") + rollout.text
        num_tags = len(tag("|".join(self._wanted)).findall(text))
        found = blocks(text, self._wanted)
        loose = {name: float(name in found) for name in self._wanted}
        is_strict = found == self._wanted and num_tags == 2 * len(found)
        parts = {**loose, "loose": float(all(loose.values())), "strict": float(is_strict)}
        cut = base.cut_off(rollout, self._config.truncated, 0.0)
        if cut:
            return replace(cut, parts=parts)
        is_right = bool(parts[self._config.rule])
        return Verdict(
            kind="accepted" if is_right else "malformed",
            reward=float(is_right),
            detail="" if is_right else _complaint(found, self._wanted, num_tags),
            parts=parts,
        )


def build(config: Config) -> FormatVerifier:
    """See `VerifierFile`."""
    return FormatVerifier(config)


def _complaint(found: Sequence[str], wanted: Sequence[str], num_tags: int) -> str:
    missing = [name for name in wanted if name not in found]
    if missing:
        return f"no {' and no '.join(missing)} block"
    if list(found) != list(wanted):
        return f"blocks {', '.join(found[:6])}; wanted {', '.join(wanted)}"
    return f"{num_tags} tags around {len(found)} blocks"


DECLARES = base.Traits(runs_programs=False)
