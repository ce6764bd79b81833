"""A source that joins a run in its middle: the others go on as if nothing had happened."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from actors.data.ordering import Drawing
from actors.data.prompts import PromptStream
from oapl.errors import CheckpointError, InputError
from tests.support.saved import saved
from tests.unit.actors.test_mixture import ids, prompt

TWO = {"a": 6, "b": 3}
THREE = {**TWO, "c": 4}
FOUR = {**THREE, "d": 5}
MIXED = {"a": 1.0, "b": 2.0}


def stream(sizes: Mapping[str, int], weights=None, **more) -> PromptStream:
    rows = [prompt(name, index) for name, size in sizes.items() for index in range(size)]
    return PromptStream(rows, Drawing(seed=7, weights=weights or {}, **more))


def resumed(before: PromptStream, *arguments, **options) -> PromptStream:
    """What another process makes of a checkpoint."""
    made = stream(*arguments, **options)
    made.restore(saved(before.state()))
    return made


def of(names: str, drawn: list[str]) -> list[str]:
    return [one for one in drawn if one[0] in names]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("weights", [{}, MIXED])
@pytest.mark.parametrize("drawn", [0, 1, 5, 9, 10, 40])
def test_the_draws_of_the_old_sources_go_on_exactly_and_the_new_one_joins(drawn, weights, shuffle):
    alone, run = (stream(TWO, weights, shuffle=shuffle) for _ in range(2))
    assert ids(alone, drawn) == ids(run, drawn)
    more = {**weights, "c": 1.0} if weights else {}
    run = resumed(run, THREE, more, shuffle=shuffle)
    assert run.order.joined == ("c",)
    made = ids(run, 13 * 20)
    old, new = of("ab", made), of("c", made)
    assert old == ids(alone, len(old)), "bit by bit what would have been drawn without it"
    assert len(set(made)) == len(made)
    # By size c has 4 of 13 draws; by weight a quarter: 3.25 of 13, rounded to 3.
    assert len(new) == (60 if weights else 80)
    for turn in range(len(new) // 4):
        assert set(new[4 * turn : 4 * (turn + 1)]) == {f"c:{row}@{turn}" for row in range(4)}


def test_a_run_with_a_source_that_joined_goes_on_exactly_too():
    run = stream(TWO)
    ids(run, 5)
    run = resumed(run, THREE)
    for drawn in (1, 7, 30):
        ids(run, drawn)
        again = resumed(run, THREE)
        assert again.order.joined == ()
        assert ids(again, 60) == ids(run, 60)


def test_sources_may_join_one_after_the_other_and_several_at_once():
    alone, run = stream(TWO), stream(TWO)
    ids(alone, 5), ids(run, 5)
    second, both = resumed(run, THREE), resumed(run, FOUR)
    assert both.order.joined == ("c", "d")
    ids(second, 11)
    third = resumed(second, FOUR)
    made, without = ids(third, 90), ids(second, 90)
    assert of("abc", made) == without[: len(of("abc", made))]
    assert Counter(one[0] for one in made)["d"] == 25, "5 of 18"
    assert ids(resumed(third, FOUR), 40) == ids(third, 40)
    together = ids(both, 90)
    assert of("ab", together) == ids(alone, len(of("ab", together)))
    assert Counter(one[0] for one in together)["c"] == 20, "4 of 18"


def test_every_row_is_drawn_once_an_epoch_until_all_are_over():
    run = stream(TWO, epochs=3)
    before = ids(run, 14)
    run = resumed(run, THREE, epochs=3)
    made = [*before, *ids(run, 1000)]
    assert len(set(made)) == len(made)
    wanted = {(name, row): 3 for name, size in THREE.items() for row in range(size)}
    found = Counter((one[0], int(one[2:].partition("@")[0])) for one in made)
    assert found == wanted


def test_the_weights_of_one_old_source_alone_are_free():
    run = stream({"a": 6})
    alone = stream({"a": 6})
    ids(run, 4), ids(alone, 4)
    joined = resumed(run, {"a": 6, "b": 4}, {"a": 0.2, "b": 0.8})
    made = ids(joined, 40)
    assert Counter(one[0] for one in made) == {"a": 8, "b": 32}
    assert of("a", made) == ids(alone, 8)


def test_weights_may_be_scaled_when_a_source_joins_and_given_by_size():
    run, alone = stream(TWO), stream(TWO)
    ids(run, 4), ids(alone, 4)
    made = ids(resumed(run, THREE, {"a": 0.2, "b": 0.1, "c": 0.3}), 26)
    assert of("ab", made) == ids(alone, 14), "half of 13, rounded up to 7"


def test_turns_once_shared_out_stay_though_weights_are_given_anew():
    """2.5 and 7.5 of 10 draws: the tie goes to the first, and a hair's breadth would turn it."""
    run = stream({"a": 6})
    ids(run, 3)
    run = resumed(run, {"a": 6, "b": 4}, {"a": 0.25, "b": 0.75})
    ids(run, 5)
    later = {"a": 6, "b": 4, "c": 5}
    again = resumed(run, later, {"a": 0.25, "b": 0.750001, "c": 1.0})
    made = of("ab", ids(again, 60))
    assert made == ids(run, len(made))


@pytest.mark.parametrize("weights", [{}, {"a": 1.0, "b": 1.0}])
def test_a_source_that_joins_has_an_order_of_its_own(weights):
    run = resumed(stream({"a": 20}), {"a": 20, "b": 20}, weights)
    made = ids(run, 40)
    rows = [[one[2:] for one in of(name, made)] for name in "ab"]
    assert sorted(rows[0]) == sorted(rows[1])
    assert rows[0] != rows[1]


OTHERS = {
    "one was taken away": ({"a": 6}, {}),
    "another came in its place": ({"a": 6, "c": 3}, {}),
    "one has another size": ({"a": 6, "b": 2, "c": 4}, {}),
    "the new one is in front": ({"c": 4, **TWO}, {}),
    "the new one is between": ({"a": 6, "c": 4, "b": 3}, {}),
    "old weights are others": (THREE, {"a": 1.0, "b": 1.0, "c": 1.0}),
}


@pytest.mark.parametrize("change", OTHERS)
def test_everything_else_is_refused(change):
    run = stream(TWO)
    ids(run, 4)
    with pytest.raises(CheckpointError, match="further sources may join, behind the others"):
        resumed(run, *OTHERS[change])


def test_old_weights_that_became_others_are_refused():
    run = stream(TWO, MIXED)
    ids(run, 4)
    with pytest.raises(CheckpointError, match="in the same proportions"):
        resumed(run, THREE, {"a": 1.0, "b": 3.0, "c": 1.0})
    run = resumed(run, THREE, {"a": 2.0, "b": 4.0, "c": 1.0})
    with pytest.raises(CheckpointError, match="in the same proportions"):
        resumed(run, FOUR, {"a": 2.0, "b": 4.0, "c": 3.0, "d": 1.0})


def test_a_joining_source_that_would_never_be_drawn_is_refused():
    run = stream(TWO, MIXED)
    with pytest.raises(InputError, match=r"'c': weight = 0.001 gives it none of the 13 draws"):
        resumed(run, THREE, {**MIXED, "c": 0.001})


def test_a_cursor_of_a_build_that_knew_one_block_goes_on():
    run = stream(TWO)
    ids(run, 5)
    block = run.state()["blocks"][0]
    old = {"data": run.state()["data"], "epoch": block["epoch"], "position": block["position"]}
    again = stream(TWO)
    again.restore(old)
    assert ids(again, 30) == ids(run, 30)
    with pytest.raises(CheckpointError):
        stream(THREE).restore(old)


def test_old_rows_that_changed_are_refused_though_a_source_came():
    run = stream(TWO)
    rows = [prompt(name, index) for name, size in THREE.items() for index in range(size)]
    rows[0] = prompt("a", 0)
    object.__setattr__(rows[0], "token_ids", np.array([9], np.int32))
    with pytest.raises(CheckpointError):
        PromptStream(rows, Drawing(seed=7)).restore(run.state())
