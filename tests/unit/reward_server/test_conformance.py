"""What every verifier file must do, whatever a response holds. A new file needs a `Sample` here."""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import pytest

from oapl.config import plugins
from oapl.config.listing import fields
from oapl.config.sections import RewardSection
from oapl.errors import InputError
from oapl.records import KINDS, Verdict
from reward_server.pool.fork_server import Setup
from reward_server.sandbox import measure
from reward_server.verifiers import base, code
from reward_server.verifiers.base import VERIFIERS
from tests.support import speed
from tests.support.fake_judge import fake_judge
from tests.support.judging import built as made
from tests.support.judging import prompt, rollout, server
from tests.support.planted import VERIFIER, plant

JAIL = "landlock+seccomp"
MIB = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A verifier's options, a prompt's reference, a response it accepts, and its rewards' range."""

    good: str
    reference: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    span: tuple[float, float] = (0.0, 1.0)
    needs_reference: bool = True


SAMPLES = {
    "code": Sample(
        good="```python\nprint(int(input()) ** 2)\n```",
        reference={"tests": {"inputs": ["2", "3"], "outputs": ["4", "9"]}},
    ),
    "format": Sample(good="<think>a</think><answer>b</answer>", needs_reference=False),
    "function": Sample(
        good="good",
        options={
            "function": "rule.py:reward",
            "source": "def reward(prompt, response, reference): return float(response == 'good')",
        },
        needs_reference=False,
    ),
    "ifeval": Sample(
        good="- No pause here. It goes on.",
        reference={
            "instruction_id_list": [
                "punctuation:no_comma",
                "language:response_language",
                "length_constraints:number_sentences",
                "change_case:capital_word_frequency",
                "detectable_format:number_bullet_lists",
                "keywords:existence",
            ],
            "kwargs": [
                {},
                {"language": "en"},
                {"relation": "less than", "num_sentences": 3},
                {"capital_relation": "less than", "capital_frequency": 2},
                {"num_bullets": 1},
                {"keywords": ["pause"]},
            ],
        },
    ),
    "judge": Sample(good="it is 4", reference={"answer": "4"}),
    "math": Sample(
        good=r"\boxed{\frac{1}{2}}",
        reference={"answer": "0.5"},
        options={"range": "minus_one_one"},
        span=(-1.0, 1.0),
    ),
    "reasoning_gym": Sample(
        good="<answer>5</answer>",
        reference={
            "entry": {
                "question": "2 + 3",
                "answer": "5",
                "metadata": {"source_dataset": "chain_sum"},
            }
        },
    ),
    "stem": Sample(good=r"\boxed{B}", reference={"answer": "B"}),
    "shaping": Sample(
        good="anything",
        options={"length_penalty": 0.5, "length_limit": 8},
        span=(-0.6, 0.0),
        needs_reference=False,
    ),
}

BAD = {
    "empty": "",
    "blank": " \n\t ",
    "a megabyte of one letter": "a" * MIB,
    "a megabyte of prose": "The end is not near. " * (MIB // 21),
    "a megabyte of lines": "\n" * MIB,
    "a megabyte of brackets": "[" * MIB,
    "a megabyte of open boxes": r"\boxed{" * (MIB // 7),
    "a megabyte in a box": rf"\boxed{{{'9' * MIB}}}",
    "a megabyte in an answer": f"<answer>{'(' * MIB}</answer>",
    "a megabyte of thoughts": "<think>" * (MIB // 7),
    "a megabyte of closed thoughts": "<think>x</think>" * (MIB // 16),
    "a megabyte of stars": "* " * (MIB // 2),
    "a megabyte of fences": "```python\n" * (MIB // 10),
    "NUL": "\0<answer>\0</answer>\\boxed{\0}",
    "lone surrogates": "\ud800<answer>\udfff</answer>\\boxed{\ud800}",
    "an open thought": "<think>it is \\boxed{1}",
    "an open answer": "<answer>5",
    "an open box": r"so \boxed{5",
    "closing tags": "</answer></think>}}}",
    "an open fence": "```python\nprint(1)",
    "a deep nest": rf"\boxed{{{'{' * 5000}{'}' * 5000}}}",
    "right to left": "\u202e\u200b<answer>٤</answer>",
}


@pytest.fixture(scope="module")
def endpoint():
    with fake_judge(lambda text: f"VERDICT: {'' if 'it is 4' in text else 'IN'}CORRECT") as judge:
        yield judge


@pytest.fixture(scope="module")
def build(endpoint):
    """A started verifier by name, built once."""
    built = {}

    def get(name):
        if name not in built:
            verifier = made(name, **options(name, endpoint))
            VERIFIERS.load(name).DECLARES.warm(verifier)
            built[name] = started(name, verifier)
        return built[name]

    yield get
    for verifier in built.values():
        close(verifier)


def started(name, verifier):
    declared = VERIFIERS.load(name).DECLARES
    declared.start(verifier, measure.strongest().level if declared.runs_programs else JAIL)
    return verifier


def close(verifier):
    if isinstance(verifier, code.CodeVerifier):  # the one that has a sandbox of its own
        verifier.close()


def options(name, endpoint):
    return endpoint.options() if name == "judge" else dict(SAMPLES[name].options)


def task(name, text, reason="stop", reference=None):
    held = SAMPLES[name].reference if reference is None else reference
    return prompt(held, {name: 1.0}), rollout(text, reason)


def conforms(verdict, sample):
    assert isinstance(verdict, Verdict)
    assert verdict.kind in KINDS
    assert sample.span[0] - 1e-9 <= verdict.reward <= sample.span[1] + 1e-9
    assert all(math.isfinite(part) for part in verdict.parts.values())
    return True


names = pytest.mark.parametrize("name", VERIFIERS.names())


@names
def test_every_verifier_file_has_a_sample(name):
    assert name in SAMPLES, (
        f"reward_server/verifiers/{name}.py has no Sample in {__file__}: add one with a response "
        "it accepts, so that what every verifier must do is tried on it too"
    )


@names
def test_the_good_response_gets_the_full_reward_each_time(name, build):
    verdicts = [build(name).verify(*task(name, SAMPLES[name].good)) for _ in range(2)]
    assert conforms(verdicts[0], SAMPLES[name])
    if name != "shaping":  # four tokens of eight cost a quarter
        assert (verdicts[0].kind, verdicts[0].reward) == ("accepted", 1.0)
    assert verdicts[0] == dataclasses.replace(verdicts[1], seconds=verdicts[0].seconds)


@names
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_response_gets_the_same_verdict_each_time_and_within_the_deadline(name, bad, build):
    held = Setup(path=[], verifiers={name: (name, SAMPLES[name].options)}).limits()[name]
    deadline_s = held.deadline_s or RewardSection().deadline_s
    started = time.process_time()
    verdict = build(name).verify(*task(name, BAD[bad]))
    assert time.process_time() - started < speed.here(deadline_s)
    assert conforms(verdict, SAMPLES[name])
    if name != "shaping":
        assert verdict.reward < 1.0
    if len(BAD[bad]) < MIB // 4:
        again = build(name).verify(*task(name, BAD[bad]))
        assert verdict == dataclasses.replace(again, seconds=verdict.seconds)


@names
def test_a_prompt_without_its_reference_is_refused_by_name(name, build):
    if not SAMPLES[name].needs_reference:
        assert conforms(
            build(name).verify(*task(name, SAMPLES[name].good, reference={})), SAMPLES[name]
        )
        return
    with pytest.raises(InputError, match="p:0@0"):
        build(name).verify(*task(name, SAMPLES[name].good, reference={}))


@names
def test_the_rule_for_a_response_that_was_cut_off_is_a_setting(name, build, endpoint):
    cut = task(name, SAMPLES[name].good, reason="length")
    if name == "shaping":  # it is that rule
        assert build(name).verify(*cut).parts["termination"] < 0
        return
    for rule, kind in (("wrong", "malformed"), ("judge", "accepted")):
        verifier = started(name, made(name, **options(name, endpoint), truncated=rule))
        assert verifier.verify(*cut).kind == kind
        close(verifier)


@names
def test_options_that_do_not_exist_are_refused(name):
    with pytest.raises(InputError, match="nonsense"):
        made(name, nonsense=1)


async def test_in_the_pool_every_bad_response_has_a_verdict_too(endpoint):
    found = VERIFIERS.names()
    tasks = [task(name, text) for name in found for text in BAD.values()]
    table = {name: options(name, endpoint) for name in found}
    async with server(dict.fromkeys(found, 1.0), {n: t for n, t in table.items() if t}) as judges:
        judgements = await judges.score(tasks)
    for (asked, _), judgement in zip(tasks, judgements, strict=True):
        assert judgement.failure is None
        (name,) = asked.verifiers
        verdict = judgement.verdicts[name]
        assert conforms(verdict, SAMPLES[name])
        assert verdict.kind != "error", verdict.detail


def test_truncated_is_a_field_of_the_same_name_everywhere():
    for name in VERIFIERS.names():
        field = fields(VERIFIERS.load(name).Config).get("truncated")
        assert name == "shaping" or field.annotation == base.Truncated


@names
def test_what_is_done_with_it_before_it_judges_is_declared(name, endpoint):
    file = VERIFIERS.load(name)
    base.build(file, plugins.parse(file.Config, options(name, endpoint), f"reward.options.{name}."))


@pytest.mark.parametrize("method", ["warm(self)", "start(self, level)"])
def test_a_method_that_nobody_would_call_is_refused_with_what_to_declare(
    tmp_path, monkeypatch, method
):
    hook = method.partition("(")[0]
    text = VERIFIER.replace("return None", "return Mine()")
    text += f"\nclass Mine:\n    def {method}:\n        raise KeyError\n"
    monkeypatch.syspath_prepend(tmp_path)
    file = VERIFIERS.load(plant(tmp_path, f"planted_undeclared_{hook}", text))
    with pytest.raises(InputError, match=rf"has a method {hook} .*{hook}=Mine\.{hook}\)"):
        base.build(file, None)
    declared = f"{text}\nDECLARES = Traits(runs_programs=False, {hook}=Mine.{hook})\n"
    file = VERIFIERS.load(plant(tmp_path, f"planted_declared_{hook}", declared))
    with pytest.raises(KeyError):
        getattr(file.DECLARES, hook)(*([base.build(file, None)] + ["none"] * (hook == "start")))
