"""A stored set in replay's place: exact takes, fixed credit, one fate a draw, exact resume."""

import dataclasses
import pickle

import numpy as np
import pytest

from oapl.errors import CheckpointError, InputError
from oapl.groups_file import StoredGroup
from oapl.objectives.base import build
from oapl.replay.stored import OF_ANOTHER, OF_THE_MODEL, StoredBatches, credited
from tests.support.makers import make_group
from tests.support.saved import saved


def stored(number, rewards, *, kept=None, version=0):
    group = StoredGroup.from_scored(
        make_group(
            [number + place + 1 for place in range(len(rewards))],
            rewards=rewards,
            version=version,
            name=f"s:{number}@0",
            seed=number,
        )
    )
    is_kept = np.isin(np.arange(len(rewards)), range(len(rewards)) if kept is None else kept)
    return group.keeping(is_kept)


SET = [
    stored(0, [1, 0, 0, 1]),
    stored(1, [1, 1, 1, 1]),
    stored(2, [0, 0, 1], kept=[0, 2]),
    stored(3, [1, 0], kept=[1]),
    stored(4, [0, 1, 1, 1, 1]),
]
"""16 rollouts of 18; group 1 is uniform."""


def batches(groups=SET, objective="grpo", *, model=True, epochs=0, shuffle=True, **options):
    credit = build({"name": objective, **options}).credit
    held = [credited(group, credit, model=model) for group in groups]
    return StoredBatches(held, seed=3, epochs=epochs, shuffle=shuffle)


def names(pieces):
    return [piece.id for piece in pieces]


async def step(source, count, number):
    """Train on a take, and tell what it was."""
    pieces = source.draw(count)
    await source.trained(names(pieces), number)
    return pieces


def test_a_take_has_exactly_the_rollouts_asked_for_wherever_groups_are_cut():
    source = batches(epochs=2)
    takes = [source.draw(5) for _ in range(8)]
    assert [len(take) for take in takes] == [5, 5, 5, 5, 5, 5, 2, 0]
    assert all(len(piece.scored.group.rollouts) == 1 for take in takes for piece in take)
    drawn = [name for take in takes for name in names(take)]
    assert len(set(drawn)) == 32
    passes = [name.partition("@0#")[2].partition("@")[2].partition(".")[0] for name in drawn]
    assert passes == ["0"] * 16 + ["1"] * 16


def test_each_pass_has_an_order_of_its_own_and_the_same_seed_repeats_it():
    source = batches()
    first, second = ([n.partition("@0#")[0] for n in names(source.draw(16))] for _ in range(2))
    assert sorted(first) == sorted(second)
    assert first != second
    again = batches()
    assert [n.partition("@0#")[0] for n in names(again.draw(16))] == first
    plain = batches(shuffle=False).draw(16)
    assert [piece.scored.group.prompt.id[:3] for piece in plain][::4] == [
        "s:0",
        "s:1",
        "s:2",
        "s:4",
    ]


def test_credit_is_that_of_the_group_as_generated():
    """Kept are the first and the last of rewards 0, 0, 1: mean 1/3, deviation (n - 1) 0.577."""
    pieces = batches([SET[2]], shuffle=False, epochs=1).draw(4)
    credit = [float(piece.credit.values[0]) for piece in pieces]
    assert credit == pytest.approx([-1 / 3 / 0.57735, 2 / 3 / 0.57735], rel=1e-4)
    assert [float(piece.scored.rewards[0]) for piece in pieces] == [0, 1]
    lone = batches([SET[3]], "oapl", shuffle=False, epochs=1, beta1=1.0).draw(4)
    v_star = np.log((np.e + 1) / 2)  # beta1 ln mean exp(r / beta1) over both, not over the kept one
    assert [float(piece.credit.values[0]) for piece in lone] == pytest.approx([-v_star], rel=1e-5)


def test_groups_are_of_the_model_that_a_run_starts_from_or_of_none_of_its_steps():
    older = stored(5, [1, 0], version=40)
    for group, model, version in (
        (SET[0], True, OF_THE_MODEL),
        (SET[0], False, OF_ANOTHER),
        (older, True, OF_ANOTHER),
    ):
        (piece,) = batches([group], model=model).draw(1)
        assert piece.scored.group.version == version


async def test_each_draw_has_one_fate_and_what_the_filter_drops_is_counted():
    source = batches(uniform="drop", epochs=1, shuffle=False)
    assert len(source) == 12
    first = source.draw(6)  # all of group 0, of 2 and none of 3: 1 is dropped
    await source.drop(names(first[:5]), "non_finite", 1)
    await source.trained(names(first[5:]), 1)
    assert await source.fates() == {
        "dropped:non_finite": 1,
        "dropped:uniform": 1,
        "trained": 1,  # of group 2 one rollout was trained on
    }
    assert (await source.stats())["replay/dropped"] == 2
    second = source.draw(3)
    await source.trained(names(second), 2)
    await source.finish()
    assert (await source.fates())["trained"] == 3, "group 3, and 4 of which a part was trained on"
    assert source.draw(9)[0].id.startswith("s:4")


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_draw_of_which_any_rollout_was_trained_on_was_trained(is_first):
    source = batches([SET[0]], epochs=1)
    pieces = names(source.draw(4))
    some, others = (pieces[:1], pieces[1:]) if is_first else (pieces[3:], pieces[:3])
    for step_made, ids in enumerate((some, others) if is_first else (others, some), 1):
        if ids is some:
            await source.trained(ids, step_made)
        else:
            await source.drop(ids, "non_finite", step_made)
    assert await source.fates() == {"trained": 1}


async def test_a_group_that_was_begun_and_not_trained_on_is_unfinished():
    source = batches(epochs=1, shuffle=False)
    source.draw(2)
    await source.finish()
    assert await source.fates() == {"unfinished": 1}


@pytest.mark.parametrize("stops_after", range(8))
async def test_a_resumed_run_goes_on_with_the_very_next_rollout(stops_after):
    """In the middle of groups and of passes, with a take leased that nobody trained on."""
    whole, broken = batches(epochs=2, uniform="drop"), batches(epochs=2, uniform="drop")
    for number in range(stops_after):
        await step(whole, 3, number + 1)
        await step(broken, 3, number + 1)
    lost = broken.draw(3)
    state = saved(await broken.snapshot())
    resumed = batches(epochs=2, uniform="drop")
    await resumed.restore(state)
    number, trained = stops_after, []
    while pieces := await step(whole, 3, number + 1):
        again = await step(resumed, 3, number + 1)
        assert names(again) == names(pieces)
        assert await resumed.stats() == await whole.stats()
        trained += names(again)
        number += 1
    assert trained[: len(lost)] == names(lost)
    assert await resumed.take(3, 1.0) is None
    assert await resumed.fates() == await whole.fates()


async def test_the_leases_of_several_updates_are_one_take():
    source = batches(epochs=1, shuffle=False)
    taken = source.draw(4)
    before = await source.snapshot()
    await source.stats()  # reported after each of its updates
    await source.trained(names(taken[:2]), 2)
    assert await source.snapshot() is before, "until all are closed"
    await source.trained(names(taken[2:]), 2)
    again = batches(epochs=1, shuffle=False)
    await again.restore(await source.snapshot())
    assert names(again.draw(2)) == names(source.draw(2))


async def test_another_set_is_refused():
    source = batches()
    await step(source, 4, 1)
    state = await source.snapshot()
    for other in (SET[:-1], [*SET[1:], SET[0]], [stored(0, [0, 0, 0, 1]), *SET[1:]]):
        with pytest.raises(CheckpointError, match="stored groups are not those of the checkpoint"):
            await batches(other).restore(state)
    renamed = [dataclasses.replace(SET[0], step=9), *SET[1:]]
    await batches(renamed).restore(state)  # what an earlier run made of it says nothing


def test_a_set_of_which_the_objective_drops_all_is_refused():
    with pytest.raises(InputError, match=r"of 1 stored groups the objective drops all \(uniform\)"):
        batches([SET[1]], uniform="drop")


async def test_the_learner_is_told_what_it_draws():
    source = batches(epochs=1, shuffle=False)
    await source.advance(7)
    source.draw(5)
    stats = await source.stats()
    assert stats["replay/accepted"] == 2
    assert stats["replay/lag_mean"] == 7
    assert stats["reward/mean"] == pytest.approx(6 / 8)
    assert stats["data/epoch"] == pytest.approx(2 / 5)


@pytest.mark.parametrize("ahead", [0, 1, 4, 7, 40])
async def test_what_is_foreseen_is_what_comes_and_changes_nothing(ahead):
    plain, foreseen = (batches(epochs=2, uniform="drop") for _ in range(2))
    for number in range(1, 9):
        expected = plain.draw(3)
        told = foreseen.foresee(ahead)
        before = pickle.dumps(await foreseen.snapshot())
        assert names(told)[:3] == names(expected)[:ahead]
        assert foreseen.foresee(ahead) == told
        assert pickle.dumps(await foreseen.snapshot()) == before
        assert names(await step(foreseen, 3, number)) == names(expected)
        await plain.trained(names(expected), number)
        assert await foreseen.stats() == await plain.stats()
    assert foreseen.foresee(ahead) == []
    assert await foreseen.fates() == await plain.fates()


async def test_a_run_that_looked_ahead_resumes_as_one_that_did_not():
    whole, broken = batches(epochs=2), batches(epochs=2)
    whole.draw(5)
    broken.draw(5)
    broken.foresee(9)
    again = batches(epochs=2)
    again.foresee(2)
    await again.restore(saved(await broken.snapshot()))
    assert names(again.foresee(6)) == names(again.draw(6))
