"""Rules about plugins: that there is such a file, that its options build its `Config`, and what an
objective needs or ignores. Plugin files import no heavy library, so loading one is quick. The rules
about verifiers are the reward server's own (`reward_server.settings`).
"""

from __future__ import annotations

from collections.abc import Iterator

from actors.engines.base import ENGINES
from oapl.config import RunConfig, plugins
from oapl.config import objective as objectives
from oapl.config.listing import fields
from oapl.config.messages import shown
from oapl.config.objective import OBJECTIVES, Declarations, Source, parse
from oapl.config.sections import (
    DataSource,
    ReplaySection,
    RewardSection,
    RolloutSection,
    SyncSection,
)
from oapl.devices.base import DEVICES, DeviceFile, engine_name
from oapl.errors import InputError
from oapl.objectives.base import build
from oapl.weights.base import TRANSPORTS
from reward_server import settings as rewards

OF_SAMPLING = ("temperature", "top_p", "top_k")
OF_ENGINES = ("engine", "engine_options", "num_engines", "tensor_parallel_size")
"""Settings of `rollout` that mean nothing where nothing is sampled, and where nothing is evaluated
either."""

UNKNOWN = Declarations(
    needs=frozenset(), min_group_size=1, samples=True, needs_inference_logprobs=False
)
"""What is taken to be declared where the objective cannot be loaded: the other rules speak too."""


def declared(config: RunConfig) -> Declarations:
    """What the objective declares with its options; `UNKNOWN` where it cannot be loaded, which is a
    problem of its own (`objective_rules`)."""
    try:
        file = OBJECTIVES.load(config.objective["name"])
    except InputError:
        return UNKNOWN
    try:
        return build(config.objective).declares
    except InputError:
        return file.DECLARES


def source_of(config: RunConfig) -> Source:
    """Where batches come from; taken to be engines where the objective cannot be loaded."""
    try:
        return objectives.source_of(config)
    except InputError:
        return "live"


def plugin_rules(config: RunConfig) -> Iterator[str]:
    """All kinds but the objective."""
    try:
        TRANSPORTS.load(config.sync.transport, "sync.transport")
    except InputError as error:
        yield str(error)
    try:
        device = DEVICES.load(config.cluster.device, "cluster.device")
        yield from _devices(config, device)
        engine = ENGINES.load(engine_name(config), "rollout.engine")
        plugins.parse(engine.Config, config.rollout.engine_options, "rollout.engine_options.")
        yield from engine.problems(config)
    except InputError as error:
        yield str(error)
    if source_of(config) == "live" or config.eval.sources:
        yield from rewards.problems(config)


def _devices(config: RunConfig, device: DeviceFile) -> Iterator[str]:
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


def objective_rules(config: RunConfig) -> Iterator[str]:
    """The objective, its options, and the settings that go with it."""
    try:
        OBJECTIVES.load(config.objective["name"], "objective.name")
    except InputError as error:
        yield str(error)
        return
    try:
        parse(config.objective)
    except InputError as error:
        yield str(error)
    name, rollout, declares = config.objective["name"], config.rollout, declared(config)
    if source_of(config) == "examples":
        yield from _ignored_by_imitation(config)
    if source_of(config) != "live":
        return
    if rollout.group_size < declares.min_group_size:
        yield (
            f"rollout.group_size = {rollout.group_size}: {name} needs at least "
            f"{declares.min_group_size} rollouts of a prompt to compare them; raise "
            "rollout.group_size"
        )
    if declares.needs_inference_logprobs:
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
    is_evaluated = bool(config.eval.sources)
    ignored = OF_SAMPLING if is_evaluated else (*OF_ENGINES, *OF_SAMPLING)
    yield from _differs(config.rollout, RolloutSection(), ignored, "rollout", name)
    yield from _differs(
        config.sync, SyncSection(), ("max_lead", "stragglers", "in_flight"), "sync", name
    )
    replay = tuple(key for key in fields(ReplaySection) if key != "path")  # has a rule of its own
    yield from _differs(config.replay, ReplaySection(), replay, "replay", name)
    if not is_evaluated:
        reward, section = tuple(fields(RewardSection)), RewardSection()
        yield from _differs(config.reward, section, reward, "reward", name)
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
