"""The event model: cases worked by hand, and the runs of real actors that were recorded."""

import dataclasses
import itertools
import time

import numpy as np
import pytest

from oapl.planning.forecast import forecast
from oapl.planning.lengths import Lognormal, Table, drawn, duration, stored
from oapl.planning.publication import seconds
from oapl.planning.rates import ASSUMED, FIELDS, GIVEN, Rate, Rates
from oapl.planning.search import best
from oapl.planning.setting import Setting
from oapl.planning.simulation import simulate
from oapl.planning.task import Task
from tests.overlap import model, sweep

POINTS = 0.02
"""What README says of the recorded runs; the bar of `make overlap` is 0.03."""
CELLS = sweep.made(sweep.CELLS)

ONE = Table(np.ones((4, 1)))
"""Groups of one rollout of one token."""


def rates(**given: float) -> Rates:
    """Round numbers, each of them an assumption unless it is given."""
    values = dict.fromkeys(FIELDS, 1e12) | {
        "learner_tokens_per_s": 10_000.0,
        "step_s": 1.0,
        "between_s": 0.0,
        "engine_tokens_per_s": 5_000.0,
        "engine_rollouts": 128.0,
        "alone": 4.0,
        "prompt_tokens": 100.0,
        "kept": 1.0,
        "judge_s": 0.001,
    }
    known = {name: Rate(value, GIVEN) for name, value in given.items()}
    return Rates(**{name: Rate(value, ASSUMED) for name, value in values.items()} | known)


TASK = Task(
    interval=40,
    max_steps=1000,
    groups_per_step=16,
    group_size=8,
    phases=((1000, 16),),
    groups_per_engine=32,
    engines=4,
    ranks=4,
    devices=8,
    judges=8,
)
LENGTHS = drawn(4000, 0.6, 16_000, 8)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"L{cell.interval}-{cell.surplus:g}")
def test_the_model_agrees_with_the_runs_of_real_actors_that_were_recorded(cell):
    """With the messages that the run measured; idle times, tokens thrown away, lags."""
    step = 1 / (1 - cell.measured.learner)
    found = model.simulate(cell.setting, cell.steps, between=cell.measured.between * step)
    for name in ("learner", "engine", "wasted"):
        assert getattr(found, name) == pytest.approx(getattr(cell.measured, name), abs=POINTS), name
    assert found.mean_lag == pytest.approx(cell.measured.mean_lag, abs=0.5)
    assert found.largest_lag == cell.measured.largest_lag


@pytest.mark.parametrize("cell", [c for c in CELLS if c.interval <= 50], ids=lambda c: c.interval)
def test_what_was_simulated_before_the_model_moved_is_what_it_simulates(cell):
    found = dataclasses.asdict(model.simulate(cell.setting, cell.steps))
    assert found == pytest.approx(dataclasses.asdict(cell.simulated), abs=1e-9)


def test_one_slot_and_one_group_a_step_take_turns():
    """Generate 1, train 1: at L = 1 each side waits for the other half of the time. At L = 2 a
    period is generate, both, train."""
    by_hand = {1: 1 / 2, 2: 1 / 3}
    for interval, idle in by_hand.items():
        found = simulate(Setting(interval=interval, groups_per_step=1, slots=1), ONE, 20 * interval)
        assert (found.learner, found.engine) == (pytest.approx(idle), pytest.approx(idle))
        assert found.largest_lag == interval - 1
        assert found.mean_lag == (interval - 1) / 2


def test_a_lead_lets_the_next_period_begin_while_this_one_is_trained():
    """At L = 2 with a lead of 1: while the last step trains the next version's first group is
    made, so neither waits any more; a period's steps are of a version one or two steps old."""
    found = simulate(Setting(interval=2, groups_per_step=1, slots=1, max_lead=1), ONE, 40)
    assert found.learner == pytest.approx(0.0, abs=1e-9)
    assert (
        found.largest_lag
        == 2
        == Setting(interval=2, groups_per_step=1, slots=1, max_lead=1).largest_lag
    )


MOVED = {  # m, L: idle share of the learner and of the engines, all waiting and with the move
    (5, 50): ((0.18, 0.22), (0.04, 0.08)),
    (5, 100): ((0.08, 0.13), (0.01, 0.04)),
    (20, 100): ((0.35, 0.38), (0.14, 0.16)),
    (20, 400): ((0.08, 0.12), (0.03, 0.04)),
}
"""Of another event simulation, written before this one: 8 engines, each with slots of its own."""


@pytest.mark.parametrize(("mean", "interval"), MOVED)
def test_moved_stragglers_let_the_other_engines_go_on_as_another_simulation_had_it(mean, interval):
    for moves, (learner, engine) in zip((False, True), MOVED[mean, interval], strict=True):
        setting = Setting(
            interval=interval,
            groups_per_step=16,
            slots=round(1.05 * 16 * mean),
            max_lead=interval,
            engines=8,
            moves=moves,
        )
        found = simulate(setting, Lognormal(mean), 1200)
        assert found.learner == pytest.approx(learner, abs=0.025)
        assert found.engine == pytest.approx(engine, abs=0.025)
        assert found.wasted == 0
        assert found.largest_lag <= setting.largest_lag


class EveryThirdIsLong:
    """Groups of 1, 1 and 8."""

    def group(self, draw: int, attempt: int) -> tuple[float, float]:
        long = 1.0 if draw % 3 else 8.0
        return long, long

    def made(self, draw: int, attempt: int, progress: float) -> float:
        return progress


def test_the_last_group_of_a_period_is_moved_while_the_next_period_begins():
    """L = 3, a group a step, two engines of one slot. All waiting: a period makes two short ones,
    then waits 8 for the long one: 9 for 3 steps. With the move the other engine makes the next
    two, and begins the next long one as soon as it is alone: two periods in 8 + 3."""

    def idle(engines: int, *, moves: bool) -> float:
        setting = Setting(
            interval=3, groups_per_step=1, slots=2, max_lead=3, engines=engines, moves=moves
        )
        found = simulate(setting, EveryThirdIsLong(), 183)
        assert found.largest_lag <= setting.largest_lag
        return found.learner

    assert idle(2, moves=False) == pytest.approx(1 - 3 / 9)
    assert idle(2, moves=True) == pytest.approx(1 - 6 / 11, abs=0.01)
    assert idle(1, moves=True) == idle(1, moves=False)  # it is alone: nobody else goes on


def test_an_engine_with_the_last_groups_makes_up_for_what_a_filter_drops():
    """A third is dropped, and a publication takes a tenth of a step; nothing waits for ever."""
    setting = Setting(
        interval=40,
        groups_per_step=16,
        slots=190,
        max_lead=40,
        engines=8,
        kept=0.7,
        publish=0.1,
        full=190,
        fixed=0.8,
    )
    waited = simulate(setting, Lognormal(8.0), 400)
    moved = simulate(dataclasses.replace(setting, moves=True), Lognormal(8.0), 400)
    assert moved.elapsed < 0.95 * waited.elapsed
    assert moved.engine < waited.engine - 0.05


def test_the_search_moves_stragglers_where_that_ends_a_run_soonest():
    """Answers of 16,000 tokens at L = 40: the ends of periods take a tenth of the time."""
    task = dataclasses.replace(
        TASK, engines=8, devices=12, max_steps=400, phases=((400, 16),), max_lead=39
    )
    found = best(task, rates(), drawn(16_000, 0.6, 64_000, 8), max_lag=79)
    assert found is not None
    assert found.task.moves
    assert found.found.wasted == 0
    assert found.found.hours < 0.95 * forecast(task, rates(), drawn(16_000, 0.6, 64_000, 8)).hours


def test_publications_and_messages_are_told_apart_from_waits():
    """Per step at L = 1: generate 1, train 1, 0.5 messages, 0.25 publication."""
    setting = Setting(interval=1, groups_per_step=1, slots=1, between=0.5, publish=0.25)
    found = simulate(setting, ONE, 20)
    assert found.learner == pytest.approx(1.75 / 2.75)
    assert found.between == pytest.approx(0.75 / 2.75)
    assert found.engine == pytest.approx(1.75 / 2.75)


def test_rollouts_are_slower_in_company_as_the_speed_says():
    """Two groups of one token at a time, full at two, half of the time per token fixed: each takes
    1 in company and 0.75 alone, so that a step of two groups in one slot waits 1.5, in two 1."""
    for slots, made in ((1, 1.5), (2, 1.0)):
        setting = Setting(interval=1, groups_per_step=2, slots=slots, full=2, fixed=0.5)
        found = simulate(setting, ONE, 20)
        assert found.learner == pytest.approx(made / (made + 1))


def test_engines_that_are_given_more_than_fills_them_make_no_more():
    setting = Setting(interval=1, groups_per_step=8, slots=8, full=2, fixed=0.5)
    assert setting.speed(8) * 8 == pytest.approx(setting.speed(2) * 2)


def test_a_group_lasts_as_long_as_its_longest_rollout_and_its_tokens_count():
    """Rollouts of 1 and 3 tokens: a period of one take is 3 of generation, then 4 tokens to train
    at 0.5 and 2 of prompts."""
    table = Table(np.array([[1.0, 3.0]]))
    setting = Setting(
        interval=1, groups_per_step=1, slots=1, step=0.0, token_time=0.5, prompt_work=2.0
    )
    assert simulate(setting, table, 10).learner == pytest.approx(3 / (3 + 3))


def test_what_is_thrown_away_are_the_tokens_made_so_far():
    """A surplus of one group beside one that is needed: both end together, one is not used."""
    assert Table(np.array([[2.0, 6.0]])).made(1, 0, 3.0) == 2.0 + 3.0
    setting = Setting(interval=1, groups_per_step=1, slots=2, surplus=1.0, step=1e-9)
    found = simulate(setting, Table(np.array([[1.0, 1.0]])), 50)
    assert found.wasted == pytest.approx(0.5, abs=0.01)


def test_a_filter_makes_engines_work_more_for_the_same_steps():
    def run(kept: float) -> float:
        setting = Setting(interval=40, groups_per_step=16, slots=16, kept=kept)
        return simulate(setting, Lognormal(1.0), 400).elapsed

    assert run(0.5) / run(1.0) == pytest.approx(2.0, rel=0.1)


def test_the_capacity_bounds_what_is_buffered_and_in_flight():
    """Groups of eight steps, of which a step needs one: with two at a time the learner has one
    every four steps."""

    def idle(capacity: int) -> float:
        setting = Setting(interval=50, groups_per_step=1, slots=32, capacity=capacity)
        return simulate(setting, Lognormal(8.0), 400).learner

    assert idle(2) > 0.6
    assert idle(0) == idle(10_000) < 0.3


def test_a_take_trains_on_its_history_too_and_as_often_as_it_is_used():
    """One group of two is made, 3 long; both, of 4 tokens and 2 of prompts, are used twice: 3 of
    generation, 2 x 2 x 6 x 0.5 of training."""
    setting = Setting(
        interval=2,
        groups_per_step=2,
        slots=1,
        fresh_per_take=1,
        updates_per_batch=2,
        step=0.0,
        token_time=0.5,
        prompt_work=2.0,
    )
    found = simulate(setting, Table(np.array([[1.0, 3.0]])), 20)
    assert found.learner == pytest.approx(3 / 15)
    assert (found.largest_lag, found.mean_lag) == (1, 0.5)


def test_more_engines_never_make_the_learner_wait_more():
    waits = [
        forecast(dataclasses.replace(TASK, engines=engines), rates(), LENGTHS).waits
        for engines in (1, 2, 4, 8, 16, 64, 1024)
    ]
    assert waits[0] > 0.8
    assert all(b <= a + 0.002 for a, b in itertools.pairwise(waits)), waits


def test_the_shortest_period_is_the_worst():
    hours = [
        forecast(dataclasses.replace(TASK, interval=interval), rates(), LENGTHS).hours
        for interval in (1, 2, 5, 20, 100, 500)
    ]
    assert hours == sorted(hours, reverse=True)


def test_a_forecast_depends_on_the_seed_alone():
    task = dataclasses.replace(TASK, surplus=0.1)
    same = [forecast(task, rates(), drawn(4000, 0.6, 16_000, 8, seed=3)) for _ in range(2)]
    other = forecast(task, rates(), drawn(4000, 0.6, 16_000, 8, seed=4))
    assert same[0] == same[1] != other
    assert other.hours == pytest.approx(same[0].hours, rel=0.03)


def test_a_run_at_a_fraction_of_its_size_idles_as_the_whole():
    large = dataclasses.replace(
        TASK, groups_per_step=256, engines=64, ranks=64, phases=((400, 256),)
    )
    large = dataclasses.replace(large, max_steps=400)
    whole, part = (forecast(large, rates(), LENGTHS, groups=n) for n in (10**9, 6_000))
    assert (whole.scale, part.scale > 4) == (1, True)
    for name in ("waits", "engine_idle", "wasted"):
        assert getattr(part, name) == pytest.approx(getattr(whole, name), abs=POINTS), name
    assert part.hours == pytest.approx(whole.hours, rel=0.05)


def test_hours_are_those_of_all_steps():
    """The learner alone needs 16 x 8 x (4000 + 100) / 40,000 + 1 s; it never waits for 64 engines
    but for the first groups of a period."""
    found = forecast(dataclasses.replace(TASK, engines=64, interval=500), rates(), LENGTHS)
    assert found.learner_s == pytest.approx(1 + 128 * (LENGTHS.mean + 100) / 40_000, rel=1e-3)
    assert found.hours == pytest.approx(1000 * found.learner_s / 3600, rel=0.05)
    assert found.device_hours == pytest.approx(8 * found.hours)
    assert found.bottleneck.startswith("The learner")


def test_phases_with_history_make_fewer_groups():
    mixed = dataclasses.replace(TASK, phases=((500, 8), (500, 16)))
    part, whole = (forecast(one, rates(), LENGTHS) for one in (mixed, TASK))
    assert part.engines_s == pytest.approx(0.75 * whole.engines_s)
    assert part.learner_s == whole.learner_s


def test_rewards_and_replay_slow_a_run_that_brings_them_too_much():
    free, held = (forecast(TASK, rates(judge_s=judge), LENGTHS) for judge in (0.001, 10.0))
    assert free.reward_load < 1 < held.reward_load
    assert held.hours == pytest.approx(free.hours * held.reward_load)
    assert held.bottleneck.startswith("The reward servers: ")
    full = forecast(TASK, rates(replay_tokens_per_s=1000.0), LENGTHS)
    assert full.bottleneck.startswith("The replay buffer: ")


@pytest.mark.parametrize(
    ("change", "given", "begins"),
    [
        ({"engines": 1}, {}, "The engines: "),
        ({"engines": 64, "interval": 500}, {}, "The learner: "),
        ({"engines": 64, "interval": 2}, {}, "The ends of periods: "),
        ({"engines": 64, "capacity": 64}, {}, "The replay buffer's capacity: its 64 groups"),
        ({"publication_bytes": 1e10, "interval": 2}, {"host_bytes_per_s": 1e7}, "Publications: "),
    ],
)
def test_the_sentence_names_what_holds_the_run_up(change, given, begins):
    found = forecast(dataclasses.replace(TASK, **change), rates(**given), LENGTHS)
    assert found.bottleneck.startswith(begins)


def test_publications_by_transport_worked_by_hand():
    """8 bytes, 2 a second in hosts, 1 between them, 4 of the disk; 24 engines are on 3 hosts."""
    known = rates(host_bytes_per_s=2.0, network_bytes_per_s=1.0, disk_bytes_per_s=4.0)
    task = dataclasses.replace(TASK, publication_bytes=8.0, engines=24)
    assert seconds(task, known, "object_store") == 4 + 2 * 8
    assert seconds(task, known, "collective") == 4 + 8
    assert seconds(task, known, "disk") == 4 + 8 * (1 + 3) / 4
    one_host = dataclasses.replace(task, engines=4)
    assert seconds(one_host, known, "object_store") == seconds(one_host, known, "local") == 4


def test_stored_rollouts_are_made_first_by_all_devices():
    task = dataclasses.replace(TASK, engines=0, answers=6400, devices_per_engine=2.0)
    found = forecast(task, rates(), LENGTHS)
    assert found.hours == pytest.approx(1000 * found.learner_s / 3600)
    full_s = 6400 * LENGTHS.mean / (4 * 5000)
    assert 1.0 <= found.making_hours * 3600 / full_s < 1.3
    assert forecast(dataclasses.replace(task, answers=0), rates(), LENGTHS).making_hours == 0.0


def test_the_search_stays_within_the_bound_and_ends_sooner():
    task = dataclasses.replace(TASK, engines=2, devices=32)
    found = best(task, rates(), LENGTHS, max_lag=59)
    assert found is not None
    chosen = found.task
    assert chosen.interval - 1 + min(chosen.max_lead, chosen.interval) <= 59
    assert chosen.held <= 32
    assert found.found.largest_lag <= 59
    assert found.found.hours < 0.5 * forecast(task, rates(), LENGTHS).hours
    none = best(task, rates(), LENGTHS, max_lag=59, allows=lambda one: False)
    assert none is None
    few = best(task, rates(), LENGTHS, max_lag=59, allows=lambda one: one.ranks == 4)
    assert few is not None
    assert few.task.ranks == 4


def test_the_search_changes_nothing_where_nothing_is_gained():
    """Judges bound the run: the recipe itself ends as soon as all others, at the lag of L = 1."""
    task = dataclasses.replace(TASK, interval=1)
    found = best(task, rates(judge_s=10.0), LENGTHS, max_lag=0)
    assert found is not None
    assert found.task == task


def test_devices_may_be_shared():
    task = dataclasses.replace(
        TASK, engines=1, ranks=1, devices=1, devices_per_engine=0.45, devices_per_rank=0.55
    )
    found = best(task, rates(), LENGTHS, max_lag=99)
    assert found is not None
    assert (found.task.engines, found.task.ranks) == (1, 1)
    assert found.tried > 5


def test_the_search_leaves_what_belongs_to_the_objective():
    task = dataclasses.replace(TASK, devices=32, is_bound=True, interval=2)
    found = best(task, rates(), LENGTHS, max_lag=100)
    assert found is not None
    assert (found.task.interval, found.task.surplus, found.task.max_lead) == (2, 0.0, 0)
    assert found.task.engines > 4


def test_a_thousand_engines_are_searched_within_half_a_minute():
    task = dataclasses.replace(
        TASK, engines=1024, ranks=256, devices=1280, groups_per_step=2048, phases=((1000, 2048),)
    )
    started = time.process_time()
    found = best(task, rates(), LENGTHS, max_lag=99)
    assert found is not None
    assert found.tried > 10
    assert time.process_time() - started < 30


def test_lengths_that_are_drawn_have_the_mean_that_was_asked_for():
    for mean in (100.0, 4000.0, 15_000.0):
        table = drawn(mean, 0.6, 16_000, 8)
        assert table.mean == pytest.approx(mean, rel=0.01)
        assert table.rows.max() <= 16_000
    assert (drawn(4000, 0.6, 16_000, 8, seed=1).rows != LENGTHS.rows).any()


def test_another_attempt_draws_from_the_same_prompt():
    table = Table(np.array([[1.0, 2.0], [100.0, 200.0]]))
    for draw in (1, 2):
        first, _ = table.group(draw, 0)
        later = [table.group(draw, attempt)[0] for attempt in range(1, 20)]
        assert all((one > 50) == (first > 50) for one in later)
        assert later == [table.group(draw, attempt)[0] for attempt in range(1, 20)]


def test_stored_groups_of_another_size_are_drawn_from():
    table = stored([[5, 7], [], [1, 2, 3]], 3)
    assert table.size == 3
    assert set(table.rows[0]) <= {5.0, 7.0}
    assert table.rows[1].tolist() == [1.0, 2.0, 3.0]


def test_rates_that_nobody_gave_stay_assumptions():
    known = rates(step_s=2.0).updated({"alone": Rate(3.0, "measured", "a run")})
    assert set(FIELDS) - set(known.assumed()) == {"step_s", "alone"}


def test_durations_are_those_that_real_actors_waited():
    assert duration(5.0, 1, 0) == pytest.approx(4.442505506020354)
    assert duration(5.0, 2, 1, 7) == pytest.approx(3.782880959585868)
    assert Lognormal(1.0).group(77, 0) == (pytest.approx(0.6860398127426854),) * 2
