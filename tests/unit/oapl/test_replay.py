"""The replay buffer's rules one by one, and its waits. `test_replay_model` looks for the rest."""

from __future__ import annotations

import asyncio
import itertools
import pickle

import numpy as np
import pytest

from oapl.errors import CheckpointError, DeadlineError, DrawsError, InputError, StaleError
from oapl.records import Credit, Fate, Prompt, ScoredGroup, WorkerId
from oapl.replay.ledger import Ledger
from tests.support.replaying import (
    ANN,
    BOB,
    Counting,
    buffer,
    drop_uniform,
    ids,
    keep_all,
    ledger,
    needs,
    scored,
    train,
)
from tests.support.saved import saved

pytestmark = pytest.mark.leaping


# How much is handed out


def test_beyond_its_limit_the_filter_drops_no_more_in_this_period():
    rules = ledger(credit=drop_uniform, interval=2, max_dropped=0.5)  # half of 2 steps of 2 groups

    def put(count: int, rewards: tuple[float, ...]) -> list[str]:
        draws = rules.draw(ANN, rules.version, count)
        return [rules.put(ANN, scored(draw, rules.version, rewards)) for draw in draws]

    assert put(2, (1.0, 1.0)) == ["dropped:uniform"] * 2
    again = ledger(credit=drop_uniform, interval=2, max_dropped=0.5)
    again.restore(rules.snapshot())
    assert again.snapshot()["dropped"] == 2
    assert put(9, (1.0, 1.0)) == ["kept"] * 4
    assert rules.stats()["replay/spared"] == 4
    for step in (1, 2):
        groups = rules.take(2)
        assert [group.credit.dropped for group in groups or ()] == [None, None]
        rules.trained(ids(groups), step)
    rules.advance(2)
    assert put(2, (0.0, 0.0)) == ["dropped:uniform"] * 2, "each period has its own limit"


def test_a_period_hands_out_exactly_what_its_steps_need():
    rules = ledger()
    assert ids(rules.draw(ANN, 0, 4)) == ["p:0", "p:1", "p:2", "p:3"]
    assert ids(rules.draw(BOB, 0, 100)) == ["p:4", "p:5"]  # 2 groups x 3 steps
    assert rules.draw(ANN, 0, 100) == []


def test_a_surplus_hands_out_a_share_of_the_whole_period_more():
    assert len(ledger(surplus=0.2).draw(ANN, 0, 100)) == 8  # 6 and 1.2, rounded up
    late = ledger(surplus=0.2)
    for step in (1, 2):
        train(late, step)
    # One step left needs 2; the surplus is still that of the whole period: 2 + 2 - 4 in buffer.
    assert late.counts()["buffered"] == 4
    assert late.draw(ANN, 0, 100) == []


def test_a_surplus_of_a_tenth_of_thirty_is_three():
    periods = needs(groups_per_step=10, surplus=0.1)
    assert periods.wanted(begin=0, step=0) == 33


def test_the_last_period_is_as_short_as_the_run():
    rules = ledger(max_steps=4)
    for step in (1, 2, 3):
        train(rules, step)
    rules.advance(3)
    assert len(rules.draw(ANN, 3, 100)) == 2
    assert ledger(max_steps=1).periods.wanted(begin=0, step=1) == 0


def test_a_run_given_more_steps_goes_on_within_its_period():
    periods = needs(max_steps=20)
    assert periods.period_end(begin=3, step=4) == 6


def test_a_shorter_interval_on_resume_still_has_a_period_ahead():
    periods = needs(interval=2, max_steps=20)
    assert periods.period_end(begin=0, step=5) == 6


def test_capacity_bounds_buffered_leased_and_in_flight_together():
    rules = ledger(capacity=3)
    first = rules.draw(ANN, 0, 100)
    assert len(first) == 3
    for prompt in first[:2]:
        rules.put(ANN, scored(prompt))
    rules.take(2)
    assert rules.draw(ANN, 0, 100) == []
    rules.trained(ids(first[:2]), 1)
    assert len(rules.draw(ANN, 0, 100)) == 2


def test_a_capacity_below_one_step_is_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"capacity is 1 .* raise replay\.capacity"):
        ledger(capacity=1)


def test_a_worker_of_another_version_gets_nothing():
    rules = ledger()
    assert rules.draw(ANN, -1, 1) == []
    assert rules.draw(ANN, 3, 1) == []


def test_a_filtered_group_gives_its_place_back():
    fates: list[Fate] = []
    rules = ledger(credit=drop_uniform, fates=fates)
    first, *_ = rules.draw(ANN, 0, 100)
    assert rules.put(ANN, scored(first, rewards=(1.0, 1.0))) == "dropped:uniform"
    assert fates == [Fate(id="p:0", attempt=0, kind="dropped", detail="uniform", step=0)]
    assert ids(rules.draw(ANN, 0, 100)) == ["p:6"]


# Coming back


def test_a_returned_draw_comes_first_and_counts_its_attempts():
    rules = ledger()
    first, second = rules.draw(ANN, 0, 2)
    rules.give_back(ANN, first, "aborted", 5)
    (again, new) = rules.draw(BOB, 0, 2)
    assert (again.id, again.attempt, new.id) == ("p:0", 1, "p:2")
    rules.give_back(ANN, first, "aborted", 5)  # an old attempt: nothing moves
    assert rules.counts()["queued"] == 0
    assert rules.put(ANN, scored(second)) == "kept"


def test_put_accepts_a_group_once():
    rules = ledger()
    (prompt,) = rules.draw(ANN, 0, 1)
    assert rules.put(ANN, scored(prompt)) == "kept"
    assert rules.put(ANN, scored(prompt)) == "refused:duplicate"
    rules.take(1) if rules.can_take(1) else None
    rules.trained(["p:0"], 1)
    assert rules.put(ANN, scored(prompt)) == "refused:duplicate"
    assert rules.stats()["replay/duplicates"] == 2


def test_put_refuses_a_group_of_an_old_version_and_counts_its_tokens():
    rules = ledger()
    (prompt,) = rules.draw(ANN, 0, 1)
    rules.advance(3)
    assert rules.put(ANN, scored(prompt, version=0, length=7)) == "refused:stale"
    stats = rules.stats()
    assert (stats["replay/refused_stale"], stats["replay/refused_tokens"]) == (1, 14)
    (again,) = rules.draw(ANN, 3, 1)
    assert (again.id, again.attempt) == ("p:0", 1)


def test_put_refuses_an_old_attempt_and_a_draw_that_the_worker_never_had():
    rules = ledger()
    (prompt,) = rules.draw(ANN, 0, 1)
    assert rules.put(BOB, scored(prompt)) == "refused:unknown"
    rules.give_back(ANN, prompt, "aborted", 0)
    assert rules.put(ANN, scored(prompt)) == "refused:stale"  # queued as attempt 1
    (again,) = rules.draw(BOB, 0, 1)
    assert rules.put(ANN, scored(prompt)) == "refused:stale"  # in flight as attempt 1
    assert rules.put(BOB, scored(again)) == "kept"
    assert rules.put(ANN, scored(prompt)) == "refused:stale"  # accepted as attempt 1


@pytest.mark.parametrize(
    "bad",
    [
        {"rewards": (1.0,)},
        {"rewards": (0.0, 1.0, 1.0)},
        {"finish_reason": "abort"},
    ],
)
def test_an_incomplete_group_is_refused_and_its_draw_returns(bad: dict[str, object]):
    rules = ledger()
    (prompt,) = rules.draw(ANN, 0, 1)
    assert rules.put(ANN, scored(prompt, **bad)) == "refused:incomplete"  # type: ignore[arg-type]
    assert rules.counts()["queued"] == 1


def test_a_group_of_a_version_never_served_returns_its_draw():
    rules = ledger()
    (prompt,) = rules.draw(ANN, 0, 1)
    assert rules.put(ANN, scored(prompt, version=9)) == "refused:stale"
    assert (rules.counts()["queued"], rules.counts()["in_flight"]) == (1, 0)


def test_a_failing_credit_leaves_the_draw_in_flight():
    def broken(group: ScoredGroup) -> Credit:
        raise ZeroDivisionError("credit")

    rules = ledger(credit=broken)
    (prompt,) = rules.draw(ANN, 0, 1)
    with pytest.raises(ZeroDivisionError):
        rules.put(ANN, scored(prompt))
    assert rules.counts()["in_flight"] == 1


def test_a_failed_draw_names_its_cause_and_gives_its_place_back():
    rules = ledger()
    (prompt,) = rules.draw(ANN, 0, 1)
    rules.fail(ANN, prompt, "too long", 4)
    assert rules.fates() == {"failed:too long": 1}
    assert rules.need() == 6


def test_a_run_is_hopeless_when_each_of_its_first_draws_has_failed_and_not_before():
    rules = ledger(max_steps=99, interval=99)
    prompts = rules.draw(ANN, 0, 12)
    for prompt in prompts[1:]:  # those that fail fast say nothing of the first
        rules.fail(ANN, prompt, f"no {prompt.id}", 0)
        assert not rules.is_hopeless()
    rules.fail(ANN, prompts[0], "no p:0", 0)
    assert rules.is_hopeless()
    assert rules.first_failure == "no p:1"


def test_a_run_with_one_group_is_not_hopeless_whatever_its_credit():
    rules = ledger(credit=drop_uniform, max_steps=99, interval=99)
    prompts = rules.draw(ANN, 0, 12)
    assert rules.put(ANN, scored(prompts[0], rewards=(1.0, 1.0))) == "dropped:uniform"
    for prompt in prompts[1:]:
        rules.fail(ANN, prompt, "broken", 0)
    assert not rules.is_hopeless()


def test_draws_that_come_back_are_waited_for():
    rules = ledger(max_steps=99, interval=99)
    prompts = rules.draw(ANN, 0, 8)
    for prompt in prompts[1:]:
        rules.fail(ANN, prompt, "broken", 0)
    rules.give_back(ANN, prompts[0], "aborted", 0)
    assert not rules.is_hopeless()


# Deaths


def test_a_dead_workers_draws_are_retried_alone_when_the_next_death_fails_them():
    rules = ledger(max_deaths=2)
    lost = rules.draw(ANN, 0, 2)
    busy = rules.draw(BOB, 0, 1)
    rules.release(ANN)
    assert ids(rules.draw(BOB, 0, 3)) == ["p:3", "p:4", "p:5"]  # busy: none of the lonely ones
    for prompt in busy:
        rules.put(BOB, scored(prompt))
    reborn = WorkerId(index=0, incarnation=1)
    (alone,) = rules.draw(reborn, 0, 3)
    assert (alone.id, alone.attempt, alone.max_in_engine) == (lost[0].id, 1, 1)
    assert rules.draw(reborn, 0, 3) == []  # nothing beside it
    rules.put(reborn, scored(alone))
    assert ids(rules.draw(reborn, 0, 3)) == [lost[1].id]


def test_a_dead_workers_draws_are_retried_in_ever_smaller_company():
    rules = ledger(groups_per_step=16, max_deaths=3)
    first = rules.draw(ANN, 0, 16)
    rules.release(ANN)
    second = WorkerId(index=0, incarnation=1)
    four = rules.draw(second, 0, 16)  # the square root of 16
    assert ids(four) == ids(first)[:4]
    rules.put(second, scored(four[0]))
    assert ids(rules.draw(second, 0, 16)) == ids(first)[4:5]  # suspects fill up with suspects
    rules.release(second)
    third = WorkerId(index=0, incarnation=2)
    (alone,) = rules.draw(third, 0, 16)  # its next death is its last
    assert (alone.id, alone.max_in_engine) == (first[1].id, 1)
    rules.release(third)
    assert rules.fates() == {"failed:3 engines died under it": 1}, "and nobody else"


@pytest.mark.parametrize(
    ("max_deaths", "sizes"), [(2, [64, 1]), (3, [64, 8, 1]), (4, [64, 16, 4, 1])]
)
def test_companies_shrink_by_equal_ratios_down_to_one(max_deaths, sizes):
    periods = ledger(max_deaths=max_deaths).periods
    for deaths, (lost, company) in enumerate(itertools.pairwise(sizes), start=1):
        assert periods.max_in_engine(deaths, lost) == company


def test_a_prompt_that_kills_engines_fails():
    rules = ledger(max_deaths=2)
    rules.draw(ANN, 0, 1)
    rules.release(ANN)
    second = WorkerId(index=0, incarnation=1)
    rules.draw(second, 0, 1)
    rules.release(second)
    assert rules.fates() == {"failed:2 engines died under it": 1}
    assert rules.stats()["replay/deaths"] == 2


def test_a_suspect_that_was_finished_and_cleared_is_none_any_more():
    rules = ledger()
    rules.draw(ANN, 0, 1)
    rules.release(ANN)
    (alone,) = rules.draw(BOB, 0, 1)
    rules.put(BOB, scored(alone))
    rules.advance(3)
    assert not rules.draw(BOB, 3, 1)[0].max_in_engine


def test_a_released_incarnation_is_refused_and_its_group_counted():
    rules = ledger()
    (prompt,) = rules.draw(ANN, 0, 1)
    rules.release(ANN)
    for call in (
        lambda: rules.draw(ANN, 0, 1),
        lambda: rules.put(ANN, scored(prompt)),
        lambda: rules.give_back(ANN, prompt, "aborted", 0),
        lambda: rules.fail(ANN, prompt, "x", 0),
    ):
        with pytest.raises(StaleError, match=r"worker 0\.0 .* released"):
            call()
    assert rules.stats()["replay/refused_released"] == 1
    assert rules.draw(WorkerId(index=0, incarnation=1), 0, 1)


# Training and synchronisation


def test_take_leases_in_order_of_arrival():
    rules = ledger()
    prompts = rules.draw(ANN, 0, 3)
    for prompt in reversed(prompts):
        rules.put(ANN, scored(prompt))
    assert ids(rules.take(2) or []) == ["p:2", "p:1"]
    assert not rules.can_take(2)


def test_every_lease_is_closed_once():
    rules = ledger()
    for prompt in rules.draw(ANN, 0, 2):
        rules.put(ANN, scored(prompt))
    rules.take(2)
    rules.trained(["p:0"], 1)
    rules.drop(["p:1"], "non_finite", 1)
    assert rules.fates() == {"dropped:non_finite": 1, "trained": 1}
    with pytest.raises(AssertionError, match="not leased"):
        rules.trained(["p:0"], 2)


def test_a_skipped_step_counts_as_a_step():
    rules = ledger()
    for prompt in rules.draw(ANN, 0, 6):
        rules.put(ANN, scored(prompt))
    rules.take(2)
    rules.drop(["p:0", "p:1"], "non_finite", 1)
    assert rules.need() == 0  # two steps are left, and four groups are buffered


def test_advance_clears_the_buffer_and_puts_the_slowest_first():
    rules = ledger()
    prompts = rules.draw(ANN, 0, 4)
    rules.put(ANN, scored(prompts[0], length=5))
    rules.put(ANN, scored(prompts[2], length=3))
    rules.give_back(ANN, prompts[3], "aborted", 2)
    rules.advance(3)
    stats = rules.stats()
    assert (stats["replay/cleared_groups"], stats["replay/cleared_tokens"]) == (2, 16)
    assert stats["replay/cleared_length_mean"] == 4
    assert stats["rollout/aborted_groups"] == 1
    assert stats["replay/wasted_tokens"] == 2
    again = rules.draw(BOB, 3, 100)
    assert [(p.id, p.attempt) for p in again] == [
        ("p:1", 1),
        ("p:0", 1),
        ("p:2", 1),
        ("p:3", 1),
        ("p:4", 0),
        ("p:5", 0),
    ]


def test_a_version_never_goes_back_and_never_moves_under_a_lease():
    rules = ledger()
    for prompt in rules.draw(ANN, 0, 6):
        rules.put(ANN, scored(prompt))
    rules.take(2)
    with pytest.raises(AssertionError, match="leased"):
        rules.advance(3)
    rules.trained(["p:0", "p:1"], 1)
    rules.advance(3)
    with pytest.raises(AssertionError, match="went back"):
        rules.advance(2)


def test_a_lead_waits_until_the_period_has_its_groups():
    rules = ledger()  # 2 groups a step, L = 3
    train(rules, 1)  # puts all of the period's groups at once
    assert len(rules.snapshot()["buffer"]) == 4
    fresh = ledger()
    for prompt in fresh.draw(ANN, 0, 5):
        fresh.put(ANN, scored(prompt))
    fresh.trained(ids(fresh.take(2) or []), 1)
    assert not fresh.lead(1, 3), "3 of the 4 groups that two steps need"
    assert fresh.version == 0
    assert rules.lead(1, 3)
    assert (rules.version, rules.begin) == (1, 3)


def test_a_lead_fills_a_second_buffer_while_the_first_is_trained():
    rules = ledger()
    train(rules, 1)
    assert rules.lead(1, 3)
    assert rules.draw(BOB, 0, 9) == [], "the old version gets nothing more"
    ahead = rules.draw(ANN, 1, 100)
    assert len(ahead) == 6, "the whole next period"
    for prompt in ahead:
        assert rules.put(ANN, scored(prompt, 1)) == "kept"
    for step in (2, 3):
        groups = rules.take(2) or []
        assert {group.scored.group.version for group in groups} == {0}
        rules.trained(ids(groups), step)
    groups = rules.take(2) or []
    assert {group.scored.group.version for group in groups} == {1}
    assert rules.stats()["replay/lag_max"] == 2
    assert ids(groups) == ids(ahead)[:2]


def test_a_lead_keeps_what_the_period_needs_and_returns_the_rest_first():
    rules = ledger(surplus=0.5)  # 9 draws for 6 groups
    prompts = rules.draw(ANN, 0, 100)
    for prompt in prompts[:7]:
        rules.put(ANN, scored(prompt))
    taken = rules.take(2) or []
    rules.trained(ids(taken), 1)
    rules.take(2)  # leased, as it is while `learn` decides
    assert rules.lead(1, 3)
    counts, stats = rules.counts(), rules.stats()
    assert (counts["leased"], counts["buffered"], counts["queued"]) == (2, 2, 3)
    assert (stats["replay/cleared_groups"], stats["rollout/aborted_groups"]) == (1, 2)
    again = rules.draw(ANN, 1, 3)
    assert ids(again) == ["p:7", "p:8", "p:6"], "the slowest first, then the one too many"
    rules.give_back(ANN, prompts[7], "aborted", 30)  # its worker hears of the switch
    assert rules.stats()["rollout/aborted_length_mean"] == 15
    assert rules.put(ANN, scored(prompts[8])) == "refused:stale"


def test_capacity_bounds_both_buffers_together():
    rules = ledger(capacity=6)
    train(rules, 1)
    assert rules.lead(1, 3)
    assert len(rules.draw(ANN, 1, 100)) == 2, "4 wait to be trained"


def test_a_snapshot_during_a_lead_brings_both_buffers_back():
    rules = ledger()
    train(rules, 1)
    rules.lead(1, 3)
    kept, flying = rules.draw(ANN, 1, 2)
    rules.put(ANN, scored(kept, 1))
    rules.take(2)
    again = Ledger(Counting(), keep_all, rules.periods)
    again.restore(saved(rules.snapshot()))
    assert (again.version, again.begin, again.step) == (1, 3, 1)
    for step in (2, 3):
        again.trained(ids(again.take(2) or []), step)
    assert again.counts()["buffered"] == 1
    assert ids(again.draw(BOB, 1, 1)) == [flying.id]


def test_a_run_that_stops_during_a_lead_leaves_no_draw_without_a_fate():
    rules = ledger()
    train(rules, 1)
    rules.lead(1, 3)
    for prompt in rules.draw(ANN, 1, 2):
        rules.put(ANN, scored(prompt, 1))
    rules.take(2)
    rules.finish()
    counts = rules.counts()
    assert (counts["unfinished"], counts["trained"], counts["drawn"]) == (6, 2, 8)


def test_with_two_versions_a_surplus_is_kept_goes_first_and_counts_as_needed():
    rules = ledger(max_versions=2, surplus=0.5, interval=2)  # 4 groups a period and 2 more
    prompts = rules.draw(ANN, 0, 100)
    for prompt in reversed(prompts):
        rules.put(ANN, scored(prompt))
    for step in (1, 2):
        rules.trained(ids(rules.take(2) or []), step)
    rules.advance(2)
    assert (rules.usable, rules.version) == ((0, 2), 2)
    assert rules.stats()["replay/older"] == rules.counts()["buffered"] == 2
    new = rules.draw(ANN, 2, 100)
    assert len(new) == 4, "of 4 and 2, two are there"
    for prompt in new:
        rules.put(ANN, scored(prompt, 2))
    assert ids(rules.take(2) or []) == ["p:1", "p:0"]
    stats = rules.stats()
    assert (stats["replay/cleared_groups"], stats["replay/lag_max"]) == (0, 2)


def test_the_oldest_version_goes_first_however_late_its_group_came():
    rules = ledger(max_versions=2, surplus=1.0, drains=True)
    slow, *quick = rules.draw(ANN, 0, 7)
    for prompt in quick:
        rules.put(ANN, scored(prompt))
    for step in (1, 2, 3):
        rules.trained(ids(rules.take(2) or []), step)
    rules.advance(3)
    (new,) = rules.draw(BOB, 3, 1)
    rules.put(BOB, scored(new, 3))
    assert rules.put(ANN, scored(slow)) == "kept"
    assert ids(rules.take(2) or []) == [slow.id, new.id]


def test_engines_that_drain_keep_their_draws_while_their_version_is_kept():
    rules = ledger(max_versions=2, surplus=1.0, drains=True)
    one, two = rules.draw(ANN, 0, 2)
    rules.advance(3)
    assert rules.stats()["rollout/aborted_groups"] == 0
    assert rules.counts()["in_flight"] == 2
    assert rules.put(ANN, scored(one)) == "kept"
    assert rules.put(ANN, scored(one)) == "refused:duplicate"
    rules.advance(6)
    assert rules.put(ANN, scored(two)) == "refused:stale"
    assert rules.put(ANN, scored(one)) == "refused:stale", "cleared, and drawn again"
    assert ids(rules.draw(BOB, 6, 2)) == [two.id, one.id], "the slowest first"


def test_engines_that_abort_lose_their_draws_with_several_versions_too():
    rules = ledger(max_versions=2, surplus=1.0)
    one, two = rules.draw(ANN, 0, 2)
    rules.put(ANN, scored(one))
    rules.advance(3)
    assert rules.stats()["rollout/aborted_groups"] == 1
    assert rules.put(ANN, scored(two)) == "refused:stale"
    assert rules.put(ANN, scored(one)) == "refused:duplicate", "it is kept"
    assert rules.counts()["buffered"] == 1


def test_a_group_is_of_the_version_its_draw_was_handed_out_for():
    rules = ledger(max_versions=2)
    rules.advance(3)
    (prompt,) = rules.draw(ANN, 3, 1)
    assert rules.put(ANN, scored(prompt, 0)) == "refused:stale", "though version 0 is kept"
    assert rules.counts()["queued"] == 1


def test_serving_the_same_version_again_changes_nothing():
    rules = ledger()
    rules.put(ANN, scored(rules.draw(ANN, 0, 1)[0]))
    rules.advance(0)
    assert rules.counts()["buffered"] == 1


def test_the_end_of_the_data_gives_a_short_batch_and_then_none():
    rules = ledger(size=3)
    prompts = rules.draw(ANN, 0, 100)
    assert len(prompts) == 3
    for prompt in prompts[:2]:
        rules.put(ANN, scored(prompt))
    rules.take(2)
    rules.trained(ids(prompts[:2]), 1)
    assert not rules.can_take(2)  # one is still in flight
    rules.give_back(ANN, prompts[2], "aborted", 0)
    assert not rules.can_take(2)  # and may come again
    (again,) = rules.draw(ANN, 0, 100)
    rules.put(ANN, scored(again))
    assert ids(rules.take(2) or []) == ["p:2"]
    rules.trained(["p:2"], 2)
    assert rules.take(2) is None


def test_finish_leaves_no_draw_without_a_fate():
    rules = ledger()
    prompts = rules.draw(ANN, 0, 5)
    for prompt in prompts[:3]:
        rules.put(ANN, scored(prompt))
    rules.take(2)
    rules.give_back(ANN, prompts[3], "aborted", 0)
    rules.finish()
    assert rules.fates() == {"unfinished": 5}
    assert rules.put(ANN, scored(prompts[4])) == "refused:finished"
    assert rules.draw(ANN, 0, 1) == []


# Snapshots


def test_a_snapshot_brings_everything_back_with_draws_in_flight_first():
    rules = ledger(max_deaths=2)
    rules.draw(BOB, 0, 1)
    rules.release(BOB)  # p:0 waits alone, one death
    prompts = rules.draw(WorkerId(index=1, incarnation=1), 0, 1)
    ann = rules.draw(ANN, 0, 4)
    rules.give_back(WorkerId(index=1, incarnation=1), prompts[0], "aborted", 0)
    for prompt in ann[:3]:
        rules.put(ANN, scored(prompt))
    rules.take(2)
    state = saved(rules.snapshot())

    again = Ledger(Counting(), keep_all, rules.periods)
    again.restore(state)
    assert again.counts() == {
        "drawn": 5,
        "trained": 0,
        "dropped": 0,
        "failed": 0,
        "unfinished": 0,
        "queued": 2,
        "in_flight": 0,
        "buffered": 3,
        "leased": 0,
    }
    assert ids(again.take(2) or []) == ["p:1", "p:2"]  # the leased ones lead again
    again.trained(["p:1", "p:2"], 1)
    (lonely,) = again.draw(BOB, 0, 9)  # workers begin anew; incarnation 0 is alive
    assert (lonely.id, lonely.attempt, lonely.max_in_engine) == ("p:0", 3 - 1, 1)
    again.release(BOB)
    assert again.fates() == {"failed:2 engines died under it": 1, "trained": 2}
    (restarted, new) = again.draw(ANN, 0, 2)
    assert (restarted.id, restarted.attempt, new.id) == ("p:4", 1, "p:5")


def test_a_snapshot_keeps_the_versions_and_fewer_hold_from_the_next_publication_on():
    rules = ledger(max_versions=2, surplus=1.0)
    old, *_ = rules.draw(ANN, 0, 1)
    rules.put(ANN, scored(old))
    rules.advance(3)
    state = saved(rules.snapshot())
    again = Ledger(Counting(), keep_all, rules.periods)
    again.restore(state)
    assert (again.usable, again.version) == ((0, 3), 3)
    assert again.put(ANN, scored(old)) == "refused:duplicate"
    fewer = ledger(max_versions=1)
    fewer.restore(state)
    assert fewer.counts()["buffered"] == 1
    fewer.advance(6)
    assert (fewer.usable, fewer.counts()["buffered"]) == ((6,), 0)


def test_a_snapshot_does_not_change_with_the_run():
    rules = ledger()
    first = rules.draw(ANN, 0, 2)
    state = rules.snapshot()
    before = pickle.dumps({key: value for key, value in state.items() if key != "tally"})
    rules.put(ANN, scored(first[0]))
    rules.advance(3)
    after = pickle.dumps({key: value for key, value in state.items() if key != "tally"})
    assert before == after


def test_the_next_stage_draws_on_where_the_one_before_has_ended():
    rules = ledger()
    rules.draw(ANN, 0, 3)
    rules.advance(3)
    state = saved(rules.snapshot())
    following = ledger()
    assert following.take_over(state)
    assert following.counts()["drawn"] == 0, "what was drawn before has its fate there"
    assert (following.version, following.step) == (0, 0)
    assert ids(following.draw(ANN, 0, 2)) == ["p:3", "p:4"]


def test_the_next_stage_begins_other_data_at_its_first_row():
    class Other(Counting):
        def restore(self, state):
            raise CheckpointError("the data is not that of the checkpoint")

    rules = ledger()
    rules.draw(ANN, 0, 3)
    following = Ledger(Other(), keep_all, rules.periods)
    assert not following.take_over(rules.snapshot())
    assert not following.take_over({"epoch": 1, "position": 0, "data": "of examples"})
    assert ids(following.draw(ANN, 0, 1)) == ["p:0"]


# Reports


def test_stats_report_accepted_groups_since_the_last_call():
    rules = ledger()
    first, second, third = rules.draw(ANN, 0, 3)
    rules.put(ANN, scored(first, rewards=(0.0, 1.0), length=2))
    rules.put(ANN, scored(second, rewards=(1.0, 1.0), length=6, finish_reason="length"))
    rules.take(2)
    rules.trained(["p:0", "p:1"], 2)
    stats = rules.stats()
    assert stats["reward/mean"] == pytest.approx(0.75)
    assert stats["reward/std"] == pytest.approx(np.std([0, 1, 1, 1]))
    assert stats["reward/uniform_groups"] == 0.5
    assert (stats["rollout/length_mean"], stats["rollout/length_max"]) == (4, 6)
    assert stats["rollout/truncated_rate"] == 0.5
    assert stats["test/value"] == pytest.approx(0.75)
    assert (stats["test/spread_min"], stats["test/spread_max"]) == (0.5, 1.0)
    assert stats["replay/accepted"] == 2
    rules.put(ANN, scored(third))
    for prompt in rules.draw(ANN, 0, 1):
        rules.put(ANN, scored(prompt))
    assert rules.take(2) is not None
    stats = rules.stats()
    assert (stats["replay/lag_mean"], stats["replay/lag_max"]) == (2, 2)
    assert stats["reward/mean"] == pytest.approx(0.5)
    assert "reward/mean" not in rules.stats()


# Waiting


async def test_take_wakes_when_the_last_group_arrives():
    replay = buffer()
    prompts = await replay.next_prompts(ANN, 0, 2, 1)
    assert prompts
    waiting = asyncio.create_task(replay.take(2, 5))
    await asyncio.sleep(0)
    await replay.put(ANN, [scored(prompts[0])])
    await asyncio.sleep(0)
    assert not waiting.done()
    await replay.put(ANN, [scored(prompts[1])])
    groups = await asyncio.wait_for(waiting, 1)
    assert ids(groups) == ["p:0", "p:1"]


async def test_take_says_who_is_late_for_what():
    replay = buffer()
    prompts = await replay.next_prompts(ANN, 0, 3, 1)
    assert prompts
    await replay.put(ANN, [scored(prompts[0])])
    with pytest.raises(DeadlineError) as error:
        await replay.take(2, 0.01)
    text = str(error.value)
    assert "waited 0.01 s for 2 groups of version 0" in text
    assert "1 buffered, 2 in flight (worker 0.0 has 2)" in text


async def test_while_the_learner_waits_it_can_be_told_who_is_late():
    replay = buffer()
    prompts = await replay.next_prompts(ANN, 0, 3, 1)
    assert prompts
    assert (await replay.lateness()).missing == 0, "nobody waits"
    waiting = asyncio.create_task(replay.take(2, 5))
    await asyncio.sleep(0)
    await replay.put(ANN, [scored(prompts[0])])
    late = await replay.lateness()
    assert (late.missing, late.versions, late.holders) == (1, (0,), {ANN: 2})
    await replay.put(ANN, [scored(prompts[1])])
    await waiting
    assert (await replay.lateness()).missing == 0


async def test_next_prompts_answers_empty_at_its_deadline_and_none_for_another_version():
    replay = buffer()
    assert await replay.next_prompts(BOB, 3, 1, 60) is None
    await replay.next_prompts(ANN, 0, 100, 1)
    assert await replay.next_prompts(BOB, 0, 1, 0.05) == []
    assert asyncio.get_running_loop().time() == pytest.approx(0.05)


async def test_a_waiting_worker_is_woken_by_a_returned_draw_and_by_a_synchronisation():
    replay = buffer()
    prompts = await replay.next_prompts(ANN, 0, 100, 1)
    assert prompts
    waiting = asyncio.create_task(replay.next_prompts(BOB, 0, 1, 30))
    await asyncio.sleep(0)
    await replay.give_back(ANN, prompts[0], "aborted", 0)
    assert ids(await asyncio.wait_for(waiting, 1)) == ["p:0"]
    waiting = asyncio.create_task(replay.next_prompts(BOB, 0, 1, 30))
    await asyncio.sleep(0)
    await replay.advance(3)
    assert await asyncio.wait_for(waiting, 1) is None


async def test_a_waiting_worker_that_dies_learns_it_at_once():
    replay = buffer()
    await replay.next_prompts(ANN, 0, 100, 1)
    waiting = asyncio.create_task(replay.next_prompts(BOB, 0, 1, 30))
    await asyncio.sleep(0)
    await replay.release(BOB)
    with pytest.raises(StaleError):
        await asyncio.wait_for(waiting, 1)


@pytest.mark.parametrize("first", ["draw", "deadline"])
async def test_no_draw_is_lost_when_a_deadline_strikes_as_it_returns(first: str):
    replay = buffer(capacity=2)
    (prompt, _) = await replay.next_prompts(ANN, 0, 2, 1) or []
    waiting = asyncio.create_task(replay.next_prompts(BOB, 0, 2, 0.005))
    await asyncio.sleep(0)
    if first == "deadline":
        await asyncio.sleep(0.005)
    await replay.give_back(ANN, prompt, "aborted", 0)
    asyncio.get_running_loop().leap(0.01)  # so that both are due in the loop's next turn
    got = await waiting or []
    counts = await replay.counts()
    assert (counts["queued"], counts["in_flight"]) == (1 - len(got), 1 + len(got))
    assert first == "deadline" or got


async def test_the_end_of_the_data_wakes_the_learner():
    replay = buffer(size=1)
    waiting = asyncio.create_task(replay.take(2, 30))
    prompts = await replay.next_prompts(ANN, 0, 5, 1)
    assert prompts
    await replay.fail(ANN, prompts[0], "broken", 0)
    assert await replay.next_prompts(ANN, 0, 5, 0.01) == []
    assert await asyncio.wait_for(waiting, 1) is None


async def test_take_ends_at_once_with_the_cause_when_every_draw_fails():
    replay = buffer(max_steps=99, interval=99)
    waiting = asyncio.create_task(replay.take(2, 600))
    for prompt in await replay.next_prompts(ANN, 0, 8, 1):
        await replay.fail(ANN, prompt, "no reference answer", 0)
    with pytest.raises(DrawsError, match=r"the first: no reference answer; mend that"):
        await asyncio.wait_for(waiting, 1)
    assert await replay.first_failure() == "no reference answer"


async def test_a_wait_for_a_batch_tells_of_failures():
    replay = buffer()
    (prompt,) = await replay.next_prompts(ANN, 0, 1, 1)
    await replay.fail(ANN, prompt, "broken", 0)
    with pytest.raises(DeadlineError, match=r"1 failed \(the first: broken\); if generation"):
        await replay.take(2, 0.01)


async def test_workers_that_wait_at_the_end_of_the_data_do_not_wake_each_other():
    replay = buffer(size=0)
    asked = 0
    draw = replay._ledger.draw

    def counted(*arguments: object) -> list[Prompt]:
        nonlocal asked
        asked += 1
        return draw(*arguments)  # type: ignore[arg-type]

    replay._ledger.draw = counted  # type: ignore[assignment,method-assign]
    await asyncio.gather(*(replay.next_prompts(worker, 0, 1, 0.05) for worker in (ANN, BOB)))
    assert asked <= 4
