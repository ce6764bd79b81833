"""Which keys and tokens of the environment a process of the run keeps: those that it needs.

Ray hands a run's environment to every process. Here each forgets, before it imports anything, what
others need: the key of W&B is the command's alone, unless a judge or an endpoint is asked with it;
the hub's token is for who reads models and data; a judge's key is for the reward servers, an
endpoint's for the workers that ask it. What a user's own reward function needs nobody knows, so
reward servers that run one keep all but W&B's key; programs that models write have no environment
at all (`reward_server/sandbox`).
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from dataclasses import dataclass

from oapl.config import RunConfig
from oapl.devices.base import Role

SECRET = re.compile(
    r"(^|_)(API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|PAT)(_(FILE|PATH|ID))?$"
)
"""Names of variables that hold such, or say where it is."""
OF_RAY = "RAY_"
"""Ray's own token, without which a process cannot call another."""
OF_WANDB = "WANDB_"
OF_THE_HUB = ("HF_", "HUGGING_FACE_", "HUGGINGFACE_")
KEY_NAMES = "api_key_env"
"""The option of a judge, or an endpoint, that names its variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What a process keeps.

    Attributes:
        names: Variables.
        begins: Beginnings of others' names.
    """

    names: frozenset[str] = frozenset()
    begins: tuple[str, ...] = ()

    def forget(self, environment: MutableMapping[str, str]) -> None:
        """Take every other key out of an environment.

        Args:
            environment: Variables by name; those of the process itself, mostly.
        """
        for name in [*environment]:
            if SECRET.search(name.upper()) and not self._keeps(name):
                del environment[name]

    def _keeps(self, name: str) -> bool:
        if name in self.names:
            return True
        return name.startswith((OF_RAY, *self.begins)) and not name.startswith(OF_WANDB)


def of(config: RunConfig, role: Role) -> Keys:
    """Tell what a process needs.

    Args:
        config: The run.
        role: What the process does.
    """
    if role != "reward":
        endpoint = config.eval.endpoint.get(KEY_NAMES) if role == "worker" else None
        return Keys(names=frozenset(filter(None, [endpoint])), begins=OF_THE_HUB)
    from reward_server.settings import in_use  # late: every process imports this file

    found = in_use(config)
    named = (verifier.options.get(KEY_NAMES) for verifier in found)
    is_users = any(one.plugin == "function" or "." in one.plugin for one in found)
    return Keys(names=frozenset(filter(None, named)), begins=("",) if is_users else ())
