"""Options of all objectives: each is explained, and what one lacks is said for that one."""

import pytest

from oapl.config.listing import settings
from oapl.config.objective import OBJECTIVES, parse
from oapl.errors import InputError


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_every_option_has_its_help_also_where_it_is_inherited(name):
    found = list(settings(OBJECTIVES.load(name).Config, "objective."))
    assert [one.key for one in found if not one.help] == []
    assert len({one.key for one in found}) == len(found)


def test_an_inherited_option_can_be_set_with_another_default_and_help():
    defaults = {s.key: s for s in settings(OBJECTIVES.load("remix").Config)}
    shared = {s.key: s for s in settings(OBJECTIVES.load("grpo").Config)}
    assert defaults["kl_coefficient"].default == 0.001
    assert shared["kl_coefficient"].default == 0.0
    assert "KL-Convex" in defaults["kl_coefficient"].help
    assert defaults["eps_low"].help == shared["eps_low"].help


def refused(**options) -> list[str]:
    with pytest.raises(InputError) as caught:
        parse(options)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("name", "option", "says"),
    [
        ("oapl", "clip_ratio", "oapl has no such option: there is no ratio that could be clipped"),
        ("oapl", "eps_low", "or choose objective.name = 'grpo' or 'ppo' or 'remix'"),
        ("oapl", "kl_coefficient", "it is anchored at the policy that sampled"),
        ("oapl", "gamma", "V* comes from the group; leave it out, or choose objective.name ="),
        ("grpo", "value_clip", "its advantages come from the group"),
        ("grpo", "beta2", "no such option; leave it out, or choose objective.name = 'oapl'"),
        ("ppo", "baseline", "its advantages come from the critic"),
        ("sft", "kl_coef", "given responses are compared with no policy"),
        ("geometric", "importance", "it has no ratio to a policy"),
        ("grpo", "clip_ratio", "are objective.eps_low and objective.eps_high"),
        ("ppo", "kl_coef", "a KL penalty is objective.kl_coefficient"),
        ("ppo", "vf_coef", "objective.value_coefficient weighs its loss"),
        ("remix", "cliprange_value", "its clip is objective.value_clip"),
    ],
)
def test_what_an_objective_lacks_is_said_for_that_objective(name, option, says):
    (line,) = refused(name=name, **{option: 0.1})
    assert line.startswith(f"objective.{option}: ")
    assert says in line


def test_all_that_is_wrong_is_told_at_once():
    lines = refused(name="oapl", eps_low=0.1, beta1=-1.0, gamma=0.9)
    starts = ("objective.eps_low: ", "objective.gamma: ", "objective.beta1 = -1.0: ")
    assert len(lines) == 3
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_options_that_are_right_become_the_config():
    file, config = parse({"name": "oapl", "beta1": 0.5})
    assert file is OBJECTIVES.load("oapl")
    assert config == file.Config(beta1=0.5)
