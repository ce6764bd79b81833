"""What a validation error means, in words: the key, the value, the rule and the remedy.

One line per problem, the dotted key first. Settings that other trainers have and this one has not
are refused by name: a person who writes `lora.r = 16` is to read that there is no LoRA, not that
the key is unknown.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from oapl.config import RunConfig
from oapl.config.listing import dotted, field_at, fields, literal, section_at, setting, settings

LONGEST_VALUE = 80

TYPES = {
    "int": "a whole number",
    "float": "a number",
    "string": "text, in quotes",
    "bool": "true or false",
    "dict": "a table",
    "mapping": "a table",
    "tuple": "a list",
    "dataclass": "a section",
}
"""By the beginning of pydantic's error type (`int_type`, `int_parsing`, `int_from_float`)."""

BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}

CLIPPING = (
    "the bounds of a clipped ratio are objective.eps_low and objective.eps_high, of the objectives "
    "that have one: grpo, ppo, remix"
)
REFERENCE = (
    "the reference is the model that training began with, set anew by the section reference; only "
    "objectives with a KL penalty have one"
)
PENALTY = (
    "a KL penalty is objective.kl_coefficient and objective.kl_estimator, of grpo, ppo and remix; "
    "oapl is anchored at the policy that sampled, by objective.beta2"
)
CRITIC = "only the objectives ppo and remix have a critic"
ABSENT = {
    "lora": "there are no LoRA adapters: all weights are trained",
    "peft": "there are no adapters: all weights are trained",
    "qlora": "there are no adapters and no quantised training: all weights are trained",
    "load_in": "there is no quantised training; model.dtype and learner.precision choose precision",
    "quantization": "there is no quantisation; model.dtype chooses the engine's data type",
    "pipeline_parallel": "there is no pipeline parallelism; ZeRO shards the learner "
    "(learner.num_ranks, learner.zero_stage)",
    "sequence_parallel": "there is no sequence parallelism; learner.micro_batch_tokens and "
    "learner.activation_checkpointing bound the memory of long rollouts",
    "ulysses": "there is no sequence parallelism; learner.micro_batch_tokens bounds memory",
    "context_parallel": "there is no context parallelism; learner.micro_batch_tokens bounds memory",
    "expert_parallel": "there is no expert parallelism",
    "tensor_parallel": "the learner has no tensor parallelism, ZeRO shards it "
    "(learner.zero_stage); an engine's is rollout.tensor_parallel_size",
    "fsdp": "the learner runs on DeepSpeed, not FSDP; see learner.zero_stage",
    "megatron": "the learner runs on DeepSpeed, not Megatron; see learner.zero_stage",
    "deepspeed": "DeepSpeed's own keys are written by the learner; see the section learner",
    "old_log_prob": "log-probs of the policy before an iteration are computed where the objective "
    "needs them (grpo); oapl uses those that the engine recorded (inference_logprobs)",
    "old_logprob": "log-probs of the policy before an iteration are computed where the objective "
    "needs them (grpo); oapl uses those that the engine recorded (inference_logprobs)",
    "ref_model": REFERENCE,
    "reference_model": REFERENCE,
    "kl_": PENALTY,
    "init_kl": PENALTY,
    "clip_r": CLIPPING,
    "cliprange": CLIPPING,
    "clip_low": CLIPPING,
    "clip_high": CLIPPING,
    "epsilon_": CLIPPING,
    "value_loss": f"{CRITIC}; objective.value_coefficient weighs its loss",
    "vf_": f"{CRITIC}; objective.value_coefficient weighs its loss",
    "cliprange_value": f"{CRITIC}; its clip is objective.value_clip",
    "gae": f"{CRITIC}, and so GAE: objective.gamma and objective.lam",
    "reward_model": "there is no reward model; verifiers judge (reward.verifiers), your own "
    "function among them",
}
"""By the beginning of the name of a setting, or of the section it would be in."""

ELSEWHERE = {
    "learning_rate": "optimizer.lr",
    "critic_learning_rate": "critic.lr",
    "critic_lr": "critic.lr",
    "critic_warmup": "critic.warmup_steps",
    "value_model": "critic.path",
    "value_model_path": "critic.path",
    "critic_model_path": "critic.path",
    "max_grad_norm": "optimizer.clip_norm",
    "grad_clip": "optimizer.clip_norm",
    "ppo_epochs": "learner.updates_per_batch",
    "num_ppo_epochs": "learner.updates_per_batch",
    "num_iterations": "learner.updates_per_batch",
    "num_mini_batches": "learner.mini_batches",
    "ppo_mini_batch_size": "learner.batch_size",
    "mini_batch_size": "learner.batch_size",
    "entropy_coeff": "objective.entropy_coefficient",
    "n": "rollout.group_size",
    "num_generations": "rollout.group_size",
    "n_samples_per_prompt": "rollout.group_size",
    "train_batch_size": "learner.batch_size",
    "per_device_train_batch_size": "learner.batch_size",
    "gradient_accumulation_steps": "learner.micro_batch_tokens",
    "micro_batch_size": "learner.micro_batch_tokens",
    "max_new_tokens": "rollout.max_tokens",
    "max_response_length": "rollout.max_tokens",
    "max_completion_length": "rollout.max_tokens",
    "max_prompt_length": "rollout.context_tokens",
    "max_model_len": "rollout.context_tokens",
    "policy_lag": "sync.interval",
    "staleness": "sync.interval",
    "total_epochs": "data.epochs",
    "num_train_epochs": "data.epochs",
    "output_dir": "run.dir",
    "model_name_or_path": "model.path",
    "gradient_checkpointing": "learner.activation_checkpointing",
    "offload": "learner.offload",
    "cpu_offload": "learner.offload",
    "optimizer_offload": "learner.offload",
    "offload_optimizer": "learner.offload",
    "offload_optimizer_device": "learner.offload",
    "param_offload": "learner.offload",
    "offload_param": "learner.offload",
    "offload_params": "learner.offload",
    "offload_model": "learner.offload",
    "offload_policy": "learner.offload",
}
"""What other trainers call a setting, and its name here."""

RENAMED = {
    "run.max_restarts": "restarts.rank.max_restarts",
    "learner.max_restarts": "restarts.rank.max_restarts",
    "cluster.max_restarts": "restarts.worker.max_restarts",
    "cluster.max_worker_restarts": "restarts.worker.max_restarts",
}
"""What a setting was called in a version before this one, and its name now."""

FORMER_VALUES = {
    ("reward.options.math.mode", "rule_or_math_verify"): 'is called "prorl" now',
    ("tracking.rollout_groups_per_step", 0): 'is tracking.store_groups = "off" now',
}
"""The same of values, by their setting."""


def explain(error: ValidationError, root: type = RunConfig, prefix: str = "") -> list[str]:
    """One line per problem.

    Args:
        error: Of building `root`.
        root: The section, or plugin's Config, that was built.
        prefix: Dotted key of `root` with its dot, empty for a whole run.
    """
    return [_line(problem, root, prefix) for problem in error.errors(include_url=False)]


def shown(value: Any) -> str:
    """A value as it stands in a message."""
    text = literal(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def nearest(name: str, known: Sequence[str]) -> str:
    """`did you mean x? `, or nothing.

    Args:
        name: As it was written.
        known: What it could have been.
    """
    return _suggest(difflib.get_close_matches(name, known, n=2, cutoff=0.55))


def unknown_key(path: Sequence[int | str], root: type = RunConfig, prefix: str = "") -> str:
    """The line for a key that no section has.

    Args:
        path: Of the key.
        root, prefix: As of `explain`.
    """
    key, name = prefix + dotted(path), str(path[-1])
    if now := RENAMED.get(dotted(path)):
        return f"{key}: is called {now} now"
    for part in path:
        if words := _absent(str(part)):
            return f"{key}: {words}; leave it out"
    if here := ELSEWHERE.get(name.lower()):
        return f"{key}: unknown here; the setting is called {here}"
    inside = section_at(path[:-1], root)
    where = (prefix + dotted(path[:-1])).rstrip(".")
    known = sorted(fields(inside)) if inside is not None else []
    what = f"section {where}" if where else "the configuration"
    near = difflib.get_close_matches(name, known, n=2, cutoff=0.55)
    same = [s.key for s in settings() if s.key.split(".")[-1] == name]
    found = _suggest(same or [f"{where}.{k}".lstrip(".") for k in near])
    return f"{key}: unknown setting; {found}{what} has {', '.join(known) or 'no settings'}"


def _line(problem: ErrorDetails, root: type, prefix: str) -> str:
    path, kind = problem["loc"], problem["type"]
    if not path:  # of the section as a whole
        return f"{prefix.rstrip('.')}: {problem.get('ctx', {}).get('error', problem['msg'])}"
    if kind == "unexpected_keyword_argument":
        return unknown_key(path, root, prefix)
    key = prefix + dotted(path)
    info = field_at(path, root)
    about = setting(key, info) if info is not None else None
    remedy = ""
    if about is not None:
        default = "" if about.default is None else f"; default {shown(about.default)}"
        remedy = f" ({about.help.rstrip('.')}{default})" if about.help else default
    if kind in ("missing", "missing_argument"):
        return f"{key}: is needed and missing{remedy}"
    if was := _former(key, problem["input"]):
        return f"{key} = {shown(problem['input'])}: {was}"
    section = section_at(path, root)
    if section is not None:
        remedy = f"; set its keys: {', '.join(sorted(fields(section)))}"
    return f"{key} = {shown(problem['input'])}: {_rule(problem, about)}{remedy}"


def _rule(problem: ErrorDetails, about: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        return f"must be {words} {context[name]}"
    if kind == "literal_error":
        choices = about.choices if about is not None else ()
        known = ", ".join(choices) or context["expected"]
        return f"{nearest(str(problem['input']), choices)}must be one of {known}"
    if kind == "finite_number":
        return "must be finite"
    if kind == "value_error":  # a rule of our own, in words
        return str(context["error"])
    expected = TYPES.get(kind.split("_")[0])
    return f"must be {expected}" if expected else problem["msg"]


def _former(key: str, value: Any) -> str | None:
    return FORMER_VALUES.get((key, value)) if isinstance(value, str | int) else None


def _absent(name: str) -> str | None:
    name = name.lower().replace("-", "_")
    found = [start for start in ABSENT if name.startswith(start)]
    return ABSENT[max(found, key=len)] if found else None


def _suggest(names: Sequence[str]) -> str:
    return f"did you mean {' or '.join(names)}? " if names else ""
