"""Rules about what alarms do: that there is such an alarm, and that the run can do it."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.checks.plugins import declared
from oapl.alarms.base import ALARMS
from oapl.config import RunConfig, plugins
from oapl.errors import InputError


def alarm_rules(config: RunConfig) -> Iterator[str]:
    """Each alarm of `alarms.actions`, and what it is to do."""
    has_reference = "reference" in declared(config).needs
    for name, action in config.alarms.actions.items():
        key = f"alarms.actions.{name}"
        try:
            plugins.find(ALARMS.package, name, "alarms.actions")
        except InputError as error:
            yield str(error)
            continue
        if action == "reset_reference" and not has_reference:
            yield (
                f'{key} = "reset_reference": the objective {config.objective["name"]} has no '
                "reference; one with a KL penalty has (objective.kl_coefficient of grpo, ppo and "
                'remix); set it to "stop", or leave it out'
            )
