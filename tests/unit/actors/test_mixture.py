"""Weighted mixtures and seeded samples: shares, passes of each source, where a cursor goes on."""

import json
from collections import Counter

import numpy as np
import pytest

from actors.data.ordering import Drawing
from actors.data.prompts import PromptStream
from actors.data.sources import read_problems
from oapl.config.sections import DataSource
from oapl.errors import CheckpointError, InputError
from oapl.records import Prompt

SIZES = {"a": 6, "b": 2, "c": 4}
WEIGHTS = {"a": 1.0, "b": 2.0, "c": 1.0}  # of 12 draws 3, 6 and 3


def prompt(name: str, index: int) -> Prompt:
    return Prompt(
        id=f"{name}:{index}",
        text="",
        token_ids=np.array([index], np.int32),
        verifiers={},
        reference={},
        source=name,
        question="",
    )


def stream(weights=WEIGHTS, seed: int = 0, **more) -> PromptStream:
    rows = [prompt(name, index) for name, size in SIZES.items() for index in range(size)]
    return PromptStream(rows, Drawing(seed=seed, weights=weights, **more))


def ids(drawn: PromptStream, count: int) -> list[str]:
    return [made.id for _ in range(count) if (made := drawn.next())]


def test_every_epoch_has_the_shares_that_the_weights_say():
    drawn = ids(stream(), 120)
    for epoch in range(10):
        part = drawn[12 * epoch : 12 * (epoch + 1)]
        assert Counter(name[0] for name in part) == {"a": 3, "b": 6, "c": 3}


def test_each_source_goes_through_all_its_rows_before_it_repeats_one():
    drawn = ids(stream(), 240)
    assert len(set(drawn)) == 240, "an id names one draw"
    for name, size in SIZES.items():
        own = [one for one in drawn if one[0] == name]
        for turn in range(len(own) // size):
            wanted = {f"{name}:{row}@{turn}" for row in range(size)}
            assert set(own[turn * size : (turn + 1) * size]) == wanted


def test_the_order_is_the_seed_s_and_mixed():
    assert ids(stream(), 60) == ids(stream(), 60)
    assert ids(stream(), 60) != ids(stream(seed=1), 60)
    owners = "".join(name[0] for name in ids(stream(), 12))
    assert owners not in ("aaabbbbbbccc", "".join(sorted(owners, reverse=True)))


@pytest.mark.parametrize("drawn", [0, 1, 11, 12, 13, 100])
def test_a_restored_mixture_goes_on_with_the_very_next_draw(drawn):
    first = stream()
    ids(first, drawn)
    second = stream()
    second.restore(first.state())
    assert ids(second, 50) == ids(first, 50)


def test_a_mixture_is_not_restored_with_other_weights():
    with pytest.raises(CheckpointError, match="weights"):
        stream({**WEIGHTS, "a": 1.5}).restore(stream().state())
    with pytest.raises(CheckpointError, match="weights"):
        stream({}).restore(stream().state())


def test_without_shuffling_sources_take_turns_evenly_in_their_own_order():
    drawn = ids(stream(shuffle=False), 12)
    # Of 12 draws each third is one of a, two of b and one of c.
    for third in (drawn[:4], drawn[4:8], drawn[8:]):
        assert Counter(one[0] for one in third) == {"a": 1, "b": 2, "c": 1}
    assert [one for one in drawn if one[0] == "a"] == ["a:0@0", "a:1@0", "a:2@0"]
    assert [one for one in drawn if one[0] == "b"] == [
        f"b:{row}@{turn}" for turn in range(3) for row in (0, 1)
    ]


def test_epochs_end_a_mixture():
    assert len(ids(stream(epochs=2), 100)) == 24


def test_a_source_that_would_never_be_drawn_is_refused():
    with pytest.raises(
        InputError, match=r"source 'c': weight = 0.001 gives it none of the 12 draws"
    ):
        stream({**WEIGHTS, "c": 0.001})


def test_without_weights_an_epoch_is_every_row_once():
    order = stream({}, epochs=1).order
    assert sorted(order.next()[0] for _ in range(12)) == list(range(12))
    assert order.next() is None


# --- samples


def test_a_sample_is_seeded_keeps_the_rows_order_and_their_numbers(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(json.dumps({"prompt": f"{i}?", "answer": "1"}) + "\n" for i in range(50))
    )

    def chosen(**more) -> list[int]:
        source = DataSource(name="s", path=str(path), sample=10, **more)
        problems = read_problems(source)
        assert [problem.question for problem in problems] == [f"{p.index}?" for p in problems]
        return [problem.index for problem in problems]

    assert chosen() == chosen() == sorted(set(chosen()))
    assert len(chosen()) == 10
    assert chosen() != chosen(seed=1)
    with pytest.raises(InputError, match=r"sample = 60, but there are 50 rows"):
        read_problems(DataSource(name="s", path=str(path), sample=60))
