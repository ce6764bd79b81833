"""Which verifiers a run names, with which options: checked and made ready where it is launched.

`[reward.options.NAME]` are the options of verifier NAME. NAME is a file of `verifiers/`, or any
word whose options say `verifier = "FILE"`: so two functions, or math in two ranges, live side by
side under names of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from oapl.config import RunConfig, plugins
from oapl.errors import InputError
from reward_server.sandbox import levels, measure

PACKAGE = "reward_server.verifiers"


def named(config: RunConfig) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every verifier that the run names, with its plugin file and its options.

    Raises:
        InputError: Options for a verifier that no source uses.
    """
    names = dict.fromkeys(config.reward.verifiers)
    for source in (*config.data.sources, *config.eval.sources):
        names |= dict.fromkeys(source.verifiers)
    unused = [name for name in config.reward.options if name not in names]
    if unused:
        raise InputError(
            f"reward.options.{unused[0]} is set, but no source uses the verifier {unused[0]!r}; "
            f"add it to reward.verifiers or remove its options (in use: {', '.join(names)})"
        )
    found = {}
    for name in names:
        options = dict(config.reward.options.get(name, {}))
        found[name] = str(options.pop("verifier", name)), options
    return found


def check(config: RunConfig) -> None:
    """Refuse what cannot work, before anything heavy starts; runs no code of the user's.

    Raises:
        InputError: An unknown verifier, a wrong option, an unusable reward function, a weight that
            is no finite number, or a hang that would pay more than a wrong answer.
    """
    for name, (plugin, options) in named(config).items():
        module = _module(name, plugin)
        _options(module, name, options)
        if hasattr(module, "check"):
            module.check(options)
        worst = -1.0 if options.get("range") == "minus_one_one" else 0.0
        if config.reward.on_failure > worst and hasattr(module.Config, "range"):
            raise InputError(
                f"reward.on_failure = {config.reward.on_failure:g} pays a hang more than a wrong "
                f"answer, which {name} gives {worst:g}; set reward.on_failure = {worst:g}"
            )


def notes(config: RunConfig) -> list[str]:
    """What the run's verifiers want to be known before it starts."""
    found: list[str] = []
    for name, (plugin, options) in named(config).items():
        module = _module(name, plugin)
        if hasattr(module, "notes"):
            found += module.notes(options)
    return found


def prepare(config: RunConfig) -> RunConfig:
    """The configuration as other nodes need it: files named in options are replaced by their text.

    Raises:
        InputError: A file is missing.
    """
    options = {name: dict(table) for name, table in config.reward.options.items()}
    for name, (plugin, table) in named(config).items():
        module = _module(name, plugin)
        if hasattr(module, "prepare"):
            kept = {"verifier": plugin} if plugin != name else {}
            options[name] = {**module.prepare(table), **kept}
    return dataclasses.replace(config, reward=dataclasses.replace(config.reward, options=options))


def sandbox(config: RunConfig) -> measure.SandboxReport | None:
    """The sandbox for programs on this machine, attacked; None where no verifier runs any.

    Raises:
        InputError: It holds less than `reward.min_level` asks for.
    """
    modules = [_module(name, plugin) for name, (plugin, _) in named(config).items()]
    if not any(getattr(module, "RUNS_PROGRAMS", False) for module in modules):
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


def _module(name: str, plugin: str) -> ModuleType:
    setting = "reward.verifiers" if plugin == name else f"reward.options.{name}.verifier"
    return plugins.load(PACKAGE, plugin, setting)


def _options(module: ModuleType, name: str, options: Mapping[str, Any]) -> None:
    from reward_server.verifiers.base import parse

    if hasattr(module, "Config"):
        parse(module.Config, options, f"reward.options.{name}")
