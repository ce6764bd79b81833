"""Records come out of a pickle as they went in."""

import pickle
from dataclasses import dataclass, fields

import numpy as np
import pytest

from oapl.records import Judgement, Prompt, Rollout, Verdict
from oapl.remote import pickling
from oapl.remote.pickling import compact_pickle

PROMPT = Prompt(
    id="sums:1@0",
    text="<user>1+1",
    token_ids=np.arange(5, dtype=np.int32),
    verifiers={"math": 1.0},
    reference={"answer": "2"},
    source="sums",
    question="1+1",
    attempt=2,
    max_in_engine=3,
)
ROLLOUT = Rollout(
    token_ids=np.arange(3, dtype=np.int32),
    inference_logprobs=np.array([-0.5, -1.0, 0.0], np.float32),
    finish_reason="length",
    text="two",
    first_version=4,
    last_version=4,
)
VERDICT = Verdict(kind="accepted", reward=1.0, detail="d", seconds=0.5, parts={"a": 0.5})


def again(record):
    return pickle.loads(pickle.dumps(record))


@pytest.mark.parametrize("record", [PROMPT, ROLLOUT], ids=["prompt", "rollout"])
def test_a_record_with_arrays_is_the_same(record):
    copy = again(record)
    for field in fields(record):
        given = getattr(record, field.name)
        np.testing.assert_array_equal(getattr(copy, field.name), given, strict=True)
    assert not copy.token_ids.flags.writeable
    assert b"numpy" not in pickle.dumps(record), "NumPy's own pickle is slow"


def test_a_rollout_that_nobody_sampled_has_no_log_probs_afterwards():
    text = Rollout(
        token_ids=np.arange(2, dtype=np.int32),
        inference_logprobs=None,
        finish_reason="stop",
        text="t",
        first_version=0,
        last_version=0,
    )
    assert again(text).inference_logprobs is None


def test_a_record_without_arrays_is_the_same():
    judgement = Judgement(reward=1.0, verdicts={"math": VERDICT}, failure="server died")
    assert again(judgement) == judgement


def test_one_record_in_two_places_stays_one():
    first, second = again((ROLLOUT, ROLLOUT))
    assert first is second


def test_a_pickle_with_too_few_fields_is_refused():
    with pytest.raises(ValueError, match=r"2 fields of a Verdict, which has 5"):
        pickling._restored(Verdict, ("accepted", 1.0))


def test_a_record_that_checks_its_fields_is_not_taken():
    @dataclass(frozen=True, slots=True)
    class Checked:
        number: int

        def __post_init__(self):
            assert self.number

    with pytest.raises(AssertionError, match=r"Checked checks its fields"):
        compact_pickle()(Checked)
