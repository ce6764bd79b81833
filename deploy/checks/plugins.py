"""Rules about plugins: that there is such a file, that its options build its `Config`, and what an
objective needs or ignores. Plugin files import no heavy library, so loading one is quick.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from pydantic import ValidationError

from oapl.config import RunConfig, plugins
from oapl.config.listing import fields
from oapl.config.messages import explain, nearest, shown
from oapl.config.sections import (
    DataSource,
    EvalSection,
    ReplaySection,
    RewardSection,
    RolloutSection,
    SyncSection,
)
from oapl.devices.base import engine_name
from oapl.errors import InputError

OF_SAMPLING = (
    *("engine", "engine_options", "num_engines", "tensor_parallel_size"),
    *("temperature", "top_p", "top_k"),
)
"""Settings of `rollout` that mean nothing to an objective that samples nothing."""


def plugin_rules(config: RunConfig) -> Iterator[str]:
    """All kinds but the objective."""
    try:
        load("oapl.weights", config.sync.transport, "sync.transport")
    except InputError as error:
        yield str(error)
    try:
        device = load("oapl.devices", config.cluster.device, "cluster.device")
        yield from _devices(config, device)
        engine = load("actors.engines", engine_name(config), "rollout.engine")
        wrong = plugin_options(engine, config.rollout.engine_options, "rollout.engine_options.")
        own = getattr(engine, "problems", None)
        yield from wrong or (own(config) if own else ())
    except InputError as error:
        yield str(error)
    if not config.is_imitation:
        yield from _verifiers(config)


def _devices(config: RunConfig, device: ModuleType) -> Iterator[str]:
    cluster, degree = config.cluster, config.rollout.tensor_parallel_size
    for key in ("devices_per_engine", "devices_per_rank"):
        if getattr(cluster, key) and not device.HAS_CARDS:
            yield (
                f"cluster.{key} = {getattr(cluster, key):g}: device {cluster.device!r} has no "
                "cards to share out; leave it out, threads are set by cluster.engine_threads and "
                "cluster.learner_threads"
            )
    per_engine, per_rank = cluster.devices_per_engine, cluster.devices_per_rank
    if per_engine and per_engine != degree and not (degree == 1 and per_engine < 1):
        yield (
            f"cluster.devices_per_engine = {per_engine:g}: an engine uses "
            f"rollout.tensor_parallel_size ({degree}) whole devices, or a part of one where that "
            "is 1; set it to 0"
        )
    if 0 < per_rank <= 0.5 and config.learner.num_ranks > 1:
        yield (
            f"cluster.devices_per_rank = {per_rank:g}: two of learner.num_ranks "
            f"({config.learner.num_ranks}) could get one device, which its collectives refuse; "
            "set it above 0.5"
        )


def _verifiers(config: RunConfig) -> Iterator[str]:
    in_use = verifiers_in_use(config)
    for name, key in in_use.items():
        options = dict(config.reward.options.get(name, {}))
        if "verifier" in options:  # a name of the user's own for a file of verifiers
            key = f"reward.options.{name}.verifier"
        try:
            module = load("reward_server.verifiers", options.pop("verifier", name), key)
        except InputError as error:
            yield str(error)
            continue
        yield from plugin_options(module, options, f"reward.options.{name}.")
    for name in config.reward.options:
        if name not in in_use:
            yield (
                f"reward.options.{name}: no such verifier is in use; "
                f"{nearest(name, list(in_use))}in use are {', '.join(in_use) or 'none'}; "
                "name it in reward.verifiers or leave its options out"
            )
    for where, weights in _weights(config):
        if not any(weights.values()):
            yield (
                f"{where} = {shown(weights)}: every reward would be 0; "
                "give at least one verifier a weight other than 0"
            )


def _weights(config: RunConfig) -> Iterator[tuple[str, Mapping[str, float]]]:
    for section, sources in (("data", config.data.sources), ("eval", config.eval.sources)):
        for index, source in enumerate(sources):
            if source.verifiers:
                yield f"{section}.sources.{index}.verifiers", source.verifiers
    yield "reward.verifiers", config.reward.verifiers


def objective_rules(config: RunConfig, module: ModuleType) -> Iterator[str]:
    """The objective's options, and the settings that go with it."""
    options = {key: value for key, value in config.objective.items() if key != "name"}
    yield from plugin_options(module, options, "objective.")
    name, rollout = config.objective["name"], config.rollout
    if config.is_imitation:
        yield from _ignored_by_imitation(config)
        return
    if getattr(module, "needs_group", False) and rollout.group_size < 2:
        yield (
            f"rollout.group_size = {rollout.group_size}: {name} needs at least 2 rollouts of a "
            "prompt to compare them (V*); raise rollout.group_size"
        )
    if getattr(module, "uses_inference_logprobs", False):
        why = (
            f"{name} uses the log-probs recorded at sampling, and those of a cut distribution are "
            "not the learner's"
        )
        if rollout.top_p < 1:
            yield f"rollout.top_p = {rollout.top_p}: {why}; set rollout.top_p = 1.0"
        if rollout.top_k > 0:
            yield f"rollout.top_k = {rollout.top_k}: {why}; set rollout.top_k = 0"
    for index, source in enumerate(config.data.sources):
        yield from _differs(
            source, DataSource(name="x"), ("response_key",), f"data.sources.{index}", name
        )


def _ignored_by_imitation(config: RunConfig) -> Iterator[str]:
    name = config.objective["name"]
    if config.rollout.group_size != 1:
        yield (
            f"rollout.group_size = {config.rollout.group_size}: {name} has one response per "
            "prompt; set rollout.group_size = 1"
        )
    yield from _differs(config.rollout, RolloutSection(), OF_SAMPLING, "rollout", name)
    yield from _differs(config.sync, SyncSection(), ("max_lead", "in_flight"), "sync", name)
    for key, value, default in (
        ("reward", config.reward, RewardSection()),
        ("replay", config.replay, ReplaySection()),
        ("eval", config.eval, EvalSection()),
    ):
        yield from _differs(value, default, tuple(fields(type(value))), key, name)
    for index, source in enumerate(config.data.sources):
        key = f"data.sources.{index}"
        yield from _differs(source, DataSource(name="x"), ("verifiers",), key, name)
        if source.task:
            yield (
                f"{key}.task = {shown(source.task)}: a generated task has no responses to imitate; "
                "name a file with a column of responses"
            )


def _differs(
    value: object, default: object, keys: tuple[str, ...], prefix: str, objective: str
) -> Iterator[str]:
    """A setting that the objective ignores is refused, unless it is at its default."""
    for key in keys:
        ours, theirs = getattr(value, key), getattr(default, key)
        if ours != theirs:
            yield (
                f"{prefix}.{key} = {shown(ours)}: the objective {objective} ignores it; leave it "
                f"out (default {shown(theirs)}) or choose another objective.name"
            )


def verifiers_in_use(config: RunConfig) -> dict[str, str]:
    """Name of each verifier that judges something, and the key that asks for it."""
    found: dict[str, str] = {}
    for section, sources in (("data", config.data.sources), ("eval", config.eval.sources)):
        for index, source in enumerate(sources):
            key = f"{section}.sources.{index}.verifiers"
            for name in source.verifiers:
                found.setdefault(name, key)
            if not source.verifiers:
                found |= dict.fromkeys(config.reward.verifiers, "reward.verifiers")
    return found or dict.fromkeys(config.reward.verifiers, "reward.verifiers")


def plugin_options(module: ModuleType, options: Mapping[str, Any], prefix: str) -> list[str]:
    """What is wrong with a plugin's own options; nothing when they build its `Config`."""
    own = getattr(module, "Config", None)
    if own is None:
        name = module.__name__.rsplit(".", 1)[-1]
        return [f"{prefix}{key} = {shown(v)}: {name} has no options" for key, v in options.items()]
    try:
        own(**options)
    except ValidationError as error:
        return explain(error, own, prefix)
    except ValueError as error:
        return [f"{prefix.rstrip('.')}: {error}"]
    return []


def load(package: str, name: object, key: str) -> ModuleType:
    """A plugin by the name that stands under `key`.

    Raises:
        InputError: There is none of that name.
    """
    if not isinstance(name, str) or not name:
        raise InputError(
            f"{key} = {shown(name)}: must be the name of a file of {package}; "
            f"there are {', '.join(plugins.names(package))}"
        )
    return plugins.load(package, name, key)
