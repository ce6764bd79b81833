"""Each process of a run keeps the keys that it needs, and no other."""

import pytest

from deploy.processes import keys
from oapl.config import RunConfig

CANARIES = {
    name: f"canary-{number}"
    for number, name in enumerate(
        (
            "WANDB_API_KEY",
            "WANDB_IDENTITY_TOKEN_FILE",
            "HF_TOKEN",
            "HUGGING_FACE_HUB_TOKEN",
            "JUDGE_KEY",
            "OTHER_JUDGE_KEY",
            "ENDPOINT_KEY",
            "OPENAI_API_KEY",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "GITHUB_TOKEN",
            "DB_PASSWORD",
            "RAY_AUTH_TOKEN",
        )
    )
}
OTHERS = {"PATH": "/bin", "TOKENIZERS_PARALLELISM": "false", "KEYBOARD": "de", "HF_HOME": "/hub"}
JUDGED = {
    "reward": {
        "verifiers": {"judge": 1.0, "second": 1.0},
        "options": {
            "judge": {"base_url": "http://h/v1", "model": "m", "api_key_env": "JUDGE_KEY"},
            "second": {
                "verifier": "judge",
                "base_url": "http://h/v1",
                "model": "m",
                "api_key_env": "OTHER_JUDGE_KEY",
            },
        },
    }
}
ASKED = {"eval": {"endpoint": {"base_url": "http://h/v1", "api_key_env": "ENDPOINT_KEY"}}}
HUB = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}
RAY = {"RAY_AUTH_TOKEN"}


def kept(role, **sections):
    environment = {**CANARIES, **OTHERS}
    keys.of(RunConfig(**sections), role).forget(environment)
    assert {name: environment.get(name) for name in OTHERS} == OTHERS
    return set(environment) - set(OTHERS)


@pytest.mark.parametrize("role", ["trainer", "worker", "replay"])
def test_who_reads_models_and_data_keeps_the_hub_s_token_alone(role):
    assert kept(role, **JUDGED) == HUB | RAY


def test_a_reward_server_keeps_the_keys_of_its_judges():
    assert kept("reward", **JUDGED) == {"JUDGE_KEY", "OTHER_JUDGE_KEY"} | RAY
    assert kept("reward") == RAY


def test_only_workers_keep_the_key_of_the_endpoint_that_they_ask():
    assert kept("worker", **ASKED) == {"ENDPOINT_KEY"} | HUB | RAY
    assert "ENDPOINT_KEY" not in kept("reward", **ASKED) | kept("trainer", **ASKED)


def test_what_a_user_s_own_function_reads_is_kept_but_never_the_key_of_wandb():
    own = kept("reward", reward={"verifiers": {"function": 1.0}})
    assert own == {name for name in CANARIES if not name.startswith("WANDB_")}


@pytest.mark.parametrize("verifiers", [{"judge": 1.0}, {"judge": 1.0, "function": 1.0}])
def test_the_key_of_wandb_is_kept_by_whom_a_recipe_has_ask_with_it(verifiers):
    options = {"base_url": "http://h/v1", "model": "m", "api_key_env": "WANDB_API_KEY"}
    found = kept("reward", reward={"verifiers": verifiers, "options": {"judge": options}})
    assert "WANDB_API_KEY" in found
    assert "WANDB_IDENTITY_TOKEN_FILE" not in found
    endpoint = {"base_url": "http://h/v1", "api_key_env": "WANDB_API_KEY"}
    assert "WANDB_API_KEY" in kept("worker", eval={"endpoint": endpoint})
