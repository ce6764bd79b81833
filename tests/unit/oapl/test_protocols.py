"""Named protocols of evaluation: what they say, and what comes before them."""

import tomllib
from dataclasses import replace

import pytest
from pydantic import ValidationError

from deploy.checks.settings import check
from oapl.config import RunConfig, protocols
from oapl.config.sections import AnswersSection, EvalSection
from oapl.config.stages import stages_of
from oapl.config.toml import load_config, to_toml
from oapl.errors import InputError
from oapl.sampling import protocol_of
from tests.support.paper_recipes import FOLDER

PUBLISHED = {
    "pcl": {
        "num_samples": 32,
        "temperature": 0.6,
        "top_k": 40,
        "top_p": 0.95,
        "max_tokens": 129024,
    },
    "oapl_math": {"num_samples": 10, "temperature": 0.6, "top_p": 0.95, "max_tokens": 16384},
    "livecodebench": {"num_samples": 20, "temperature": 0.6, "top_p": 0.95, "max_tokens": 65536},
    "prorl": {"num_samples": 16, "temperature": 0.6, "top_p": 0.95},
    "remix": {"num_samples": 0, "greedy": True, "max_tokens": 8192},
    "perplexity": {"temperature": 0.7, "top_p": 0.95},
    "avg32_t1": {"num_samples": 32, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "greedy": False},
    "deepseek_t06_p095": {"temperature": 0.6, "top_p": 0.95},
}
"""What the papers print."""
SOURCE = ["eval.sources.0.name=s", "eval.sources.0.path=s.jsonl"]
BASE = ["model.path=m", "data.sources.0.name=d", "data.sources.0.path=d.jsonl"]


@pytest.mark.parametrize("name", protocols.names())
def test_a_protocol_is_a_whole_way_to_answer_with_its_source_on_top(name):
    text = (protocols.FOLDER / f"{name}.toml").read_text()
    assert text.startswith("# ")
    table = tomllib.loads(text)
    made = AnswersSection(**table)
    assert made.num_samples or made.greedy
    assert all(k <= made.num_samples for k in made.ks)
    assert {"num_samples", "ks", "greedy"} <= set(table)
    assert not made.num_samples or {"temperature", "top_p", "top_k"} <= set(table)
    assert {key: getattr(made, key) for key in PUBLISHED.get(name, {})} == PUBLISHED.get(name, {})
    check(load_config(None, [*BASE, *SOURCE, f"eval.protocol={name}"]))


def test_every_published_protocol_is_there():
    assert set(PUBLISHED) <= set(protocols.names())


def test_a_recipe_of_the_paper_answers_as_its_protocol_does():
    recipe = load_config(FOLDER / "oapl_math_l50.toml", []).eval
    assert recipe == replace(EvalSection(protocol="oapl_math", sources=recipe.sources), protocol="")


def test_it_is_laid_under_what_is_said_beside_it():
    section = EvalSection(protocol="pcl", num_samples=4)
    assert (section.num_samples, section.top_k, section.max_tokens) == (4, 40, 129024)
    assert RunConfig(eval={"protocol": "pcl", "top_p": 1.0}).eval.temperature == 0.6
    assert EvalSection(num_samples=4).top_k == 0


def test_it_is_laid_over_what_its_recipe_is_laid_over(tmp_path):
    (tmp_path / "base.toml").write_text("[eval]\ntemperature = 0.1\ntimeout_s = 5.0\n")
    own = tmp_path / "own.toml"
    own.write_text('extends = "base.toml"\n[eval]\nprotocol = "pcl"\ntop_k = 7\n')
    found = load_config(own, []).eval
    assert (found.temperature, found.top_k, found.timeout_s) == (0.6, 7, 5.0)


def test_an_override_that_names_one_comes_before_the_recipe_and_other_overrides_before_it(tmp_path):
    written = tmp_path / "config.toml"
    written.write_text(to_toml(load_config(None, ["eval.protocol=pcl", *SOURCE])))
    assert load_config(written) == load_config(None, ["eval.protocol=pcl", *SOURCE])
    found = load_config(written, ["eval.top_p=0.5", "eval.protocol=avg32_t1"]).eval
    assert (found.temperature, found.top_p, found.top_k) == (1.0, 0.5, 0)
    assert found.max_tokens == 129024, "of which avg32_t1 says nothing"


def test_a_stage_that_names_one_has_it_over_the_recipe():
    table = {"kind": "evaluate", "eval": {"protocol": "pcl", "num_samples": 2}}
    config = RunConfig(eval={"temperature": 0.1, "top_k": 3}, stages=[table])
    (stage,) = stages_of(config)
    found = stage.config.eval
    assert (found.temperature, found.top_k, found.num_samples) == (0.6, 40, 2)


def test_a_file_of_one_s_own_is_a_protocol_too(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text("num_samples = 3\nks = [1]\n")
    assert EvalSection(protocol=str(mine)).num_samples == 3
    mine.write_text("every_syncs = 3\n")
    with pytest.raises(InputError, match=r"says every_syncs; a protocol says no more than num_"):
        load_config(None, [f"eval.protocol={mine}"])
    with pytest.raises(ValidationError, match=r"says every_syncs; a protocol says no more"):
        EvalSection(protocol=str(mine))
    mine.write_text("num_samples = \n")
    with pytest.raises(InputError, match=r"is no TOML"):
        load_config(None, [f"eval.protocol={mine}"])


def test_an_unknown_one_is_refused_with_the_nearest():
    with pytest.raises(InputError, match=r"eval.protocol = 'avg32t1': did you mean 'avg32_t1'"):
        load_config(None, ["eval.protocol=avg32t1"])


# --- sets of one evaluation that are answered differently


def test_a_set_has_the_section_s_answers_its_own_protocol_s_or_its_own():
    config = load_config(
        None,
        [
            *SOURCE,
            "eval.sources.1={name='p', path='p.jsonl', protocol='pcl'}",
            "eval.sources.2={name='o', path='o.jsonl', protocol='pcl', answers={num_samples=2}}",
            "eval.temperature=0.3",
            "eval.reflection_words=['hm']",
            "eval.sources.0.category=level",
            "rollout.max_tokens=99",
        ],
    )
    first, second, third = (protocol_of(config, source) for source in config.eval.sources)
    assert (first.name, first.sampling.temperature, first.sampling.max_tokens) == ("", 0.3, 99)
    assert (first.category, first.reflection_words) == ("level", ("hm",))
    assert (second.name, second.num_samples, second.sampling.top_k) == ("pcl", 32, 40)
    assert (third.name, third.num_samples) == ("pcl but for num_samples", 2)


def test_the_name_of_a_protocol_does_not_hide_what_was_changed():
    config = load_config(None, [*SOURCE, "eval.protocol=pcl", "eval.temperature=1.0"])
    protocol = protocol_of(config, config.eval.sources[0])
    assert str(protocol).startswith("pcl but for temperature, n 32, T 1, top-p 0.95, top-k 40")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["eval.sources.0.answers={num_samples=0, greedy=false}"], "nothing would be answered"),
        (["eval.sources.0.answers={ks=[9]}"], r"eval.sources.0.answers.ks: pass@9 needs 9 samples"),
        (["eval.sources.0.protocol=nobody"], r"eval.sources.0: protocol of evaluation set 's'"),
        (
            ["rollout.context_tokens=2048", "eval.sources.0.answers={max_tokens=4096}"],
            r"max_tokens = 4096: leaves no room for a prompt in rollout.context_tokens \(2048\)",
        ),
        (
            ["eval.sources.0.answers={temperature=2.5}"],
            r"eval.sources.0: temperature = 2.5: vLLM samples at 0.01 to 2",
        ),
    ],
)
def test_answers_that_cannot_be_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        check(load_config(None, [*BASE, *SOURCE, *settings]))


@pytest.mark.parametrize("answers", ["{every_syncs=3}", "{top_p=2.0}", "{num_samples='x'}"])
def test_answers_are_settings_of_answers(answers):
    with pytest.raises(InputError, match=r"eval.sources.0.answers"):
        load_config(None, [*SOURCE, f"eval.sources.0.answers={answers}"])
