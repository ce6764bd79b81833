"""The samples of an evaluation as stored groups."""

import dataclasses
import json

import numpy as np
import pandas
import pytest

from actors.data.context import context_tokens, engine_context, evaluation_context
from actors.data.tokenizer import load_tokenizer
from deploy.checks.stored import look_at_sets
from deploy.run.evaluation import Evaluator
from deploy.run.stored_answers import groups_of
from oapl import groups_file
from oapl.config.toml import load_config
from oapl.errors import InputError
from oapl.groups_file import pass_rates
from oapl.records import EvalAnswers, Judgement, Prompt, Rollout, Sampling, Verdict
from tests.support.makers import make_model

SAMPLING = Sampling(temperature=0.7, max_tokens=9)


def rollout(version: int, length: int = 3) -> Rollout:
    return Rollout(
        token_ids=np.full(length, 5, np.int32),
        inference_logprobs=np.full(length, -0.5, np.float32),
        finish_reason="stop",
        text="x" * length,
        first_version=version,
        last_version=version,
    )


def judged(reward: float | None) -> Judgement:
    if reward is None:
        return Judgement(reward=0.0, verdicts={}, failure="a server died")
    verdict = Verdict(kind="accepted" if reward else "wrong_answer", reward=reward)
    return Judgement(reward=reward, verdicts={"math": verdict})


def answers(prompt: Prompt, *rewards: float | None, version: int = -1) -> EvalAnswers:
    return EvalAnswers(
        prompt=prompt,
        rollouts=tuple(rollout(version, length) for length, _ in enumerate(rewards, 1)),
        judgements=tuple(map(judged, rewards)),
        greedy=rollout(version, 7),
        greedy_judgement=judged(1.0),
    )


def prompt(question: str = "1+1=") -> Prompt:
    return Prompt(
        id=f"sums:{question}@0",
        text=question,
        token_ids=np.array([4, 5], np.int32),
        verifiers={"math": 1.0},
        reference={"answer": "2"},
        source="sums",
        question=question,
    )


def test_a_sample_that_nobody_could_judge_is_in_no_group():
    half, none = answers(prompt("a"), 1.0, None, 0.0), answers(prompt("b"), None, None)
    (group,) = groups_of([half, none], SAMPLING)
    assert group.prompt.id == "sums:a@0"
    assert group.all_rewards.tolist() == group.rewards.tolist() == [1.0, 0.0]
    assert [len(one.token_ids) for one in group.rollouts] == [1, 3]
    assert group.sampling == SAMPLING


def test_the_version_is_the_engines_and_0_for_the_model_s_own_weights():
    first, second = groups_of(
        [answers(prompt(), 1.0), answers(prompt(), 1.0, version=40)], SAMPLING
    )
    assert [first.version, first.rollouts[0].first_version] == [0, 0]
    assert [second.version, second.rollouts[0].last_version] == [40, 40]


def test_an_evaluation_of_greedy_answers_alone_stores_those():
    (group,) = groups_of([answers(prompt())], SAMPLING)
    assert [len(one.token_ids) for one in group.rollouts] == [7]
    assert group.sampling == dataclasses.replace(SAMPLING, temperature=0.0)


class FakeWorkers:
    """Answers question N with rewards 1 for the first N % 3 of its samples."""

    async def evaluate(self, prompts, protocol, slots):
        return [
            answers(prompt, *(float(place < index % 3) for place in range(protocol.num_samples)))
            for index, prompt in enumerate(prompts)
        ]


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    make_model(folder / "model")
    rows = [{"prompt": f"{n}+1=", "answer": str(n + 1)} for n in range(6)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = [f"run.dir={folder}", f"model.path={folder / 'model'}", "eval.num_samples=2"]
    settings += ["rollout.max_tokens=9"]
    for index, name in enumerate(("sums", "again")):
        settings += [f"eval.sources.{index}.name={name}"]
        settings += [f"eval.sources.{index}.path={folder / 'sums.jsonl'}"]
    made = load_config(None, [*settings, "eval.ks=[1]", "eval.sources.1.template=code"])
    made.folder.mkdir()
    return made


async def test_an_evaluation_leaves_a_set_per_source_that_can_be_trained_on(config):
    metrics = await Evaluator(config, FakeWorkers(), stores=True)("eval")
    folder = config.folder / "evaluations" / "eval"
    for name in ("sums", "again"):
        groups = list(groups_file.read(folder / name))
        assert [group.rewards.mean() for group in groups] == [0, 0.5, 1, 0, 0.5, 1]
        assert metrics[f"eval/{name}/mean@2"] == 0.5
        rates = pass_rates.read(folder / name / pass_rates.FILE)
        assert rates[pass_rates.digest("1+1=")] == 0.5
        assert pandas.read_parquet(folder / name).groupby("id").reward.mean().mean() == 0.5
    assert groups_file.header(folder / "sums").made_by == "eval"
    tokenizer = load_tokenizer(config.model.path)
    objective = {"name": "grpo"}
    for name, template in (("sums", "auto"), ("again", "code")):
        replay = dataclasses.replace(config.replay, source="stored", path=(str(folder / name),))
        data = dataclasses.replace(config.data, template=template)
        run = dataclasses.replace(config, replay=replay, data=data, objective=objective)
        assert look_at_sets(run, tokenizer).rollouts == 12


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], Sampling(max_tokens=9)),
        (
            ["eval.temperature=0.6", "eval.top_p=0.95", "eval.top_k=40", "eval.max_tokens=7"],
            Sampling(temperature=0.6, top_p=0.95, top_k=40, max_tokens=7),
        ),
        (["eval.as_rollouts=true"], Sampling(temperature=0.5, top_p=0.9, top_k=3, max_tokens=9)),
    ],
)
async def test_evaluations_sample_as_they_say_or_as_rollouts_do(config, settings, expected):
    class Workers:
        async def evaluate(self, prompts, protocol, slots):
            self.asked = protocol.sampling
            return []

    of_rollouts = ["rollout.temperature=0.5", "rollout.top_p=0.9", "rollout.top_k=3"]
    said = load_config(None, [*of_rollouts, *settings])
    rollout = dataclasses.replace(said.rollout, max_tokens=9)
    section = dataclasses.replace(said.eval, sources=config.eval.sources[:1], ks=(1,))
    workers = Workers()
    run = dataclasses.replace(config, rollout=rollout, eval=section)
    await Evaluator(run, workers, stores=False)("step-4")
    assert workers.asked == expected


async def test_each_set_may_have_answers_of_its_own(config):
    class Workers:
        asked = ()

        async def evaluate(self, prompts, protocol, slots):
            self.asked = (
                *self.asked,
                (protocol.sampling, protocol.num_samples, protocol.greedy),
            )
            return [answers(prompt, *([1.0] * protocol.num_samples)) for prompt in prompts]

    own = {"temperature": 0.6, "top_p": 0.95, "max_tokens": 20, "num_samples": 3, "greedy": False}
    first, second = config.eval.sources
    sources = (dataclasses.replace(first, answers=own), second)
    section = dataclasses.replace(config.eval, sources=sources, temperature=0.8)
    workers = Workers()
    run = dataclasses.replace(config, eval=section)
    metrics = await Evaluator(run, workers, stores=False)("step-4")
    assert workers.asked == (
        (Sampling(temperature=0.6, top_p=0.95, max_tokens=20), 3, False),
        (Sampling(temperature=0.8, max_tokens=9), 2, True),
    )
    assert metrics["eval/sums/mean@3"] == metrics["eval/again/mean@2"] == 1.0


async def test_an_evaluation_may_have_a_longer_context_than_rollouts(config):
    """A prompt fits where its set's longest response leaves it room."""
    rollout = dataclasses.replace(config.rollout, context_tokens=12)
    section = dataclasses.replace(config.eval, sources=config.eval.sources[:1], max_tokens=11)
    with pytest.raises(InputError, match=r"none of its 6 prompts fits"):
        Evaluator(dataclasses.replace(config, rollout=rollout, eval=section), None, stores=False)
    section = dataclasses.replace(section, context_tokens=20)
    run = dataclasses.replace(config, rollout=rollout, eval=section)
    Evaluator(run, None, stores=False)
    assert (context_tokens(run), evaluation_context(run), engine_context(run)) == (12, 20, 20)
    section = dataclasses.replace(section, context_tokens=513)
    with pytest.raises(InputError, match=r"eval.context_tokens = 513: the model was made for 512"):
        Evaluator(dataclasses.replace(run, eval=section), None, stores=False)


async def test_a_training_run_s_evaluations_store_no_groups_unless_asked(config):
    await Evaluator(config, FakeWorkers(), stores=False)("step-3")
    assert (config.folder / "evaluations" / "step-3.sums.jsonl").is_file()
    assert not (config.folder / "evaluations" / "step-3").exists()
