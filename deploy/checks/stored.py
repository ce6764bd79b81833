"""Rules about stored groups: the settings that go with a set, and whether the objective can train
on what its files hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.data.context import context_tokens
from actors.data.fingerprints import header_of
from deploy.checks.plugins import declared
from oapl import groups_file
from oapl.config import RunConfig
from oapl.config.messages import shown
from oapl.config.sections import ReplaySection, SyncSection
from oapl.errors import InputError
from oapl.groups_file import Header, StoredGroup
from oapl.objectives.base import build
from oapl.replay.stored import Digest, nothing_left
from oapl.weight_files import fingerprint_of

LIVE_ONLY = (
    ("replay", ReplaySection(), ("surplus", "max_dropped", "max_uses", "max_versions")),
    ("sync", SyncSection(), ("max_lead", "stragglers", "in_flight")),
)
"""Settings of groups that are made while the learner trains. Those that say how groups are made
(`data.sources`, `rollout`, `reward`) may stand: `oapl generate` reads them from the same recipe."""
OTHERS = "another policy than the model"
"""Who sampled imported traces."""


def stored_rules(config: RunConfig) -> Iterator[str]:
    """What must be set with a stored set, and what means nothing beside one."""
    replay = config.replay
    if replay.source == "live":
        if replay.path:
            yield (
                f"replay.path = {shown(list(replay.path))}: is read with replay.source = "
                '"stored" alone; set that, or leave it out'
            )
        return
    if not replay.path:
        yield (
            'replay.path = []: replay.source = "stored" trains from folders of stored groups; '
            "name one, as oapl generate writes it into RUN/groups"
        )
    name = config.objective["name"]
    if declared(config).history is not None:
        yield (
            f"objective.name = {shown(name)}: mixes fresh groups with those of its last "
            'iterations, and a stored set has no fresh ones; set replay.source = "live", or '
            "choose another objective"
        )
    if config.tracking.store_groups == "all":
        yield (
            'tracking.store_groups = "all": what is trained on is stored already; set it to '
            '"sample" or "off"'
        )
    for key, default, names in LIVE_ONLY:
        for field in names:
            ours, theirs = getattr(getattr(config, key), field), getattr(default, field)
            if ours != theirs:
                yield (
                    f"{key}.{field} = {shown(ours)}: is for groups that are made during training, "
                    f"and replay.source is {shown(replay.source)}; leave it out (default "
                    f"{shown(theirs)})"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class SetCounts:
    """What a run finds in its stored sets.

    Attributes:
        groups: Groups.
        rollouts: Kept rollouts.
        generated: Rollouts of these groups when they were generated.
        tokens: Response tokens.
        longest_prompt, longest: Tokens of the longest prompt, and of one with its response.
        temperatures: That rollouts were sampled at.
        models: That the sets were made for.
        left: Kept rollouts of groups that the objective's filter leaves.
        dropped: Groups that it drops.
        digest: See `oapl.replay.stored.Digest`.
    """

    groups: int
    rollouts: int
    generated: int
    tokens: int
    longest_prompt: int
    longest: int
    temperatures: tuple[float, ...]
    models: tuple[str, ...]
    left: int
    dropped: int
    digest: str

    def __str__(self) -> str:
        at = " and ".join(f"{temperature:g}" for temperature in self.temperatures)
        dropped = f", {self.dropped:,} groups dropped by the objective" if self.dropped else ""
        return (
            f"{self.groups:,} groups, {self.rollouts:,} of {self.generated:,} rollouts, "
            f"{self.tokens:,} tokens at temperature {at}, made for {' and '.join(self.models)}"
            f"{dropped}"
        )


def look_at_sets(config: RunConfig, tokenizer: Any) -> SetCounts:
    """Read the stored sets of a run to their end.

    Args:
        config: Names them, the model and the objective.
        tokenizer: The model's.

    Raises:
        InputError: A set is damaged, or the objective cannot train on it with this model; one line
            per problem.
    """
    folders = [Path(folder) for folder in config.replay.path]
    headers = [groups_file.header(folder) for folder in folders]
    problems = [
        problem
        for folder, header in zip(folders, headers, strict=True)
        for problem in _foreign(config, tokenizer, folder, header)
    ]
    if problems:
        raise InputError("\n".join(problems))
    looks = _Looks(config)
    for folder in folders:
        for group in groups_file.read(folder):
            looks.see(folder, group)
    problems = [*looks.problems.values(), *looks.of_all()]
    if problems:
        raise InputError("\n".join(problems))
    return looks.counts(headers)


def _foreign(config: RunConfig, tokenizer: Any, folder: Path, header: Header) -> Iterator[str]:
    """What a set says of itself and cannot be trained on."""
    ours = header_of(config, tokenizer, made_by=header.made_by, logprobs=header.logprobs)
    name, declares = config.objective["name"], declared(config)
    if header.tokenizer != ours.tokenizer:
        yield (
            f"replay.path {folder}: its tokens are of the tokenizer of {header.model}, and that of "
            f"model.path = {shown(config.model.path)} is another; name that model, or make the "
            "groups again with this one"
        )
    elif header.template != ours.template:
        yield (
            f"replay.path {folder}: its prompts were written by another template than this run's; "
            "set data.template, data.system_prompt and data.template_options as they were then, "
            "or make the groups again"
        )
    if declares.needs_inference_logprobs and header.logprobs is None:
        yield (
            f"replay.path {folder}: has no log-probs, and {name} as it is set here reads those of "
            "what sampled; name a set that has them, or choose an objective that reads none "
            "(geometric, sft)"
        )
    if "sampler" in declares.needs and not is_of_the_model(config, header):
        yield (
            f"replay.path {folder}: was made for {header.model}, but objective.anchor asks the "
            f"learner for the policy that sampled, and it has that of model.path = "
            f"{shown(config.model.path)} alone; start from that model, or set "
            'objective.anchor = "inference"'
        )


def is_of_the_model(config: RunConfig, header: Header) -> bool:
    """Whether a set was made for the very model that a run starts from: by its weights where both
    are known, else by its name."""
    weights = fingerprint_of(Path(config.model.path))
    if weights and header.weights:
        return weights == header.weights
    ours, theirs = Path(config.model.path), Path(header.model)
    return ours == theirs or ours.expanduser().absolute() == theirs.expanduser().absolute()


class _Looks:
    """What is found in the groups, and the first place of each problem.

    Attributes:
        problems: By kind.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._declares = declared(config)
        self._name = config.objective["name"]
        self._context = context_tokens(config)
        self._temperatures: set[float] = set()
        self._sizes = dict.fromkeys(("groups", "rollouts", "generated", "tokens"), 0)
        self._longest_prompt = self._longest = self._left = 0
        self._dropped: Counter[str] = Counter()
        self._credit = build(config.objective).credit
        self._digest = Digest()
        self.problems: dict[str, str] = {}

    def see(self, folder: Path, group: StoredGroup) -> None:
        """Count a group, and judge it."""
        lengths = [len(rollout.token_ids) for rollout in group.rollouts]
        added = (1, len(lengths), len(group.all_rewards), sum(lengths))
        for key, number in zip(self._sizes, added, strict=True):
            self._sizes[key] += number
        prompt = len(group.prompt.token_ids)
        self._longest_prompt = max(self._longest_prompt, prompt)
        self._longest = max(self._longest, prompt + max(lengths))
        self._temperatures.add(group.sampling.temperature)
        self._digest.add(group.scored())
        problems = dict(self._problems(group))
        for kind, problem in problems.items():
            where = f"replay.path {folder}, group {group.prompt.id}: "
            self.problems.setdefault(kind, where + problem)
        if problems:
            return
        if dropped := group.credited(self._credit).credit.dropped:
            self._dropped[dropped] += 1
        else:
            self._left += len(lengths)

    def _problems(self, group: StoredGroup) -> Iterator[tuple[str, str]]:
        """Kind and words of what keeps the objective from this group."""
        declares, sampling, size = self._declares, group.sampling, len(group.all_rewards)
        longest = len(group.prompt.token_ids) + max(len(one.token_ids) for one in group.rollouts)
        if size < declares.min_group_size:
            least = declares.min_group_size
            why = (
                f"{size} rollout, but {self._name} needs at least {least} of a prompt to compare "
                "them; choose one that takes a lone rollout (geometric, sft, ppo, or oapl with "
                'objective.baseline = "column"), or take it out of the set'
            )
            yield "size", why
        if declares.needs_inference_logprobs and (sampling.top_p < 1 or sampling.top_k > 0):
            why = (
                f"sampled with top_p = {sampling.top_p:g} and top_k = {sampling.top_k}, and the "
                f"log-probs of a cut distribution are not the learner's, with which {self._name} "
                "compares them; make the groups without, or choose an objective that reads none"
            )
            yield "cut", why
        if longest > self._context:
            why = (
                f"{longest} tokens with its longest response, but the model reads "
                f"{self._context}; take it out of the set, or raise rollout.context_tokens where "
                "the model allows it"
            )
            yield "context", why
        if "sampler" in declares.needs and group.version:
            whose = f"version {group.version} of its run" if group.version > 0 else OTHERS
            why = (
                f"sampled by {whose}, but objective.anchor asks the "
                "learner for the policy that sampled, and it has the model alone; set "
                'objective.anchor = "inference"'
            )
            yield "version", why

    def of_all(self) -> Iterator[str]:
        """What is wrong with the groups together."""
        found = sorted(self._temperatures)
        if not self._sizes["groups"]:
            yield (
                f"replay.path = {shown(list(self._config.replay.path))}: holds no group; make "
                "some by oapl generate"
            )
        elif not self._left and not self.problems:
            yield nothing_left(self._sizes["groups"], self._dropped)
        elif self._declares.at_temperature and (len(found) > 1 or found[0] <= 0):
            at = " and ".join(f"{temperature:g}" for temperature in found)
            yield (
                f"replay.path = {shown(list(self._config.replay.path))}: sampled at temperatures "
                f"{at}, and {self._name} divides logits by the one that all were sampled at, which "
                "must be above 0; train on sets of one temperature, or choose an objective that "
                "reads log-probs at temperature 1 (geometric, sft)"
            )

    def counts(self, headers: Sequence[Header]) -> SetCounts:
        """All of it."""
        return SetCounts(
            **self._sizes,
            longest_prompt=self._longest_prompt,
            longest=self._longest,
            temperatures=tuple(sorted(self._temperatures)),
            models=tuple(sorted({header.model for header in headers})),
            left=self._left,
            dropped=self._dropped.total(),
            digest=str(self._digest),
        )
