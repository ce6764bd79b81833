"""A causal language model of `transformers` as the learner trains it: its precision, no dropout."""

from __future__ import annotations

from typing import Any

import torch

from oapl.config import RunConfig
from oapl.errors import InputError, first_line


def load_language_model(config: RunConfig, path: str, setting: str) -> Any:
    """Load a model in the learner's precision, on the CPU.

    Args:
        config: The run's.
        path: Folder or hub name.
        setting: That names it; stands in errors.

    Raises:
        InputError: transformers makes no such model of it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    options = config.model
    shape = AutoConfig.from_pretrained(path, trust_remote_code=options.trust_remote_code)
    _disable_dropout(shape)  # the log-prob contract: the policy that is scored is the one sampled
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path,
            config=shape,
            dtype=torch.bfloat16 if config.learner.precision == "bf16" else torch.float32,
            attn_implementation=options.attn_implementation,
            trust_remote_code=options.trust_remote_code,
        )
    except (ValueError, ImportError) as error:
        raise _no_model(config, f"{setting} = {path!r}", shape, error) from error
    if config.learner.activation_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _disable_dropout(shape: Any) -> None:
    """Of values, of layers, of whatever a model type drops at random."""
    for part in {id(part): part for part in (shape, shape.get_text_config())}.values():
        for key, value in part.to_dict().items():
            if "drop" in key and isinstance(value, float):
                setattr(part, key, 0.0)


def _no_model(config: RunConfig, place: str, shape: Any, error: Exception) -> InputError:
    """Of the attention that was asked for, or of the type at all."""
    from transformers import AutoModelForCausalLM

    why = first_line(error)
    try:
        with torch.device("meta"):
            AutoModelForCausalLM.from_config(
                shape,
                attn_implementation="eager",
                trust_remote_code=config.model.trust_remote_code,
            )
    except (ValueError, ImportError):
        return InputError(
            f"{place}: transformers makes no causal language model of type "
            f"{shape.model_type} of it ({why}); use a Llama, Qwen2 or Qwen3 model"
        )
    return InputError(
        f"model.attn_implementation = {config.model.attn_implementation!r}: not for a model of "
        f'type {shape.model_type} here ({why}); set it to "eager", which is slower, or use another '
        "model"
    )
