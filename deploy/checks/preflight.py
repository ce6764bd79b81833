"""What can be known to fail is found before anything starts: settings, model, data, size.

Reads files and nothing else: no GPU, no inference or training library, no process but a sandbox
that is tried out where programs are to be run; it makes no folder. What it learns on the way is
what `--dry-run` prints, and so is what it could not look at.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.data.context import context_tokens
from actors.data.tokenizer import load_model_config, load_tokenizer
from deploy.checks import dating
from deploy.checks.critic import check_vocabulary, has_critic, look_at_critic
from deploy.checks.data_facts import SourceData, data_facts
from deploy.checks.evaluation import check_evaluation, how_evaluated, without_training
from deploy.checks.evaluation_facts import demand_categories, evaluation_facts
from deploy.checks.generation import Generation, look_at_generation
from deploy.checks.model_files import (
    check_degree,
    check_sizes,
    count_parameters,
    describe_tokenizer,
    has_weights,
)
from deploy.checks.passes import steps_told
from deploy.checks.places import check_baseline, check_folder
from deploy.checks.reading import DataRead, evaluation_data, training_data
from deploy.checks.settings import check
from deploy.checks.shadows import check_working_directory
from deploy.checks.stored import look_at_sets
from deploy.sizing.hardware import Hardware, this_machine
from deploy.sizing.report import engine_facts, size
from deploy.sizing.shape import Lengths, Shape, lengths_of, lengths_of_set, shape_of
from learner.checkpoints import resuming
from oapl.config import RunConfig
from oapl.config.objective import Purpose, has_engines, is_judged, samples, source_of
from oapl.config.toml import to_toml
from oapl.errors import CheckpointError, InputError
from oapl.records import Prompt
from oapl.replay.order import OTHER_SET
from reward_server import settings as rewards


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Where a stage of a run begins, which a run by itself finds in its folder.

    Attributes:
        checkpoint: Of this stage, from which it goes on; None where it begins.
        awaits: The stage that will have made its stored groups, or the model that is to answer;
            empty where they are there.
    """

    checkpoint: Path | None = None
    awaits: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreflightReport:
    """The resolved configuration and what it means.

    Attributes:
        facts: Name to one line of text, in the order to be shown.
        notes: What a person should know before the run goes on: prompts dropped or cut, data that
            ends before the last step.
        unchecked: What could not be looked at from here.
        trials: A few prompts of every source, for verifiers to be tried on.
        generation: What is to be generated, where that is the purpose.
    """

    config: RunConfig
    facts: Mapping[str, str]
    notes: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    trials: tuple[Prompt, ...] = ()
    generation: Generation | None = None

    def __str__(self) -> str:
        """TOML, the facts as comments: fit to be saved as a recipe."""
        return "\n".join([to_toml(self.config).rstrip(), "", *self.lines()])

    def lines(self) -> list[str]:
        """What was found, as comments of TOML."""
        width = max(map(len, self.facts), default=0)
        lines = [f"# {name:<{width}}  {text}" for name, text in self.facts.items()]
        lines += [f"# note: {note}" for note in self.notes]
        lines += [f"# not checked: {what}" for what in self.unchecked]
        return lines


def preflight(
    config: RunConfig,
    *,
    purpose: Purpose = "train",
    is_dry: bool = False,
    hardware: Hardware | None = None,
    begin: Begin | None = None,
) -> PreflightReport:
    """Refuse what cannot work.

    Args:
        config: The run.
        purpose: An evaluation alone needs no `data.sources`; to train takes learner ranks.
        is_dry: Nothing follows, so a model that is not here is no error: nothing of it is checked.
        hardware: Size the run for a machine that is not here: its device counts instead of the
            recipe's, and what lies on that machine is not checked.
        begin: Where the stage begins that `config` is of; None of a run without stages.

    Raises:
        InputError: With value, rule and remedy; nothing was started.
    """
    if hardware is not None:
        cluster = dataclasses.replace(config.cluster, device=hardware.device)
        config = dataclasses.replace(config, cluster=cluster)
    if purpose == "evaluate":
        config = without_training(config)
    check(config)
    if purpose == "evaluate":
        check_evaluation(config)
    if is_judged(config):
        rewards.check(config)
    found = _Findings(config, is_elsewhere=hardware is not None, begin=begin)
    if hardware is None and not config.ray_address and is_judged(config):
        found.sandbox()
    if hardware is None:
        if config.cluster.mode == "ray":
            check_working_directory()
        found.folder(purpose)
    if is_dry and (missing := _missing(config)):
        found.unchecked.append(
            f"model, tokenizer, data and memory: {missing} is not here; make it, or give a folder "
            "that holds at least its config.json"
        )
        return found.report()
    found.model()
    if tokenizer := found.tokenizer():
        found.data(tokenizer, purpose, is_dry=is_dry)
    found.size(hardware, purpose)
    return found.report()


def _missing(config: RunConfig) -> str:
    """The first model that is no folder here, and no name that a hub answers to; empty if none."""
    for setting, path in (("model.path", config.model.path), ("critic.path", config.critic.path)):
        if path and not Path(path).exists() and not _is_known(path, config.model.trust_remote_code):
            return f"{setting} = {path!r}"
    return ""


@functools.cache
def _is_known(name: str, trust_remote_code: bool) -> bool:
    """Whether a hub answers to a name; asked once, since a run may have many stages."""
    try:
        load_model_config(name, trust_remote_code)
    except InputError:
        return False
    return True


class _Findings:
    """What is learned, one question after the other.

    Where the run is to be elsewhere, files that are missing are noted and not refused.
    """

    def __init__(self, config: RunConfig, *, is_elsewhere: bool, begin: Begin | None) -> None:
        self._config = config
        self._begin = begin
        self._is_elsewhere = is_elsewhere
        self._shape: Shape | None = None
        self._longest_prompt: int | None = None
        self._stored: Lengths | None = None
        self._checkpoint: Path | None = None
        self.facts: dict[str, str] = {}
        self.notes: list[str] = []
        self.unchecked: list[str] = []
        self._judged: list[Prompt] = []
        self.generation: Generation | None = None

    def report(self) -> PreflightReport:
        notes = rewards.notes(self._config, self._judged) if is_judged(self._config) else []
        return PreflightReport(
            config=self._config,
            facts=self.facts,
            notes=(*notes, *self.notes),
            trials=tuple(_a_few(self._judged)),
            unchecked=tuple(self.unchecked),
            generation=self.generation,
        )

    def folder(self, purpose: Purpose) -> None:
        """Where the run will be, and whether training goes on from a checkpoint."""
        check_folder(self._config)
        check_baseline(self._config)
        self.facts["run folder"] = str(self._config.folder)
        if purpose == "train":
            if self._begin is None:
                self._checkpoint = resuming.resume_from(self._config)
            else:
                self._checkpoint = self._begin.checkpoint
            begins = f"goes on from {self._checkpoint.name}" if self._checkpoint else "new"
            self.facts["run folder"] += f", {begins}"

    def sandbox(self) -> None:
        """Attack the sandbox for programs, where the run needs one."""
        if report := rewards.sandbox(self._config):
            self.facts["sandbox"] = report.level

    def model(self) -> None:
        path = self._config.model.path
        model = load_model_config(path, self._config.model.trust_remote_code)
        check_sizes(f"model.path = {path!r}", model)
        check_degree(self._config, model)
        self.facts["model"] = f"{path} ({model.model_type})"
        number = None
        may_lack_weights = self._is_elsewhere or bool(self._config.eval.endpoint)
        if Path(path).is_dir() and not (may_lack_weights and not has_weights(Path(path))):
            number, files = count_parameters(Path(path))
            if number:
                self.facts["parameters"] = f"{number:,} in {files} file{'s' if files > 1 else ''}"
        self._shape = shape_of(model, number)
        if not number:
            self.facts["parameters"] = f"{self._shape.parameters:,} by config.json"
        if has_critic(self._config):
            critic, self.facts["critic"] = look_at_critic(
                self._config, model, self._shape, is_elsewhere=self._is_elsewhere
            )
            self._shape = dataclasses.replace(self._shape, critic=critic)

    def tokenizer(self) -> Any:
        config, folder = self._config, Path(self._config.model.path)
        if self._is_elsewhere and folder.is_dir() and not any(folder.glob("tokenizer*")):
            self.unchecked.append(f"tokenizer and data: {folder} holds no tokenizer")
            return None
        tokenizer = load_tokenizer(config.model.path, config.model.trust_remote_code)
        self.facts |= describe_tokenizer(config, tokenizer)
        self.facts["context"] = f"{context_tokens(config)} tokens"
        if config.critic.path and (uncompared := check_vocabulary(config, tokenizer)):
            self.unchecked.append(uncompared)
        return tokenizer

    def data(self, tokenizer: Any, purpose: Purpose, *, is_dry: bool) -> None:
        try:
            self._data(tokenizer, purpose, is_dry=is_dry)
        except InputError as error:
            if not self._is_elsewhere:
                raise
            self.unchecked.append(f"data: {error}")

    def _data(self, tokenizer: Any, purpose: Purpose, *, is_dry: bool) -> None:
        config = dating.as_resumed(self._config, self._checkpoint)
        evaluated: list[Prompt]
        if purpose == "generate":
            read, evaluated = self._generation(self._config, tokenizer), []
        else:
            read = self._training(config, tokenizer) if purpose == "train" else {}
            evaluated = self._evaluation(config, tokenizer) if has_engines(config) else []
            if purpose == "train" and config.eval.is_in_mid_run:
                self.facts["evaluations"] = how_evaluated(config)
        if is_dry:
            self.facts |= evaluation_facts(config, evaluated) | data_facts(config, read, evaluated)

    def _evaluation(self, config: RunConfig, tokenizer: Any) -> list[Prompt]:
        read = evaluation_data(config, tokenizer)
        demand_categories(config, read.prompts)
        self.facts |= read.told("eval", self.notes)
        if is_judged(config):
            self._judged += read.prompts
        return read.prompts

    def _training(self, config: RunConfig, tokenizer: Any) -> dict[str, SourceData]:
        """What is trained on, and for how many steps; the prompts, unless they are stored ones."""
        sources: dict[str, SourceData] = {}
        if self._begin is not None and self._begin.awaits:
            self.facts["stored groups"] = f"those that stage {self._begin.awaits} will have made"
            return sources
        if source_of(config) == "stored":
            found = look_at_sets(config, tokenizer)
            self.facts["stored groups"] = str(found)
            size = found.left
            self._demand_same_set(found.digest)
            self._stored = lengths_of_set(found.longest_prompt, found.longest)
        else:
            read = training_data(config, tokenizer)
            size = len(read.prompts)
            self._demand_same_data(read)
            self._judged += read.prompts if samples(config) else []
            sources = self._told(config, read)
        self.facts["steps"] = steps_told(config, size, self.notes)
        return sources

    def _demand_same_set(self, digest: str) -> None:
        """Refuse, where it is cheap to tell, to go on over other groups: replay would, later."""
        cursor = resuming.cursor_of(self._checkpoint) if self._checkpoint else None
        if cursor and cursor["data"] != digest:
            raise InputError(f"{self._checkpoint}: {OTHER_SET}")

    def _demand_same_data(self, read: DataRead) -> None:
        """The same for rows, to which sources may have come."""
        cursor = resuming.cursor_of(self._checkpoint) if self._checkpoint else None
        if cursor is None or read.order is None:
            return
        try:
            read.order.restore(cursor)
        except CheckpointError as error:
            raise InputError(f"{self._checkpoint}: {error}") from error
        for name in read.order.joined:
            self.notes.append(f"data {name}: new since the checkpoint; it joins the others here")

    def _told(self, config: RunConfig, read: DataRead) -> dict[str, SourceData]:
        self.facts |= read.told("data", self.notes)
        self._longest_prompt = max(count.longest for count in read.counts.values())
        return read.by_source(config)

    def _generation(self, config: RunConfig, tokenizer: Any) -> dict[str, SourceData]:
        """What is answered, and what of it has been."""
        config = dating.dated(config, config.folder / dating.GENERATION)
        read = training_data(config, tokenizer)
        self._judged += read.prompts
        if self._begin is not None and self._begin.awaits:
            self.facts["groups"] = f"by the model that stage {self._begin.awaits} will have trained"
        else:
            self.generation = look_at_generation(config, tokenizer, read.prompts)
            self.facts["groups"] = str(self.generation)
        return self._told(config, read)

    def size(self, hardware: Hardware | None, purpose: Purpose) -> None:
        """Count what the run will use.

        Raises:
            InputError: It cannot fit.
        """
        config = self._config
        if purpose == "evaluate" or self._shape is None:
            return
        context = context_tokens(config)
        if purpose == "generate":
            lengths = lengths_of(config, context, self._longest_prompt)
            self.facts |= engine_facts(config, self._shape, lengths, hardware)
            return
        if hardware is None and config.cluster.device == "cpu" and not config.cluster.address:
            hardware = this_machine()
        lengths = lengths_of(config, context, self._longest_prompt)
        if self._stored is not None and not (
            has_engines(config) and lengths.longest > self._stored.longest
        ):
            lengths = self._stored
        sized = size(config, self._shape, lengths, hardware)
        self.facts |= sized.facts
        self.unchecked += sized.unchecked
        if sized.problems:
            raise InputError("\n".join(sized.problems))


def _a_few(judged: Sequence[Prompt]) -> Iterator[Prompt]:
    """The first, middle and last prompt of each source."""
    by_source: defaultdict[str, list[Prompt]] = defaultdict(list)
    for prompt in judged:
        by_source[prompt.source].append(prompt)
    for those in by_source.values():
        yield from (those[index] for index in sorted({0, len(those) // 2, len(those) - 1}))
