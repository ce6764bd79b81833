"""Whether a policy scores as `transformers` does: tried on three short sequences as a rank starts.

How the sequences of one row are told apart, what a training mode adds and what becomes of the
logits is each model type's own affair, and what goes wrong there goes wrong silently: so it is
measured, not listed. The sequences are heads of one another: one plain pass over the whole one has
the log-probs that every other way must give, and a model that sees its neighbour in a row can copy.
Whether all of the model takes part whatever the tokens are is measured on the way: a part that some
tokens reach is trained on some ranks only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from learner.models.policy import Policy
from learner.probing import packed
from oapl.config import RunConfig
from oapl.errors import InputError, first_line

LENGTHS = (12, 9, 7)
"""Of the sequences, in the order in which a row holds them."""
EXACT, ROUNDED = (2e-4, 0.01), (0.01, 0.35)
"""Mean |log-prob difference|, nats, in fp32 and in 16 bits: what is always let pass, and what never
is, however large the noise."""
REMEDY = "use a Llama, Qwen2 or Qwen3 model"
NOISE = 4.0
"""Between the two, what is so many times the difference that arithmetic makes is the model's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How far log-probs are from those they should equal, in nats per token."""

    mean: float
    largest: float

    def __str__(self) -> str:
        return f"{self.mean:.2g} nats per token (largest {self.largest:.2g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What was measured.

    Attributes:
        alone: Each sequence in a row of its own, against plain `transformers`.
        packed: The second and third sequence of one row, against each in a row of its own.
        noise: The first one of that row, which has nobody to see: what arithmetic alone does.
        training: Each in a row of its own in training mode, against evaluation mode.
        partial: Modules with weights that took part in these sequences, and not in one of a single
            token that is repeated.
    """

    alone: Gap
    packed: Gap
    noise: Gap
    training: Gap
    partial: tuple[str, ...] = ()


def check(config: RunConfig, policy: Policy, device: torch.device) -> None:
    """Refuse a model that the learner would train on other log-probs than it has.

    All ranks make equal calls and find the same. Leaves the policy in evaluation mode.

    Args:
        config: The run's.
        policy: Of any sharding.
        device: Where its inputs belong.

    Raises:
        InputError: What differs, how much, and the remedy.
    """
    place = f"model.path = {config.model.path!r}: this {policy.lm.config.model_type} model"
    try:
        trial = try_out(policy, device)
    except (TypeError, AttributeError, ValueError, NotImplementedError) as error:
        raise InputError(
            f"{place} takes no positions without a mask, or has no hidden states before an output "
            f"layer ({type(error).__name__}: {first_line(error)}); {REMEDY}"
        ) from error
    if problem := _problem(config, trial):
        raise InputError(f"{place} {problem}")


def try_out(policy: Policy, device: torch.device) -> Trial:
    """Score the sequences in every way that training does.

    Args:
        policy: See `check`.
        device: See `check`.
    """
    vocab_size = policy.lm.config.get_text_config().vocab_size
    sequence = np.random.default_rng(0).integers(vocab_size, size=LENGTHS[0], dtype=np.int32)
    copies = torch.tensor(np.stack([sequence] * len(LENGTHS)), dtype=torch.int64, device=device)
    with torch.no_grad():
        policy.eval()
        plain = policy.plain_logprobs(copies)
        with _taking_part(policy) as by_many:
            alone = _scores(policy, device, sequence, row_tokens=1)
        with _taking_part(policy) as by_one:
            _scores(policy, device, sequence[:1].repeat(2), row_tokens=1)
        row = _scores(policy, device, sequence, row_tokens=0)
        policy.train()
        training = _scores(policy, device, sequence, row_tokens=1)
        policy.eval()
    whole = torch.cat([plain[i, : length - 1] for i, length in enumerate(LENGTHS)])
    first = LENGTHS[0] - 1
    return Trial(
        alone=_gap(alone, whole),
        packed=_gap(row[first:], alone[first:]),
        noise=_gap(row[:first], alone[:first]),
        training=_gap(training, alone),
        partial=tuple(name for name in by_many if name not in by_one),
    )


@contextmanager
def _taking_part(policy: Policy) -> Iterator[dict[str, None]]:
    """The names of the modules with weights of their own that are called within this."""
    called: dict[str, None] = {}

    def note(name: str) -> None:
        called[name] = None

    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: note(name))
        for name, module in policy.named_modules()
        if any(weight.requires_grad for weight in module.parameters(recurse=False))
    ]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def _problem(config: RunConfig, trial: Trial) -> str:
    """What to tell the user; nothing if all is well."""
    least, most = EXACT if config.learner.precision == "fp32" else ROUNDED
    bound = max(least, min(most, NOISE * trial.noise.mean))
    if not trial.alone.mean <= bound:  # NaN is out of bounds too
        return (
            "makes more of its logits than hidden states times a matrix: log-probs made so are "
            f"{trial.alone} from its own; {REMEDY}"
        )
    if not trial.training.mean <= bound:
        return (
            "has something random in training mode, jitter perhaps: its log-probs are "
            f"{trial.training} from those in evaluation mode, which are what samples; set it to 0 "
            f"in config.json, or {REMEDY}"
        )
    if config.learner.row_tokens != 1 and not trial.packed.mean <= bound:
        return (
            "does not keep the sequences of a packed row apart: their log-probs are "
            f"{trial.packed} from those of each alone; set learner.row_tokens = 1, which gives "
            "each a row of its own"
        )
    stage = config.learner.zero_stage
    if trial.partial and stage and config.learner.num_ranks > 1:
        return (
            f"has {len(trial.partial)} parts that only some tokens reach "
            f"({', '.join(trial.partial[:3])}), and at learner.zero_stage = {stage} the gradients "
            "of ranks that use different parts cannot be added up; set learner.zero_stage = 0, or "
            "learner.num_ranks = 1"
        )
    return ""


def _scores(
    policy: Policy, device: torch.device, sequence: np.ndarray, *, row_tokens: int
) -> Tensor:
    """Log-probs of the heads of `sequence`, one after the other, float32 [N]."""
    heads = [sequence[:length] for length in LENGTHS]
    (micro_batch,) = packed(heads, len(LENGTHS) * LENGTHS[0], row_tokens)
    arrays = (micro_batch.token_ids, micro_batch.positions, micro_batch.response_mask)
    scores, _ = policy(
        *(torch.tensor(array, device=device) for array in arrays),
        temperature=1.0,
        with_entropy=False,
    )
    return torch.as_tensor(scores)


def _gap(found: Tensor, expected: Tensor) -> Gap:
    differences = (found - expected).abs()
    return Gap(mean=float(differences.mean()), largest=float(differences.max()))
