"""History beside fresh groups: how much, which groups, for how long, and what a resume repeats."""

from __future__ import annotations

from collections import Counter

import pytest

from oapl.batching import divide
from oapl.config.objective import History
from oapl.records import CreditedGroup, Fate
from oapl.replay.buffer import ReplayBuffer
from oapl.replay.history import Window
from oapl.replay.ledger import Ledger
from oapl.replay.periods import fresh_groups
from tests.support.replaying import ANN, fill, ids, ledger, needs, saved, scored

PAPER = {
    "groups_per_step": 128,
    "mini_batches": 2,
    "updates_per_batch": 2,
    "interval": 4,
    "capacity": 4096,
    "group_size": 1,
}
"""ReMix: takes of 256 prompts, m = 2."""


def mixed(share: float = 0.4, iterations: int = 2, until: int = 0) -> History:
    return History(share=share, iterations=iterations, until=until)


def small(**changes: object) -> Ledger:
    """Takes of 10 groups of 4 rollouts in two mini-batches: 4 groups of 10 are history."""
    options = {
        "groups_per_step": 5,
        "mini_batches": 2,
        "interval": 2,
        "max_steps": 98,
        "group_size": 4,
        "history": mixed(),
    }
    return ledger(**(options | changes))  # type: ignore[arg-type]


def iterate(rules: Ledger, is_skipped: bool = False) -> list[CreditedGroup]:
    """One iteration and the publication after it."""
    fill(rules)
    groups = rules.take(rules.periods.groups_per_take) or []
    fresh = [group.id for group in groups if not group.is_history]
    step = rules.step + rules.periods.steps_per_take
    if is_skipped:
        rules.drop(fresh, "non_finite", step)
    else:
        rules.trained(fresh, step)
    rules.advance(step)
    return groups


def lent(groups: list[CreditedGroup]) -> list[str]:
    return [group.id for group in groups if group.is_history]


def fresh(groups: list[CreditedGroup]) -> list[str]:
    return [group.id for group in groups if not group.is_history]


@pytest.mark.parametrize(
    ("count", "group_size", "share", "expected"),
    [
        (256, 1, 0.4, 152),  # the paper's: 153.6, down to a multiple of 8
        (256, 8, 0.4, 152),  # and with eight rollouts of each prompt
        (32, 8, 0.4, 19),  # 256 rollouts
        (64, 4, 0.4, 38),
        (10, 4, 0.4, 6),
        (10, 2, 0.4, 4),  # 12, down to 8
        (6, 2, 0.4, 3),  # 7.2: no multiple of 8 but 0, so whole groups
        (5, 6, 0.4, 2),  # 18, down to 16, and that to 12
        (256, 1, 0.5, 128),
        (10, 8, 0.9, 1),  # 8, though 0.1 * 80 is below it in floating point
        (8, 1, 0.9, 1),  # at least one
        (1, 8, 0.4, 1),
        (13, 1, 0.0, 13),  # nothing is rounded where nothing is mixed
    ],
)
def test_the_fresh_share_is_rounded_down_to_eights_and_to_whole_groups(
    count, group_size, share, expected
):
    assert fresh_groups(count, group_size, share) == expected


# Rollouts generated until a learner iteration, from Table 1 of the paper: 0.061M, 0.163M, 0.368M of
# ReMix-GRPO (T = 50, eight rollouts of a prompt), 0.041M and 0.079M of ReMix-PPO (T = 100, one).
VOLUMES = [
    (8, 50, 50, 60_800),
    (8, 50, 100, 163_200),
    (8, 50, 200, 368_000),
    (1, 100, 200, 40_800),
    (1, 100, 350, 79_200),
]


@pytest.mark.parametrize(("group_size", "until", "iterations", "paper"), VOLUMES)
def test_a_run_generates_as_many_rollouts_as_the_papers(group_size, until, iterations, paper):
    """But for the first iteration, which the paper counts as mixed, though there is no history."""
    options = PAPER | {"group_size": group_size, "max_steps": 4 * iterations}
    periods = needs(**options, history=mixed(until=until))
    plan = [draws for _, draws in periods.plan()]
    assert plan == [256] + [152] * (until - 1) + [256] * (iterations - until)
    assert sum(plan) * group_size == paper + 104 * group_size


def test_a_take_is_152_fresh_groups_and_104_of_history_and_each_mini_batch_has_its_share():
    rules = ledger(**PAPER, max_steps=400, history=mixed(until=3))
    first = iterate(rules)
    assert (len(first), lent(first)) == (256, [])
    assert rules.need() == 152
    second = iterate(rules)
    assert (len(fresh(second)), len(lent(second))) == (152, 104)
    assert set(lent(second)) <= set(fresh(first))
    shares = [(len(fresh(list(part))), len(lent(list(part)))) for part in divide(second, 128)]
    assert shares == [(76, 52), (76, 52)]
    iterate(rules)
    assert rules.need() == 256, "T iterations are made"
    last = iterate(rules)
    assert (len(last), lent(last)) == (256, [])
    assert rules.counts()["drawn"] == 2 * 256 + 2 * 152


def test_who_waits_for_a_mixed_take_misses_fresh_groups_alone():
    rules = small()
    assert (rules.missing(10), rules.missing(0)) == (10, 0)
    iterate(rules)
    assert rules.missing(10) == 6, "4 of them are history"
    (prompt,) = rules.draw(ANN, rules.version, 1)
    assert rules.put(ANN, scored(prompt, rules.version, (0.0, 1.0, 0.0, 1.0))) == "kept"
    assert rules.missing(10) == 5


async def test_what_is_told_of_a_wait_for_a_mixed_take_is_what_has_to_come():
    rules = small()
    iterate(rules)
    replay = object.__new__(ReplayBuffer)
    replay._ledger, replay._asked = rules, 10
    assert (await replay.lateness()).missing == 6


def test_the_plan_is_what_the_ledger_asks_for():
    rules = small(max_steps=14, history=mixed(share=0.7, iterations=1, until=5))
    asked = [len(fresh(iterate(rules))) for _ in range(6)]
    asked.append(rules.need())
    assert [draws for _, draws in rules.periods.plan()] == asked


def test_history_is_of_the_last_iterations_each_group_at_most_once():
    rules = small()
    came = [fresh(iterate(rules)) for _ in range(2)]
    for _ in range(20):
        groups = iterate(rules)
        recent = came[-2] + came[-1]
        assert set(lent(groups)) <= set(recent)
        assert len(set(lent(groups))) == len(lent(groups)) == 4
        assert rules.stats()["replay/window"] == 12
        came.append(fresh(groups))


def test_every_group_of_the_window_is_equally_likely():
    window = Window(needs(history=mixed()), seed=0)
    for group in iterate(small()):
        window.add(group)
    draws = 4000
    counts = Counter(id for step in range(draws) for id in ids(window.lend(4, step)))
    assert len(counts) == 10
    spread = (draws * 0.4 * 0.6) ** 0.5
    assert all(abs(number - 0.4 * draws) < 4 * spread for number in counts.values())
    pairs = Counter(frozenset(ids(window.lend(2, step))) for step in range(draws))
    assert len(pairs) == 45
    assert max(pairs.values()) < 2 * draws / 45


def test_while_history_is_short_fresh_groups_fill():
    rules = small(history=mixed(share=0.8, iterations=1))  # 8 fresh rollouts of 40: 2 groups
    assert len(fresh(iterate(rules))) == 10
    assert len(fresh(iterate(rules))) == 2
    groups = iterate(rules)
    assert (len(fresh(groups)), len(lent(groups))) == (8, 2), "two groups of one iteration"


def test_dropped_groups_never_enter_history():
    rules = small()
    skipped = fresh(iterate(rules, is_skipped=True))
    groups = iterate(rules)
    assert (len(fresh(groups)), lent(groups)) == (10, [])
    later = [lent(iterate(rules)) for _ in range(3)]
    assert all(later)
    assert not any(set(skipped) & set(names) for names in later)
    assert rules.fates()["dropped:non_finite"] == 10


def test_what_is_lent_has_its_fate_and_needs_no_closing():
    fates: list[Fate] = []
    rules = small(fates=fates)
    iterate(rules)
    fill(rules)
    groups = rules.take(10) or []
    assert rules.counts()["leased"] == 6
    with pytest.raises(AssertionError, match="not leased"):
        rules.trained(lent(groups), 4)
    rules.trained(fresh(groups), 4)
    assert [fate.kind for fate in fates] == ["trained"] * 16
    assert len({fate.id for fate in fates}) == 16
    stats = rules.stats()
    assert stats["replay/history"] == 4
    assert stats["replay/lag_max"] == 0, "the lag is that of fresh groups"


def test_the_lent_copy_alone_is_marked():
    rules = small()
    first = iterate(rules)
    groups = iterate(rules)
    again = iterate(rules)
    assert not any(group.is_history for group in first)
    by_id = {group.id: group for group in first}
    for group in groups:
        if group.is_history:
            assert group.scored is by_id[group.id].scored, "its log-probs are those at sampling"
            assert group.credit is by_id[group.id].credit
    assert lent(again)


@pytest.mark.parametrize("is_leased", [False, True])
def test_a_resumed_run_is_lent_the_same(is_leased):
    rules = small(seed=3)
    for _ in range(3):
        iterate(rules)
    fill(rules)
    if is_leased:
        rules.take(10)
    again, other = saved(rules, seed=3), saved(rules, seed=4)
    if is_leased:
        rules = saved(rules, seed=3)
    groups = iterate(rules)
    assert ids(iterate(again)) == ids(groups)
    assert lent(iterate(other)) != lent(groups)
    assert ids(iterate(again)) == ids(iterate(rules))


def test_after_t_iterations_nothing_is_kept():
    rules = small(history=mixed(until=2))
    iterate(rules)
    assert len(rules.snapshot()["history"]) == 10
    iterate(rules)
    assert rules.snapshot()["history"] == []
    assert rules.stats()["replay/window"] == 0


def test_an_objective_without_history_keeps_none():
    rules = small(history=None)
    iterate(rules)
    assert rules.snapshot()["history"] == []
    assert "replay/window" not in rules.stats()
    nothing = small(history=mixed(share=0.0))
    iterate(nothing)
    assert nothing.need() == 10


def test_at_the_end_of_the_data_history_keeps_its_share_and_never_comes_alone():
    rules = small(size=13)
    iterate(rules)
    fill(rules)
    groups = rules.take(10) or []
    assert (len(fresh(groups)), len(lent(groups))) == (3, 2), "4 to 6, of 3"
    rules.trained(fresh(groups), 4)
    rules.advance(4)
    fill(rules)
    assert rules.take(10) is None


def test_the_filter_may_drop_a_multiple_of_the_fresh_groups():
    rules = small(max_dropped=0.5)
    iterate(rules)
    assert rules.periods.droppable(2, window=10) == 3


def test_a_failed_draw_is_replaced_by_a_fresh_one():
    rules = small()
    iterate(rules)
    prompts = rules.draw(ANN, 2, 100)
    assert len(prompts) == 6
    rules.fail(ANN, prompts[0], "too long", 0)
    for prompt in prompts[1:]:
        rules.put(ANN, scored(prompt, 2, (0.0, 1.0, 0.0, 1.0)))
    assert not rules.can_take(10), "history does not fill"
    fill(rules)
    assert len(fresh(iterate(rules))) == 6
