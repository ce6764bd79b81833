"""One reading of which verifiers judge something, for checks, notes, sandbox and server alike."""

import pytest

from deploy.checks.settings import check as check_run
from oapl.config import RunConfig
from oapl.errors import InputError
from reward_server import settings
from reward_server.server import build
from tests.support.judging import prompt, rollout
from tests.support.planted import VERIFIER, plant

OWN = {"name": "a", "task": "chain_sum", "verifiers": {"format": 1.0}}
PLAIN = {"name": "b", "task": "chain_sum"}


def run(verifiers, *, train=(), evaluate=(), options=None) -> RunConfig:
    return RunConfig(
        model={"path": "m"},
        reward={"verifiers": verifiers, "options": options or {}},
        data={"sources": train},
        eval={"sources": evaluate},
    )


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (run({"math": 1.0}), {"math": "reward.verifiers"}),
        (run({"math": 1.0}, train=[OWN]), {"format": "data.sources.0.verifiers"}),
        (run({"math": 1.0}, evaluate=[OWN]), {"format": "eval.sources.0.verifiers"}),
        (
            run({"math": 1.0}, train=[OWN], evaluate=[PLAIN]),
            {"format": "data.sources.0.verifiers", "math": "reward.verifiers"},
        ),
        (
            run({"mine": 1.0}, options={"mine": {"verifier": "math"}}),
            {"mine": "reward.options.mine.verifier"},
        ),
    ],
)
def test_in_use_is_what_a_source_names_or_would_get(config, names):
    assert {verifier.name: verifier.key for verifier in settings.in_use(config)} == names


@pytest.fixture
def with_unused(tmp_path, monkeypatch) -> RunConfig:
    """A run whose every source names its own verifier, and a default that cannot even be built."""
    monkeypatch.syspath_prepend(tmp_path)
    text = VERIFIER.replace("return None", "raise AssertionError('built')")
    text = text.replace(
        "Traits(runs_programs=False)",
        "Traits(runs_programs=True, notes=build, check=build, prepare=build, limits=build)",
    )
    head, declares, tail = text.partition("DECLARES = ")
    line, _, rest = tail.partition("\n")
    name = plant(tmp_path, "planted_unused", f"{head}{rest}\n{declares}{line}\n")
    return run({name: 1.0}, train=[OWN])


def test_an_unused_verifier_is_asked_nothing(with_unused):
    check_run(with_unused)
    settings.check(with_unused)
    assert settings.notes(with_unused, []) == []
    assert settings.prepare(with_unused) == with_unused
    assert settings.sandbox(with_unused) is None, "no program is run, so no sandbox is needed"


async def test_an_unused_verifier_is_not_built(with_unused):
    server = build(with_unused)
    try:
        task = prompt({}, {"format": 1.0}), rollout("<think>a</think><answer>b</answer>")
        (judgement,) = await server.score([task])
        lanes = [key for key in await server.stats() if key.endswith("/queue_length")]
    finally:
        await server.close()
    assert (judgement.failure, judgement.reward) == (None, 1.0)
    assert lanes == ["reward/format/queue_length"]


def test_options_of_an_unused_verifier_are_refused_in_the_same_words_everywhere():
    config = run({"math": 1.0}, train=[OWN], options={"math": {"mode": "prorl"}})
    says = r"^reward.options.math: no such verifier is in use; .*in use are format; name it in"
    for check in (settings.check, check_run):
        with pytest.raises(InputError, match=says):
            check(config)


def test_a_wrong_option_is_refused_in_the_same_words_everywhere():
    config = run({"math": 1.0}, options={"math": {"mode": "prorll"}})
    says = r'^reward.options.math.mode = "prorll": did you mean prorl\? must be one of layered, '
    for check in (settings.check, check_run):
        with pytest.raises(InputError, match=says):
            check(config)
