"""Rules that span fields of a configuration: pure, and quick.

Every rule yields lines in words, the dotted key first; `check` raises them all at once, those about
plugins (`deploy.checks.plugins`) included. What needs files (model, tokenizer, data) is looked at
by `deploy.checks.preflight`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from deploy.checks.alarms import alarm_rules
from deploy.checks.critic import critic_rules
from deploy.checks.evaluation import evaluation_rules
from deploy.checks.keeping import keeping_rules
from deploy.checks.plugins import declared, objective_rules, plugin_rules, source_of
from deploy.checks.stored import stored_rules
from deploy.checks.written_keys import written_key_rules
from oapl.config import RunConfig
from oapl.config.listing import fields
from oapl.config.messages import shown
from oapl.config.restarts import RestartsSection
from oapl.config.sections import DataSource, ReferenceSection
from oapl.errors import InputError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
"""Run and source names are used in file names, which have at most 255 bytes, and in prompt ids."""

OF_A_KIND = {
    "path": (),
    "dataset": ("subset", "split"),
    "task": ("size", "options"),
}
"""Settings of a source that belong to one kind only."""


def check(config: RunConfig) -> None:
    """Refuse a configuration that cannot work.

    Raises:
        InputError: One line per problem.
    """
    problems: list[str] = []
    for rule in (
        _names,
        _sources,
        _weights,
        _batch,
        _iterations,
        _uses,
        _history,
        _reference,
        critic_rules,
        _lengths,
        _optimizer,
        _lead,
        _stragglers,
        _versions,
        _ranks,
        evaluation_rules,
        keeping_rules,
        alarm_rules,
        _cluster,
        plugin_rules,
        objective_rules,
        stored_rules,
        written_key_rules,
    ):
        problems.extend(rule(config))
    if problems:
        raise InputError("\n".join(problems))


def check_verb(config: RunConfig, *, samples: bool) -> None:
    """Refuse an objective that the command is not for.

    Args:
        config: The run.
        samples: Whether the command is for objectives that learn from rollouts, or for those that
            imitate.

    Raises:
        InputError: The other command.
    """
    if config.is_staged:
        raise InputError(
            f"{'stages' if config.stages else 'rounds'}: a run of stages is done by `oapl train`; "
            "for this command leave them out (stages=[] rounds=0)"
        )
    name = config.objective["name"]
    if declared(config).samples and not samples:
        raise InputError(
            f"objective.name = {name!r} learns from rewards; `oapl sft` needs "
            '"sft", or run `oapl train`'
        )
    if samples and not declared(config).samples:
        raise InputError(
            f'objective.name = {shown(name)} imitates; run `oapl sft`, or choose "oapl"'
        )


def check_job(config: RunConfig) -> None:
    """Refuse to submit what uses no cluster.

    Raises:
        InputError: Everything would run in one process.
    """
    if config.cluster.mode != "ray":
        raise InputError(
            f'cluster.mode = {config.cluster.mode!r}: uses no cluster; set it to "ray", or run '
            "`oapl train`"
        )


def _names(config: RunConfig) -> Iterator[str]:
    if not config.model.path:
        yield 'model.path = "": must name a model; give its folder or hub name'
    if not NAME.fullmatch(config.run.name):
        yield (
            f"run.name = {shown(config.run.name)}: must be one folder name of at most 200 "
            "letters, digits, '_', '-' and '.'; put folders into run.dir"
        )


def _sources(config: RunConfig) -> Iterator[str]:
    for section, sources in (("data", config.data.sources), ("eval", config.eval.sources)):
        seen: set[str] = set()
        for index, source in enumerate(sources):
            key = f"{section}.sources.{index}"
            yield from _source(source, key)
            if source.name in seen:
                yield (
                    f"{key}.name = {shown(source.name)}: another source of {section}.sources has "
                    "that name; names must differ, since prompt ids and metrics carry them"
                )
            seen.add(source.name)
    if config.data.template == "plain" and config.data.system_prompt:
        yield (
            f"data.system_prompt = {shown(config.data.system_prompt)}: the plain template has no "
            'place for it; set data.template = "chat" or leave it out'
        )


def _source(source: DataSource, key: str) -> Iterator[str]:
    if not NAME.fullmatch(source.name):
        yield (
            f"{key}.name = {shown(source.name)}: must be letters, digits, '_', '-' and '.', at "
            "most 200, since it is used in file names; rename the source"
        )
    kinds = [kind for kind in OF_A_KIND if getattr(source, kind)]
    if len(kinds) != 1:
        yield (
            f"{key} ({shown(source.name)}) has {' and '.join(kinds) or 'no origin'}: a source is "
            "exactly one of path, dataset and task; set one of them"
        )
        return
    default = DataSource(name=source.name)
    for kind, keys in OF_A_KIND.items():
        for name in keys:
            value = getattr(source, name)
            if kind != kinds[0] and value != getattr(default, name):
                yield (
                    f"{key}.{name} = {shown(value)}: belongs to a source with {kind}, but this one "
                    f"has {kinds[0]}; leave it out"
                )
    low, high = source.pass_rate
    if low > high:
        yield (
            f"{key}.pass_rate = [{low:g}, {high:g}]: goes from the smaller to the larger; swap them"
        )
    if source.seed and not (source.task or source.sample):
        yield (
            f"{key}.seed = {source.seed}: draws nothing of a source that has neither task nor "
            "sample; leave it out"
        )
    if source.sample and source.task:
        yield (
            f"{key}.sample = {source.sample}: a task makes as many puzzles as `size` says; set that"
        )


def _weights(config: RunConfig) -> Iterator[str]:
    """Weights are for all training sources or for none."""
    sources = config.data.sources
    missing = [source.name for source in sources if not source.weight]
    if missing and len(missing) < len(sources):
        yield (
            f"data.sources: {', '.join(missing)} {'has' if len(missing) == 1 else 'have'} no "
            "weight, but others do; give all of them one, or none"
        )
    for index, source in enumerate(config.eval.sources):
        if source.weight:
            yield (
                f"eval.sources.{index}.weight = {source.weight:g}: an evaluation asks each prompt "
                "equally often; leave it out"
            )
        if source.easy_first:
            yield (
                f"eval.sources.{index}.easy_first = true: an evaluation has no order; leave it out"
            )


def _batch(config: RunConfig) -> Iterator[str]:
    size, group = config.learner.batch_size, config.rollout.group_size
    source = source_of(config)
    if size % group and source != "stored":
        near = max(group, round(size / group) * group)
        yield (
            f"learner.batch_size = {size}: must be a multiple of rollout.group_size ({group}), "
            f"since groups are not split; set it to {near}"
        )
    taken = size // group * config.learner.mini_batches
    if source == "live" and config.replay.capacity < taken:
        yield (
            f"replay.capacity = {config.replay.capacity}: a learner step takes "
            f"{taken} groups (learner.batch_size / rollout.group_size, times "
            "learner.mini_batches), which would never be there; raise replay.capacity"
        )
    if size < config.learner.num_ranks:
        yield (
            f"learner.batch_size = {size}: fewer than learner.num_ranks "
            f"({config.learner.num_ranks}), so a rank would have nothing; raise it"
        )
    if config.learner.micro_batch_tokens < config.learner.row_tokens:
        yield (
            f"learner.row_tokens = {config.learner.row_tokens}: a row is part of a micro-batch "
            f"and cannot be longer than learner.micro_batch_tokens "
            f"({config.learner.micro_batch_tokens}); lower it, or raise that"
        )


def _iterations(config: RunConfig) -> Iterator[str]:
    """Publications, checkpoints and the end fall between iterations."""
    steps, declares = config.steps_per_take, declared(config)
    is_given = source_of(config) == "examples"
    has_periods = not is_given and declares.history is None  # else `_history` has its own rule
    for key, value in (
        ("sync.interval", config.sync.interval),
        ("run.max_steps", config.run.max_steps),
    ):
        if value % steps and (key != "sync.interval" or has_periods):
            yield (
                f"{key} = {value}: must be a multiple of {steps}, the learner steps of a take "
                "(learner.mini_batches times learner.updates_per_batch); set it to "
                f"{max(steps, round(value / steps) * steps)}"
            )


def _uses(config: RunConfig) -> Iterator[str]:
    """Several uses of a group lie within its period, and each group has as many."""
    uses, declares = config.replay.max_uses, declared(config)
    if uses == 1 or source_of(config) != "live":
        return
    takes, rest = divmod(config.sync.interval, config.steps_per_take)
    if not rest and takes % uses:
        best = max(divisor for divisor in range(1, uses) if takes % divisor == 0)
        yield (
            f"replay.max_uses = {uses}: must divide the takes of a period, of which there are "
            f"{takes} (sync.interval over learner.mini_batches times learner.updates_per_batch); "
            f"set it to {best}, or change sync.interval"
        )
    for is_set, other, why in (
        (
            config.replay.max_versions > 1,
            f"replay.max_versions ({config.replay.max_versions})",
            "a period begins with unused groups of the one before",
        ),
        (
            config.replay.surplus > 0,
            f"replay.surplus ({config.replay.surplus:g})",
            "groups are generated beyond those that the period uses",
        ),
        (
            config.sync.max_lead > 0,
            f"sync.max_lead ({config.sync.max_lead})",
            "the next period's groups come while this period's are still used again",
        ),
        (
            declares.history is not None,
            f"the objective {config.objective['name']}",
            "groups come again in later iterations, by a share of its own",
        ),
    ):
        if is_set:
            yield (
                f"replay.max_uses = {uses}: with {other} {why}, and which group is used how often "
                "would not be known; leave one of the two out"
            )


def _history(config: RunConfig) -> Iterator[str]:
    """Fresh groups are of the policy that trains on them, and history is of whole iterations."""
    declares, steps = declared(config), config.steps_per_take
    if declares.history is None or config.replay.source == "stored":
        return
    name, replay, sync = config.objective["name"], config.replay, config.sync
    why = f"{name} mixes groups of earlier iterations with fresh ones of the policy before it"
    if sync.interval != steps:
        yield (
            f"sync.interval = {sync.interval}: {why}, so that a period is one take; set it to "
            f"{steps} (learner.mini_batches times learner.updates_per_batch)"
        )
    if sync.max_lead:
        yield (
            f"sync.max_lead = {sync.max_lead}: {why}, and with a lead they are of an older one; "
            "leave it out"
        )
    if replay.max_versions > 1:
        yield (
            f"replay.max_versions = {replay.max_versions}: {why}, and the buffer would hold older "
            "ones that are no history; leave it out"
        )
    if replay.surplus:
        yield (
            f"replay.surplus = {replay.surplus:g}: {why}, and what is left over would be thrown "
            "away at each of them; leave it out"
        )
    if "sampler" in declares.needs:
        yield (
            f"objective.name = {shown(name)}: needs the policy that sampled, which the learner "
            "keeps for one version, and history, which is of several; leave one of the two out"
        )


def _reference(config: RunConfig) -> Iterator[str]:
    section, needs = config.reference, declared(config).needs
    for key in fields(ReferenceSection):
        value, default = getattr(section, key), getattr(ReferenceSection(), key)
        if value != default and "reference" not in needs:
            yield (
                f"reference.{key} = {shown(value)}: {config.objective['name']} as it is set here "
                "has no reference; leave it out, or choose a KL penalty (objective.kl_coefficient "
                "of grpo, ppo and remix)"
            )
    if section.patience and not config.eval.is_in_mid_run:
        yield (
            f"reference.patience = {section.patience}: counts evaluations, and none is made in "
            "mid-run; set eval.every_syncs (or every_steps) and eval.sources, or leave it out"
        )
    if "sampler" in needs and config.replay.max_versions > 1:
        yield (
            f"replay.max_versions = {config.replay.max_versions}: the learner keeps the policy "
            "that sampled for one version at a time, and this objective asks for it; set it to 1"
        )


def _lengths(config: RunConfig) -> Iterator[str]:
    context, longest = config.rollout.context_tokens, config.rollout.max_tokens
    if context and longest >= context:
        yield (
            f"rollout.max_tokens = {longest}: leaves no room for a prompt in "
            f"rollout.context_tokens ({context}); lower it, or raise rollout.context_tokens"
        )


def _optimizer(config: RunConfig) -> Iterator[str]:
    optimizer = config.optimizer
    if optimizer.min_lr > optimizer.lr:
        yield (
            f"optimizer.min_lr = {optimizer.min_lr}: above the peak, optimizer.lr "
            f"({optimizer.lr}); lower it"
        )
    if optimizer.min_lr and optimizer.schedule == "constant":
        yield (
            f"optimizer.min_lr = {optimizer.min_lr}: the constant schedule has no floor; set "
            'optimizer.schedule = "cosine" or leave it out'
        )


def _lead(config: RunConfig) -> Iterator[str]:
    """A lead beyond the interval is cut to it in silence: it asks for "as early as may be"."""
    if config.sync.max_lead and config.sync.interval == 1:
        yield (
            f"sync.max_lead = {config.sync.max_lead}: with sync.interval = 1 no step lies between "
            "two publications, so none can come ahead; set sync.interval to 2 or more, or leave "
            "sync.max_lead out"
        )


def _stragglers(config: RunConfig) -> Iterator[str]:
    if config.sync.stragglers == "wait":
        return
    key = 'sync.stragglers = "move"'
    if not config.sync.max_lead:
        yield (
            f"{key}: lets engines go on with a version that is published ahead, and "
            "sync.max_lead = 0 publishes none so; set it, to sync.interval for as early as may be"
        )
    if config.num_collecting < 2 and source_of(config) == "live":
        yield (
            f"{key}: moves a period's last groups to some engines while the others go on, and only "
            f"{config.num_collecting} collects; raise rollout.num_engines, or leave it out"
        )
    if "sampler" in declared(config).needs:
        yield (
            f"{key}: where last groups are lost with their engine a take holds groups of two "
            f"versions, and {config.objective['name']} as it is set here needs the one policy that "
            "sampled; leave one of the two out"
        )


def _versions(config: RunConfig) -> Iterator[str]:
    sync, kept = config.sync, config.replay.max_versions
    if sync.in_flight == "drain" and kept == 1:
        yield (
            'sync.in_flight = "drain": what was in flight is of the version before, which '
            "replay.max_versions = 1 throws away; set replay.max_versions to 2 or more, or leave "
            "sync.in_flight out"
        )
    if kept > 1 and sync.max_lead:
        yield (
            f"replay.max_versions = {kept}: with sync.max_lead ({sync.max_lead}) a buffer holds "
            "one version, so that its lag is known; leave one of the two out"
        )
    if kept > 1 and not config.replay.surplus and source_of(config) == "live":
        yield (
            f"replay.max_versions = {kept}: with replay.surplus = 0 a period's groups are all "
            "trained on within it, so none is left for the next; set replay.surplus, 1.0 for a "
            "whole period ahead"
        )


def _ranks(config: RunConfig) -> Iterator[str]:
    learner, device = config.learner, config.cluster.device
    lowest = {"none": 0, "optimizer": 1, "all": 3}[learner.offload]
    if learner.zero_stage < lowest:
        yield (
            f"learner.offload = {shown(learner.offload)}: needs what ZeRO {lowest} shards, but "
            f"learner.zero_stage is {learner.zero_stage}; raise it, or offload less"
        )
    if learner.offload != "none" and device == "cpu":
        yield (
            f"learner.offload = {shown(learner.offload)}: moves what a device holds into the "
            'host\'s memory, but cluster.device = "cpu" holds all of it there; leave it out'
        )
    if config.cluster.mode == "local":
        if learner.num_ranks > 1:
            yield (
                f'learner.num_ranks = {learner.num_ranks}: cluster.mode = "local" is one process, '
                'which holds one rank; set it to 1, or cluster.mode = "ray"'
            )
        if config.restarts != RestartsSection():
            yield (
                'restarts: cluster.mode = "local" is one process, in which nothing is started '
                'again; leave the section out, or set cluster.mode = "ray"'
            )


def _cluster(config: RunConfig) -> Iterator[str]:
    mode, transport = config.cluster.mode, config.sync.transport
    if mode == "local" and config.cluster.address:
        yield (
            f'cluster.address = {shown(config.cluster.address)}: cluster.mode = "local" uses no '
            'cluster; leave it out, or set cluster.mode = "ray"'
        )
    for key in ("engine_resources", "learner_resources"):
        if mode == "local" and getattr(config.cluster, key):
            yield (
                f"cluster.{key} = {shown(getattr(config.cluster, key))}: cluster.mode = "
                '"local" asks no cluster for resources; leave it out, or set cluster.mode = "ray"'
            )
    if mode == "local" and config.rollout.num_engines > 1:
        yield (
            f"rollout.num_engines = {config.rollout.num_engines}: a process holds one engine, "
            'and cluster.mode = "local" is one process; set it to 1, or cluster.mode = "ray"'
        )
    if mode == "local" and transport == "object_store":
        yield (
            'sync.transport = "object_store": it is Ray\'s, but cluster.mode = "local" starts no '
            'Ray; set sync.transport = "local"'
        )
    if mode == "local" and config.tracking.ray_metrics == "on":
        yield (
            'tracking.ray_metrics = "on": cluster.mode = "local" starts no Ray to show them; '
            'leave it out, or set cluster.mode = "ray"'
        )
    if mode == "ray" and transport == "local":
        yield (
            'sync.transport = "local": reaches engines in this process only, but '
            'cluster.mode = "ray" gives each its own; set sync.transport = "object_store"'
        )
