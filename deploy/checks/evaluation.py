"""Rules about evaluations: when they are made, on which engines, and how answers are drawn."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from deploy.checks.plugins import source_of
from oapl.config import RunConfig
from oapl.config.messages import shown
from oapl.config.sections import EvalSection, EvalSource
from oapl.devices.base import engine_name
from oapl.errors import InputError
from oapl.evaluation import Protocol
from oapl.sampling import DRAWN, protocol_of

ENDPOINT = "endpoint"
"""The file of actors/engines that `eval.endpoint` is about."""


def evaluating(config: RunConfig) -> RunConfig:
    """The recipe as `oapl eval` reads it: where it names an endpoint, that answers in the place of
    engines, which needs no device."""
    if not config.eval.endpoint:
        return config
    rollout = dataclasses.replace(
        config.rollout,
        engine=ENDPOINT,
        engine_options=dict(config.eval.endpoint),
        num_engines=1,
        tensor_parallel_size=1,
    )
    cluster = dataclasses.replace(
        config.cluster, device="cpu", devices_per_engine=0.0, engine_resources={}
    )
    return dataclasses.replace(config, rollout=rollout, cluster=cluster)


def without_training(config: RunConfig) -> RunConfig:
    """The recipe as an evaluation reads it: it asks for no groups to train on."""
    return dataclasses.replace(config, replay=RunConfig().replay)


def check_evaluation(config: RunConfig) -> None:
    """Refuse to evaluate on nothing.

    Raises:
        InputError: There is no evaluation set.
    """
    if not config.eval.sources:
        raise InputError("eval.sources is empty; name at least one evaluation set")


def how_evaluated(config: RunConfig) -> str:
    """Say when there are evaluations in mid-run, which engines make them, and who waits."""
    section, engines = config.eval, config.rollout.num_engines
    steps, syncs = section.every_steps, section.every_syncs
    often = f"every {steps} steps" if steps else f"every {syncs} synchronisations"
    often = "every synchronisation" if syncs == 1 else often
    if section.engines:
        return f"{often}, beside training, on {section.engines} of {engines} engines"
    on = "the engine" if engines == 1 else f"all {engines} engines"
    if section.slots:
        return f"{often}, beside training, in {section.slots:.0%} of what is in flight on {on}"
    waits = "" if config.sync.max_lead else ": the learner waits for them"
    return f"{often}, in the synchronisation, on {on}{waits}"


def evaluation_rules(config: RunConfig) -> Iterator[str]:
    """What an evaluation asks for can be had, and every setting means something."""
    for rule in (_answers, _as_rollouts, _ks, _contexts, _times, _engines, _slots, _endpoint):
        yield from rule(config)


def _answers(config: RunConfig) -> Iterator[str]:
    section = config.eval
    if not section.num_samples and not section.greedy:
        yield (
            "eval.num_samples = 0 and eval.greedy = false: nothing would be answered; raise "
            "eval.num_samples or set eval.greedy = true"
        )
    for index, source in enumerate(section.sources):
        if source.protocol or source.answers:
            yield from _answers_of_a_set(config, source, f"eval.sources.{index}")


def _answers_of_a_set(config: RunConfig, source: EvalSource, key: str) -> Iterator[str]:
    try:
        protocol = protocol_of(config, source)
    except InputError as error:
        yield f"{key}: {error}"
        return
    if not protocol.num_samples and not protocol.greedy:
        yield (
            f"{key}: num_samples = 0 and greedy = false: nothing would be answered; raise "
            "num_samples or set greedy = true, in its answers"
        )
    too_large = [k for k in protocol.ks if k > protocol.num_samples]
    if too_large and "ks" in source.answers:
        yield (
            f"{key}.answers.ks: pass@{max(too_large)} needs {max(too_large)} samples, but it has "
            f"{protocol.num_samples}; raise num_samples, or leave "
            f"{', '.join(map(str, too_large))} out"
        )


def _as_rollouts(config: RunConfig) -> Iterator[str]:
    section = config.eval
    for key in DRAWN:
        value, default = getattr(section, key), getattr(EvalSection(), key)
        if section.as_rollouts and value != default:
            yield (
                f"eval.{key} = {shown(value)}: with eval.as_rollouts answers are drawn by "
                f"rollout.{key} ({shown(getattr(config.rollout, key))}); leave one of the two out"
            )


def _ks(config: RunConfig) -> Iterator[str]:
    """The k that no set has samples for; where one has, sets with fewer go without."""
    section = config.eval
    most = max([section.num_samples, *(one.num_samples for _, one in _protocols(config))])
    too_large = [k for k in section.ks if k > most]
    if too_large:
        yield (
            f"eval.ks = {list(section.ks)}: pass@{max(too_large)} needs {max(too_large)} samples, "
            f"but eval.num_samples is {most}; raise it, or leave "
            f"{', '.join(map(str, too_large))} out"
        )


def _contexts(config: RunConfig) -> Iterator[str]:
    section = config.eval
    setting = "eval.context_tokens" if section.context_tokens else "rollout.context_tokens"
    context = section.context_tokens or config.rollout.context_tokens
    own = ((f"{key}: max_tokens", one.sampling.max_tokens) for key, one in _protocols(config))
    for name, value in (("eval.max_tokens", section.max_tokens), *own):
        if context and value >= context:
            yield (
                f"{name} = {value}: leaves no room for a prompt in {setting} ({context}); lower "
                f"it, or raise {setting}"
            )


def _protocols(config: RunConfig) -> Iterator[tuple[str, Protocol]]:
    """Of the sets that have answers of their own, where they can be read."""
    for index, source in enumerate(config.eval.sources):
        if source.protocol or source.answers:
            with contextlib.suppress(InputError):
                yield f"eval.sources.{index}", protocol_of(config, source)


def _times(config: RunConfig) -> Iterator[str]:
    section, interval, take = config.eval, config.sync.interval, config.steps_per_take
    every = section.every_steps
    if every and section.every_syncs:
        yield (
            f"eval.every_steps = {every}: eval.every_syncs ({section.every_syncs}) says it too; "
            "leave one of the two out"
        )
    if every and not section.engines and every % interval:
        near = max(interval, round(every / interval) * interval)
        yield (
            f"eval.every_steps = {every}: without engines set aside evaluations are made in the "
            f"synchronisation, every {interval} steps (sync.interval); set it to {near}, or set "
            "eval.engines to evaluate at any step"
        )
    if every and section.engines and every % take:
        yield (
            f"eval.every_steps = {every}: must be a multiple of {take}, the learner steps of a "
            "take (learner.mini_batches times learner.updates_per_batch); set it to "
            f"{max(take, round(every / take) * take)}"
        )


def _engines(config: RunConfig) -> Iterator[str]:
    aside, engines = config.eval.engines, config.rollout.num_engines
    if not aside:
        return
    if not config.eval.is_in_mid_run:
        yield (
            f"eval.engines = {aside}: set aside for evaluations in mid-run, and none is made; set "
            "eval.every_steps or eval.every_syncs, and eval.sources, or leave it out"
        )
    if source_of(config) == "live" and aside >= engines:
        yield (
            f"eval.engines = {aside}: of rollout.num_engines ({engines}) at least one must make "
            f"rollouts; raise rollout.num_engines to {aside + 1}, or leave eval.engines out"
        )
    if source_of(config) != "live" and aside != engines:
        yield (
            f"eval.engines = {aside}: nothing is sampled, so that all of rollout.num_engines "
            f"({engines}) only evaluate; set it to {engines}, to evaluate beside training, or "
            "leave it out"
        )


def _slots(config: RunConfig) -> Iterator[str]:
    """A share of engines that make rollouts, from one publication to the next."""
    section = config.eval
    if not section.slots:
        return
    key = f"eval.slots = {section.slots:g}"
    if not section.is_in_mid_run:
        yield (
            f"{key}: for evaluations in mid-run, and none is made; set eval.every_syncs or "
            "eval.every_steps, and eval.sources, or leave it out"
        )
    for is_set, what in (
        (section.engines > 0, f"eval.engines ({section.engines}) evaluations have engines alone"),
        (
            config.sync.max_lead > 0,
            f"sync.max_lead ({config.sync.max_lead}) a period's engines load before it begins",
        ),
        (
            config.replay.max_versions > 1,
            f"replay.max_versions ({config.replay.max_versions}) training goes on while they load",
        ),
    ):
        if is_set:
            yield f"{key}: with {what}; leave one of the two out"
    if source_of(config) != "live":
        yield (
            f"{key}: nothing is sampled, so that engines only evaluate; set eval.engines = "
            f"{config.rollout.num_engines} to evaluate beside training, and leave eval.slots out"
        )


def _endpoint(config: RunConfig) -> Iterator[str]:
    if config.eval.endpoint and engine_name(config) != ENDPOINT:
        yield (
            f"eval.endpoint = {shown(config.eval.endpoint)}: another model's answers, for `oapl "
            "eval` alone; leave it out (eval.endpoint={})"
        )
