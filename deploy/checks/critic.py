"""What can be known of a critic before a run: whether one is asked for, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from actors.data.tokenizer import load_model_config
from deploy.checks.model_files import check_sizes, count_parameters, has_weights
from deploy.checks.plugins import declared
from deploy.sizing.shape import Shape, critic_of, shape_of
from oapl.config import RunConfig
from oapl.config.listing import fields
from oapl.config.messages import shown
from oapl.config.sections import CriticSection
from oapl.errors import InputError


def has_critic(config: RunConfig) -> bool:
    """Whether the objective asks for values."""
    return "values" in declared(config).needs


def critic_rules(config: RunConfig) -> Iterator[str]:
    """Settings of a critic that is not asked for, or that is all that would be trained."""
    section = config.critic
    if not has_critic(config):
        for key in fields(CriticSection):
            value, default = getattr(section, key), getattr(CriticSection(), key)
            if value != default:
                yield (
                    f"critic.{key} = {shown(value)}: the objective {config.objective['name']} has "
                    "no critic; leave it out, or choose another objective.name"
                )
    elif section.warmup_steps >= config.run.max_steps:
        yield (
            f"critic.warmup_steps = {section.warmup_steps}: the critic alone would be updated in "
            f"all of run.max_steps ({config.run.max_steps}); lower it, or raise run.max_steps"
        )


def look_at_critic(
    config: RunConfig, policy: Any, shape: Shape, *, is_elsewhere: bool
) -> tuple[Shape, str]:
    """Refuse a critic that cannot value what the policy writes.

    A learner rank tries its policy's type of model out as it starts, and so knows that of a critic
    of the same type.

    Args:
        config: The run, whose objective asks for a critic.
        policy: The policy's configuration, as transformers reads it.
        shape: The policy's.
        is_elsewhere: The run is for another machine, which may have the weights.

    Returns:
        The critic's shape, and a line that describes it.

    Raises:
        InputError: It is of another type of model, or knows fewer tokens.
    """
    path, trust = config.critic.path, config.model.trust_remote_code
    if not path:
        made = critic_of(shape)
        return made, f"the model with a head of zeros, {made.parameters:,} parameters"
    model = load_model_config(path, trust, "critic.path")
    check_sizes(f"critic.path = {path!r}", model)
    if model.model_type != policy.model_type:
        raise InputError(
            f"critic.path = {path!r}: is a {model.model_type} model, but the policy is a "
            f"{policy.model_type} one, and how its rows are packed was tried out for that type "
            "only; use a critic of the policy's type, or leave critic.path out"
        )
    if model.vocab_size < policy.vocab_size:
        raise InputError(
            f"critic.path = {path!r}: knows {model.vocab_size} tokens, but the policy writes "
            f"{policy.vocab_size}; use a critic of the policy's vocabulary, or leave critic.path "
            "out"
        )
    folder, number = Path(path), 0
    if folder.is_dir() and not (is_elsewhere and not has_weights(folder)):
        number, _ = count_parameters(folder, "critic.path")
    made = critic_of(shape_of(model, number or None))
    return made, f"{path} ({model.model_type}), {made.parameters:,} parameters"


def check_vocabulary(config: RunConfig, tokenizer: Any) -> str:
    """Refuse a critic to which the policy's tokens mean something else.

    Args:
        config: Names the critic.
        tokenizer: The policy's.

    Returns:
        What could not be compared; empty if all was.

    Raises:
        InputError: A token that the two know by different numbers.
    """
    from transformers import AutoTokenizer

    path = config.critic.path
    try:
        theirs = AutoTokenizer.from_pretrained(
            path, trust_remote_code=config.model.trust_remote_code
        )
    except (OSError, ValueError, KeyError, ImportError):
        return f"critic: no tokenizer lies at critic.path = {path!r} to be compared"
    ours, others = tokenizer.get_vocab(), theirs.get_vocab()
    differing = sorted(set(ours.items()) ^ set(others.items()), key=lambda pair: pair[1])
    if differing:
        token, _ = differing[0]
        words = (
            f"{ours.get(token, 'unknown')} to the policy, "
            f"{others.get(token, 'unknown')} to the critic"
        )
        raise InputError(
            f"critic.path = {path!r}: its tokenizer is not the policy's: {token!r} is {words}; use "
            "a critic of the policy's vocabulary, or leave critic.path out"
        )
    return ""
