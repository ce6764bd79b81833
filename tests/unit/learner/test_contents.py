"""What another version of oapl wrote into a checkpoint is refused in words."""

import dataclasses
import io
import pickle
import sys
import types

import numpy as np
import pytest

from learner.checkpoints import contents
from oapl import records
from oapl.errors import CheckpointError
from oapl.records import Credit, Probe, Prompt, Verdict, WorkerId
from oapl.remote import pickling
from oapl.replay.ledger import Ledger
from oapl.replay.periods import PeriodNeeds
from tests.support.makers import make_group

PROMPT = Prompt(
    id="p:0", text="", token_ids=np.zeros(1, np.int32), verifiers={}, reference={}, source="p"
)
HELD = {
    "Credit": "values metrics dropped",
    "CreditedGroup": "scored credit is_history",
    "Group": "prompt rollouts version sampling seconds",
    "Counters": "_lock _sums",
    "Moments": "count mean squares min max",
    "Probe": "token_ids logprobs",
    "Prompt": ("id text token_ids verifiers reference source question attempt max_in_engine"),
    "ReplayCounts": "_counters _moments",
    "Rollout": ("token_ids inference_logprobs finish_reason text first_version last_version"),
    "Sampling": "temperature top_p top_k max_tokens",
    "ScoredGroup": "group rewards verdicts",
    "Verdict": "kind reward detail seconds parts",
    "snapshot": (
        "usable begin step buffer ahead used history dropped fates "
        "source queue in_flight deaths drawn counts"
    ),
}
"""Of formats 4 and 5: the fields of records, wherever they live, and the keys of a snapshot."""


class Old:
    """Stands for a class of an earlier version; a test gives it another place."""


def test_a_pickle_of_a_module_that_is_gone_is_refused_with_the_remedy(tmp_path, monkeypatch):
    gone = types.ModuleType("oapl.gone")
    gone.Old = Old
    monkeypatch.setitem(sys.modules, "oapl.gone", gone)
    monkeypatch.setattr(Old, "__module__", "oapl.gone")
    (tmp_path / "replay.pkl").write_bytes(pickle.dumps({"queue": [Old()]}))
    monkeypatch.delitem(sys.modules, "oapl.gone")
    with pytest.raises(CheckpointError) as caught:
        contents.read_pickle(tmp_path / "replay.pkl")
    assert str(caught.value).startswith(f"checkpoint {tmp_path}: replay.pkl holds what")
    assert "it names oapl.gone.Old, which is no record" in str(caught.value)
    assert str(caught.value).endswith("or begin afresh under another run.name")


def test_a_pickle_of_a_record_that_is_gone_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "Old", Old, raising=False)
    monkeypatch.setattr(Old, "__module__", "oapl.records")
    (tmp_path / "replay.pkl").write_bytes(pickle.dumps(Old()))
    monkeypatch.delattr(records, "Old")
    with pytest.raises(CheckpointError, match="'Old'"):
        contents.read_pickle(tmp_path / "replay.pkl")


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"Old is neither text, number, nor a record"):
        contents.write_pickle(tmp_path / "replay.pkl", {"queue": [Old()]})
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_of_a_record_that_has_got_a_field_is_refused(tmp_path, monkeypatch):
    contents.write_pickle(tmp_path / "replay.pkl", PROMPT)
    layout = pickling._LAYOUTS[Prompt]
    more = layout._replace(setters=(*layout.setters, layout.setters[0]))
    monkeypatch.setitem(pickling._LAYOUTS, Prompt, more)
    with pytest.raises(CheckpointError, match="fields of a Prompt"):
        contents.read_pickle(tmp_path / "replay.pkl")


def test_a_pickle_whose_class_takes_other_arguments_is_refused(tmp_path):
    (tmp_path / "replay.pkl").write_bytes(b"coapl.records\nProbe\n(I1\ntR.")
    with pytest.raises(CheckpointError, match="TypeError"):
        contents.read_pickle(tmp_path / "replay.pkl")


def test_a_file_that_is_no_pickle_is_refused(tmp_path):
    (tmp_path / "replay.pkl").write_bytes(b"")
    with pytest.raises(CheckpointError, match="EOFError"):
        contents.read_pickle(tmp_path / "replay.pkl")


def test_numbers_are_read_as_they_were_written(tmp_path):
    contents.write_state(tmp_path, {"step": 3, "version": -1})
    state = contents.read_state(tmp_path)
    assert (state["step"], state["version"]) == (3, -1)


@pytest.mark.parametrize(
    ("text", "format_"), [('{"step": 3}', 1), ('{"format": 3}', 3), ('{"format": 9}', 9)]
)
def test_another_format_is_refused_with_both_numbers(tmp_path, text, format_):
    (tmp_path / "state.json").write_text(text)
    with pytest.raises(
        CheckpointError, match=f"is of format {format_}, .* reads format 4 and 5; resume"
    ):
        contents.read_state(tmp_path)


def test_a_folder_without_numbers_is_incomplete(tmp_path):
    with pytest.raises(CheckpointError, match=r"incomplete.*state\.json"):
        contents.read_state(tmp_path)


def test_the_format_is_raised_when_what_a_checkpoint_holds_changes():
    """A record with other fields may be read without an error, one field as another."""
    replay = snapshot()
    found = {"snapshot": " ".join(replay)}

    class Noting(pickle.Unpickler):
        def find_class(self, module, name):
            kind = super().find_class(module, name)
            if dataclasses.is_dataclass(kind):
                found[name] = " ".join(field.name for field in dataclasses.fields(kind))
            elif isinstance(kind, type) and module.startswith("oapl."):
                found[name] = " ".join(vars(kind()))
            return kind

    Noting(io.BytesIO(pickle.dumps([replay, Probe(token_ids=(), logprobs=())]))).load()
    assert found == HELD, "raise learner.checkpoints.contents.FORMAT, then this table"


class Prompts:
    """A source of three prompts."""

    def __init__(self):
        self.left = [dataclasses.replace(PROMPT, id=f"p:{n}") for n in (2, 1, 0)]

    def next(self):
        return self.left.pop() if self.left else None

    def state(self):
        return {"left": len(self.left)}


def snapshot():
    """Of replay with one group trained on, one buffered and one in flight."""
    periods = PeriodNeeds(
        groups_per_step=1,
        interval=3,
        max_steps=9,
        capacity=9,
        group_size=2,
        surplus=0.0,
        max_deaths=1,
    )
    ledger = Ledger(Prompts(), lambda group: Credit(values=group.rewards), periods)
    worker = WorkerId(index=0)
    verdicts = ({"math": Verdict(kind="accepted", reward=1.0)},) * 2
    for prompt in ledger.draw(worker, 0, 3)[:2]:
        made = make_group([2, 3])
        group = dataclasses.replace(made.group, prompt=prompt)
        ledger.put(worker, dataclasses.replace(made, group=group, verdicts=verdicts))
    ledger.trained([group.id for group in ledger.take(1)], 1)
    return ledger.snapshot()
