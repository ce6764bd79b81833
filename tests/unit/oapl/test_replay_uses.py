"""Several uses of a group within its period: which one comes again, when, and to what fate."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest

from oapl.records import FATES, Fate
from oapl.replay.ledger import Ledger
from oapl.replay.uses import Uses
from tests.support.replaying import ANN, buffer, fill, ids, ledger, needs, saved, scored, train

pytestmark = pytest.mark.leaping


def takes_of(rules: Ledger, steps: int, skipped: tuple[int, ...] = ()) -> list[list[str]]:
    """Take and train so many times, whatever is needed being there."""
    taken = []
    for _ in range(steps):
        fill(rules)
        taken.append(ids(rules.take(rules.periods.groups_per_step) or []))
        step = rules.step + 1
        if step in skipped:
            rules.drop(taken[-1], "non_finite", step)
        else:
            rules.trained(taken[-1], step)
    return taken


def uses(takes: list[list[str]]) -> Counter[str]:
    return Counter(itertools.chain.from_iterable(takes))


@pytest.mark.parametrize(
    ("interval", "max_uses", "groups"),
    [
        (6, 1, 12),
        (6, 2, 6),
        (6, 3, 4),
        (6, 6, 2),
        (5, 2, 5),  # of an odd resume: no whole passes
        (2, 4, 2),  # a take has each group once
        (1, 3, 2),
    ],
)
def test_a_period_asks_for_its_groups_over_their_uses(interval, max_uses, groups):
    rules = ledger(interval=interval, max_steps=interval, max_uses=max_uses)
    assert len(rules.draw(ANN, 0, 100)) == groups
    assert rules.periods.fresh_of(0) == groups


def test_a_take_has_each_group_once_though_the_last_take_is_small():
    """As after a resume with other settings: a take of 4 groups and one of 2."""
    assert needs(mini_batches=2, interval=3, max_uses=2).missing(0, 0) == 4


def test_of_a_groups_uses_only_those_count_for_which_there_are_takes():
    two_takes = needs(interval=2, max_uses=4)
    assert two_takes.missing(0, 0, used=[3, 1]) == 1, "4 uses, of which one comes too late"
    assert needs(interval=3, max_uses=4).missing(0, 0, fresh=1, used=[1, 1]) == 1


def test_the_last_period_is_shorter_and_has_enough_groups():
    rules = ledger(interval=4, max_steps=5, max_uses=4)
    assert len(takes_of(rules, 4)) == 4
    rules.advance(4)
    assert len(fill(rules)) == 2
    assert len(rules.take(2) or []) == 2
    assert rules.counts()["drawn"] == 2 + 2


def test_each_pass_uses_every_group_once_in_a_new_order():
    rules = ledger(groups_per_step=4, interval=6, max_uses=3)
    taken = takes_of(rules, 6)
    passes = [taken[start] + taken[start + 1] for start in (0, 2, 4)]
    assert passes[0] == [f"p:{number}" for number in range(8)], "at first in order of arrival"
    assert [sorted(each) for each in passes] == [sorted(passes[0])] * 3
    assert len({tuple(each) for each in passes}) == 3
    assert rules.stats()["replay/reused"] == 16
    assert not rules.can_take(4), "and no oftener"


def test_an_order_follows_from_seed_and_period():
    def second_pass(seed: int, begin: int) -> list[int]:
        rules = ledger(groups_per_step=8, interval=2, max_steps=99, max_uses=2, seed=seed)
        for step in range(0, begin, 2):
            takes_of(rules, 2)
            rules.advance(step + 2)
        first, second = takes_of(rules, 2)
        return [first.index(name) for name in second]

    assert second_pass(0, 0) == second_pass(0, 0)
    orders = [tuple(second_pass(*key)) for key in ((0, 0), (1, 0), (0, 2), (0, 4))]
    assert len(set(orders)) == 4


def test_the_same_groups_have_another_order_in_another_period():
    rules = ledger(groups_per_step=8)
    fill(rules)
    taken = rules.take(8) or []

    def order(begin: int, number: int = 1) -> list[str]:
        uses = Uses(max_uses=9, seed=0)
        for group in taken:
            uses.add(group, number)
        return ids(uses.lease(8, begin))

    assert order(4) == order(4)
    assert len({tuple(order(*key)) for key in ((0,), (4,), (8,), (0, 2))}) == 4


def test_no_group_comes_again_while_another_has_yet_to_come():
    rules = ledger(interval=4, max_uses=2)
    draws = rules.draw(ANN, 0, 4)
    for draw in draws[:3]:
        rules.put(ANN, scored(draw))
    rules.trained(ids(rules.take(2) or []), 1)
    assert not rules.can_take(2), "one is new, two could come again, one is in flight"
    rules.give_back(ANN, draws[3], "aborted", 0)
    assert not rules.can_take(2), "it is needed still"
    (again,) = rules.draw(ANN, 0, 4)
    rules.put(ANN, scored(again))
    assert ids(rules.take(2) or []) == ["p:2", "p:3"]


def test_a_draw_has_the_fate_of_its_first_use_and_no_other():
    fates: list[Fate] = []
    rules = ledger(interval=4, max_uses=2, fates=fates)
    takes_of(rules, 2)
    assert [fate.kind for fate in fates] == ["trained"] * 4
    takes_of(rules, 2, skipped=(3,))
    assert len(fates) == 4
    counts = rules.counts()
    assert (counts["drawn"], counts["trained"], counts["buffered"]) == (4, 4, 0)


def test_a_group_whose_first_use_was_skipped_is_not_used_again_and_makes_room():
    rules = ledger(interval=4, max_uses=2)
    taken = takes_of(rules, 4, skipped=(1,))
    assert taken[0] == ["p:0", "p:1"]
    assert rules.fates()["dropped:non_finite"] == 2
    assert uses(taken[1:]) == {"p:2": 2, "p:3": 2, "p:4": 2}, "one more makes up for it"


def test_a_skipped_later_use_counts_as_one():
    rules = ledger(interval=4, max_uses=2)
    taken = takes_of(rules, 4, skipped=(3, 4))
    assert uses(taken) == {f"p:{number}": 2 for number in range(4)}
    assert rules.fates() == {"trained": 4}


def test_a_lease_of_a_later_use_is_closed_once_and_never_outlives_its_period():
    rules = ledger(interval=2, max_uses=2)
    train(rules, 1)
    again = ids(rules.take(2) or [])
    with pytest.raises(AssertionError, match="leased"):
        rules.advance(2)
    rules.trained(again, 2)
    with pytest.raises(AssertionError, match="not leased"):
        rules.trained(again, 2)


@pytest.mark.parametrize("steps", range(6))
def test_a_run_resumed_in_mid_period_repeats_the_order_to_come(steps):
    rules = ledger(groups_per_step=4, interval=6, max_uses=3, seed=5)
    takes_of(rules, steps)
    again = saved(rules, seed=5)
    assert takes_of(again, 6 - steps) == takes_of(rules, 6 - steps)
    assert again.counts() == rules.counts()
    assert again.need() == 0


def test_a_snapshot_during_a_later_use_brings_the_same_groups_back():
    rules = ledger(groups_per_step=4, interval=4, max_uses=2)
    takes_of(rules, 2)
    leased = ids(rules.take(4) or [])
    assert rules.counts()["leased"] == 0, "a later use is no place of a draw"
    again = saved(rules)
    assert ids(again.take(4) or []) == leased
    again.trained(leased, 3)
    assert again.stats()["replay/reused"] == 4, "the lease that was lost is no use"


def test_a_resumed_run_may_have_other_uses():
    rules = ledger(interval=4, max_steps=4, max_uses=2)
    takes_of(rules, 2)
    assert saved(rules, max_uses=1).need() == 4, "none comes again"
    more = saved(rules, max_uses=4)
    assert more.need() == 0
    assert len(takes_of(more, 2)) == 2


def test_the_end_of_the_data_ends_the_uses_too():
    rules = ledger(size=3, interval=4, max_uses=2)
    taken = takes_of(rules, 4)
    assert [len(each) for each in taken] == [2, 2, 2, 0]
    assert uses(taken) == {"p:0": 2, "p:1": 2, "p:2": 2}
    assert rules.take(2) is None


def test_at_the_end_of_a_period_all_go_and_the_next_has_its_own():
    rules = ledger(interval=4, max_uses=4)
    takes_of(rules, 1)
    assert len(rules.snapshot()["used"]) == 2
    rules.advance(4)
    assert rules.snapshot()["used"] == []
    assert not rules.can_take(2)
    assert fill(rules) == ["p:2", "p:3"]
    assert sorted(uses(takes_of(rules, 4))) == ["p:2", "p:3"]


def test_used_groups_count_for_the_capacity_and_a_small_one_ends_no_run():
    rules = ledger(interval=8, max_steps=8, max_uses=2, capacity=3)
    assert len(rules.draw(ANN, 0, 100)) == 3
    again = ledger(interval=8, max_steps=8, max_uses=2, capacity=3)
    taken = takes_of(again, 8)
    assert [len(each) for each in taken] == [2] * 8
    assert all(len(set(each)) == 2 for each in taken)
    assert max(uses(taken).values()) == 2


def test_what_the_run_leaves_unused_is_unfinished_and_what_was_used_is_not():
    rules = ledger(interval=4, max_uses=2)
    takes_of(rules, 1)
    rules.take(2)
    rules.finish()
    assert rules.fates() == {"trained": 2, "unfinished": 2}
    counts = rules.counts()
    assert counts["drawn"] == sum(counts[fate] for fate in FATES)


def test_the_filter_may_drop_a_multiple_of_the_fresh_groups():
    rules = ledger(interval=4, max_uses=2, max_dropped=0.5)
    assert rules.periods.droppable(0) == 2


async def test_take_wakes_for_a_later_use_when_the_last_draw_has_come():
    replay = buffer(interval=3, max_uses=2)
    prompts = await replay.next_prompts(ANN, 0, 9, 1)
    assert prompts
    *early, late = prompts
    await replay.put(ANN, [scored(prompt) for prompt in early])
    await replay.trained(ids(await replay.take(2, 1)), 1)
    waiting = asyncio.create_task(replay.take(2, 5))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    await replay.put(ANN, [scored(late)])
    new, again = ids(await asyncio.wait_for(waiting, 1))
    assert new == late.id
    assert again in ids(early)
