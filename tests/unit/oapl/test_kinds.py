"""Every plugin file declares what its kind says, and one that does not is refused when loaded."""

import pytest

from actors.engines.base import ENGINES
from deploy.checks.settings import check
from oapl.alarms.base import ALARMS
from oapl.config import RunConfig
from oapl.config.objective import (
    OBJECTIVES,
    is_judged,
    samples,
    scored_before,
    source_of,
)
from oapl.devices.base import DEVICES
from oapl.errors import InputError
from oapl.evaluation.measures.base import MEASURES
from oapl.objectives.base import build
from oapl.reports.base import FIGURES
from oapl.weights.base import TRANSPORTS
from reward_server.verifiers.base import VERIFIERS
from tests.support.planted import OBJECTIVE, VERIFIER, plant

KINDS = (OBJECTIVES, ENGINES, DEVICES, TRANSPORTS, VERIFIERS, MEASURES, FIGURES, ALARMS)
FILES = [(kind, name) for kind in KINDS for name in kind.names()]


def without(text: str, start: str) -> str:
    """A module's text without the paragraph that begins so."""
    parts = text.split("\n\n")
    kept = [part for part in parts if not part.startswith(start)]
    assert len(kept) == len(parts) - 1
    return "\n\n".join(kept)


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Plants a file and returns what is said against it."""
    monkeypatch.syspath_prepend(tmp_path)

    def said(kind, text: str) -> str:
        name = plant(tmp_path, f"planted_{tmp_path.name}", text)
        with pytest.raises(InputError) as caught:
            kind.load(name, "some.key")
        return str(caught.value)

    return said


@pytest.mark.parametrize(("kind", "name"), FILES, ids=lambda part: getattr(part, "package", part))
def test_every_file_declares_what_its_kind_says(kind, name):
    assert kind.load(name)


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_an_objective_needs_no_more_than_its_file_declares(name):
    most, asked = OBJECTIVES.load(name).DECLARES, build({"name": name}).declares
    assert asked.needs <= most.needs
    assert asked.samples is most.samples


@pytest.mark.parametrize(
    ("needs", "steps", "policies"),
    [
        ({"entropy"}, 4, ()),
        ({"proximal"}, 1, ()),
        ({"proximal"}, 4, ("proximal",)),
        ({"proximal", "prepared"}, 1, ("proximal",)),
        ({"proximal", "reference"}, 1, ("reference",)),
        ({"proximal", "reference"}, 2, ("proximal", "reference")),
        ({"token_credit", "proximal"}, 1, ()),
        ({"token_credit", "proximal", "prepared"}, 1, ("proximal",)),
    ],
)
def test_no_policy_scores_apart_that_need_not(needs, steps, policies):
    assert scored_before(frozenset(needs), steps) == policies


def test_values_that_no_credit_per_token_trains_are_refused(refused):
    message = refused(OBJECTIVES, OBJECTIVE.replace("frozenset()", 'frozenset({"values"})'))
    assert "has values but no token_credit" in message
    assert "add token_credit, or leave values out" in message


def test_an_objective_without_declarations_is_refused_with_meaning_and_example(refused, tmp_path):
    message = refused(OBJECTIVES, without(OBJECTIVE, "DECLARES"))
    assert message.startswith("some.key = 'planted_")
    assert f"{tmp_path}/planted_" in message
    assert "mine.py has no DECLARES, what is known of the objective before it is built" in message
    assert "add: DECLARES = Declarations(needs=frozenset(" in message


def test_a_declaration_that_is_forgotten_is_named_with_its_meaning(refused):
    message = refused(OBJECTIVES, OBJECTIVE.replace("needs_inference_logprobs=False", ""))
    assert "DECLARES.needs_inference_logprobs: is needed and missing" in message
    assert "no top-p or top-k may cut it" in message


def test_a_declaration_of_the_wrong_type_is_refused(refused):
    message = refused(OBJECTIVES, OBJECTIVE.replace("samples=True", "samples='no'"))
    assert 'DECLARES.samples = "no": must be true or false' in message


def test_a_need_that_nobody_serves_is_refused(refused):
    assert "entropy" in refused(OBJECTIVES, OBJECTIVE.replace("frozenset()", "frozenset({'luck'})"))


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (OBJECTIVES, without(OBJECTIVE, "class Objective"), "has no Objective, the objective"),
        (OBJECTIVES, OBJECTIVE.replace("@section", ""), "has a Config that is no section"),
        (OBJECTIVES, OBJECTIVE + "\nDECLARES = {}\n", "has a DECLARES that is no Declarations"),
        (VERIFIERS, without(VERIFIER, "DECLARES"), "add: DECLARES = Traits(runs_programs=False)"),
        (VERIFIERS, without(VERIFIER, "def build"), "add: def build(config: 'Any')"),
        (VERIFIERS, VERIFIER.replace("(config)", "()"), "has a build that cannot be called so"),
        (VERIFIERS, VERIFIER.replace("False", "None"), "DECLARES.runs_programs"),
        (TRANSPORTS, "def build_sender(config): ...\n", "has no function build_receiver"),
        (DEVICES, "HAS_CARDS = 1\n", "has a HAS_CARDS that is no bool"),
        (ENGINES, "def build(config, receiver, index): ...\n", "has a build that cannot be called"),
    ],
)
def test_what_a_file_lacks_is_named(kind, text, says, refused):
    assert says in refused(kind, text)


def test_all_that_a_file_lacks_is_told_at_once(refused):
    lines = refused(DEVICES, "").splitlines()
    assert len(lines) == 6
    assert all(line.startswith("some.key = ") for line in lines)


def test_an_error_of_the_file_itself_is_not_hidden(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = plant(tmp_path, "planted_broken", "import no_such_library\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        OBJECTIVES.load(name)


def test_where_batches_come_from_follows_from_the_declarations(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    text = OBJECTIVE.replace("samples=True", "samples=False")
    imitates = plant(tmp_path, "planted_imitation", text)
    for name, expected in (("oapl", True), ("sft", False), (imitates, False)):
        config = RunConfig(objective={"name": name})
        assert samples(config) is is_judged(config) is expected
        assert source_of(config) == ("live" if expected else "examples")


def test_a_run_with_an_objective_that_declares_nothing_is_refused_with_all_else(
    tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(tmp_path)
    name = plant(tmp_path, "planted_silent", without(OBJECTIVE, "DECLARES"))
    run = RunConfig(
        model={"path": "m"},
        objective={"name": name},
        rollout={"top_p": 0.5},
        replay={"capacity": 1},
    )
    with pytest.raises(InputError) as caught:
        check(run)
    first, second = sorted(str(caught.value).splitlines())
    assert first.startswith("objective.name = 'planted_silent.mine'")
    assert second.startswith("replay.capacity = 1")
