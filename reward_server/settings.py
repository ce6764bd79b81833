"""Which verifiers judge something in a run, with which options: checked and made ready where it is
launched.

`[reward.options.NAME]` are the options of verifier NAME. NAME is a file of `verifiers/`, or any
word whose options say `verifier = "FILE"`: so two functions, or math in two ranges, live side by
side under names of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from oapl.config import RunConfig, plugins
from oapl.config.listing import fields
from oapl.config.messages import nearest, shown
from oapl.errors import InputError
from oapl.records import Prompt
from reward_server.sandbox import levels, measure
from reward_server.verifiers.base import VERIFIERS, VerifierFile, wrong_reward


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class VerifierInUse:
    """A verifier that judges something.

    Attributes:
        name: Its own in this run: in metrics, and under `reward.options`.
        plugin: The file's name, or a dotted path.
        options: The file's own.
        key: The setting that names the file.
    """

    name: str
    plugin: Any
    options: Mapping[str, Any]
    key: str

    def file(self) -> VerifierFile:
        """The plugin file.

        Raises:
            InputError: There is none, or it lacks a declaration.
        """
        return VERIFIERS.load(self.plugin, self.key)

    def config(self) -> Any:
        """The file's `Config`, made of the options.

        Raises:
            InputError: There is no such file, or an option is unknown or wrong.
        """
        return plugins.parse(self.file().Config, self.options, f"reward.options.{self.name}.")


def in_use(config: RunConfig) -> list[VerifierInUse]:
    """Each verifier that judges something: those of the sources, and `reward.verifiers` for sources
    that name none, or where there are no sources."""
    found: dict[str, str] = {}
    for section, sources in (("data", config.data.sources), ("eval", config.eval.sources)):
        for index, source in enumerate(sources):
            for name in source.verifiers:
                found.setdefault(name, f"{section}.sources.{index}.verifiers")
            if not source.verifiers:
                found |= dict.fromkeys(config.reward.verifiers, "reward.verifiers")
    found = found or dict.fromkeys(config.reward.verifiers, "reward.verifiers")
    return [_in_use(name, key, config.reward.options.get(name, {})) for name, key in found.items()]


def _in_use(name: str, key: str, table: Mapping[str, Any]) -> VerifierInUse:
    options = dict(table)
    if "verifier" in options:  # a name of the user's own for a file of verifiers
        key = f"reward.options.{name}.verifier"
    plugin = options.pop("verifier", name)
    return VerifierInUse(name=name, plugin=plugin, options=options, key=key)


def problems(config: RunConfig) -> Iterator[str]:
    """What is wrong with the verifiers' names, options and weights, in words."""
    found = in_use(config)
    for verifier in found:
        try:
            verifier.config()
        except InputError as error:
            yield str(error)
    names = [verifier.name for verifier in found]
    for name in config.reward.options:
        if name not in names:
            yield (
                f"reward.options.{name}: no such verifier is in use; "
                f"{nearest(name, names)}in use are {', '.join(names) or 'none'}; "
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


def check(config: RunConfig) -> None:
    """Refuse what cannot work, before anything heavy starts; runs no code of the user's.

    Raises:
        InputError: See `problems`; an unusable reward function, an endpoint or a package that is
            missing; a hang that would pay more than a wrong answer.
    """
    if lines := list(problems(config)):
        raise InputError("\n".join(lines))
    for verifier in in_use(config):
        file, own = verifier.file(), verifier.config()
        file.DECLARES.check(own)
        if "range" not in fields(file.Config):
            continue
        worst = wrong_reward(own.range)
        if config.reward.on_failure > worst:
            raise InputError(
                f"reward.on_failure = {config.reward.on_failure:g} pays a hang more than a wrong "
                f"answer, which {verifier.name} gives {worst:g}; set reward.on_failure = {worst:g}"
            )


def prompt_checks(config: RunConfig) -> dict[str, Callable[[Prompt], object]]:
    """What each verifier in use demands of a prompt, by its name; raises ValueError in words."""
    return {
        verifier.name: partial(verifier.file().DECLARES.check_prompt, verifier.config())
        for verifier in in_use(config)
    }


def text_alone(config: RunConfig) -> dict[str, Callable[[Prompt], Sequence[str]]]:
    """What gives a prompt's reference answers that a verifier can only compare as text, by its
    name."""
    return {
        verifier.name: partial(verifier.file().DECLARES.text_alone, verifier.config())
        for verifier in in_use(config)
    }


def notes(config: RunConfig, prompts: Sequence[Prompt]) -> list[str]:
    """What the run's verifiers want to be known before it starts.

    Args:
        config: The run.
        prompts: All that it asks and evaluates, as far as they could be read.
    """
    found: list[str] = []
    for verifier in in_use(config):
        judged = [prompt for prompt in prompts if verifier.name in prompt.verifiers]
        found += verifier.file().DECLARES.notes(verifier.config(), judged)
    return found


def prepare(config: RunConfig) -> RunConfig:
    """The configuration as other nodes need it: files named in options are replaced by their text.

    Raises:
        InputError: A file is missing.
    """
    options = {name: dict(table) for name, table in config.reward.options.items()}
    for verifier in in_use(config):
        if changed := verifier.file().DECLARES.prepare(verifier.config()):
            options.setdefault(verifier.name, {}).update(changed)
    return dataclasses.replace(config, reward=dataclasses.replace(config.reward, options=options))


def sandbox(config: RunConfig) -> measure.SandboxReport | None:
    """The sandbox for programs on this machine, attacked; None where no verifier runs any.

    Raises:
        InputError: It holds less than `reward.min_level` asks for.
    """
    if not any(verifier.file().DECLARES.runs_programs for verifier in in_use(config)):
        return None
    report = measure.strongest()
    asked = config.reward.min_level
    if levels.LEVELS.index(report.level) < levels.LEVELS.index(asked):
        raise InputError(
            f'reward.min_level = "{asked}", but the sandbox for programs on this machine holds '
            f'"{report.level}" ({report.why_not(asked)}); mend that (`oapl doctor` shows it), or '
            f'accept less with reward.min_level = "{report.level}"'
        )
    return report
