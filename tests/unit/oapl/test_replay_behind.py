"""A period's last groups moved to few engines: who stays, what is handed over, what is lost."""

import random
from collections import Counter

import pytest

from oapl.records import Judgement, Prompt, Unfinished, WorkerId
from oapl.replay.ledger import Ledger
from oapl.stragglers import behind
from tests.support.replaying import (
    Counting,
    drop_uniform,
    ids,
    keep_all,
    ledger,
    needs,
    rollout,
    saved,
    scored,
)

WORKERS = tuple(WorkerId(index=index) for index in range(4))
ANN, BOB, CAT, DAN = WORKERS
MOVES = {"engines": 4, "groups_per_engine": 4}
JUDGED = Judgement(reward=1.0, verdicts={})


def unfinished(prompt: Prompt, version: int = 0, tokens: int = 5) -> Unfinished:
    """One rollout has ended and is judged, the other was cut off."""
    return Unfinished(
        prompt=prompt,
        rollouts=(rollout(version), rollout(version, tokens, "abort")),
        judgements=(JUDGED, None),
        seconds=1.0,
    )


def led(credit=keep_all, fates=None, **options) -> tuple[Ledger, list[Prompt]]:
    """L = 3, two groups a step, one step made; of the four groups that are left the second step has
    its two, Ann makes two more and Bob none of them: she stays behind with `p:4` and `p:5`."""
    rules = ledger(credit=credit, fates=fates, **MOVES, **options)
    prompts = [*rules.draw(ANN, 0, 2), *rules.draw(BOB, 0, 2), *rules.draw(ANN, 0, 2)]
    for prompt, worker in zip(prompts[:4], (ANN, ANN, BOB, BOB), strict=True):
        rules.put(worker, scored(prompt))
    rules.trained(ids(rules.take(2)), 1)
    assert rules.lead(1, 3)
    return rules, prompts[4:]


def test_few_engines_stay_and_one_that_is_alone_does_not():
    assert behind(4, 4, 4) == 1
    assert behind(5, 4, 4) == 0, "they do not fit on one of four"
    assert behind(5, 16, 4) == 2
    assert behind(1, 1, 4) == 0
    assert behind(1, 0, 4) == 0, "nobody may"


def test_a_period_with_too_many_groups_to_come_is_not_led():
    rules = ledger(engines=4, groups_per_engine=3)
    prompts = rules.draw(ANN, 0, 6)
    for prompt in prompts[:2]:
        rules.put(ANN, scored(prompt))
    rules.trained(ids(rules.take(2)), 1)
    assert not rules.may_lead(3)
    assert not rules.lead(1, 3)
    rules.put(ANN, scored(prompts[2]))
    assert rules.may_lead(3)


def test_without_the_setting_nobody_stays_behind():
    rules = ledger()
    prompts = rules.draw(ANN, 0, 6)
    for prompt in prompts[:5]:
        rules.put(ANN, scored(prompt))
    rules.trained(ids(rules.take(2)), 1)
    assert not rules.may_lead(3)


def test_who_holds_most_of_the_last_groups_stays_behind():
    rules = ledger(**MOVES)
    mine, yours = rules.draw(ANN, 0, 3), rules.draw(BOB, 0, 3)
    for worker, prompt in ((ANN, mine[0]), (ANN, mine[1]), (BOB, yours[0])):
        rules.put(worker, scored(prompt))
    rules.trained(ids(rules.take(2)), 1)
    assert rules.lead(1, 3)
    assert [rules.stays(worker) for worker in WORKERS] == [False, True, False, False]
    assert (rules.serves(BOB, 0), rules.serves(ANN, 0), rules.serves(ANN, 1)) == (True, False, True)
    assert rules.usable == (0, 1)


def test_a_group_handed_over_goes_on_with_the_one_behind_and_trains_in_its_period():
    fates = []
    rules = ledger(fates=fates, **MOVES)
    mine, yours = rules.draw(ANN, 0, 3), rules.draw(BOB, 0, 3)
    for worker, prompt in ((ANN, mine[0]), (ANN, mine[1]), (BOB, yours[0])):
        rules.put(worker, scored(prompt))
    rules.trained(ids(rules.take(2)), 1)
    rules.lead(1, 3)
    rules.hand_over(ANN, unfinished(mine[2]))
    counts = rules.counts()
    assert (counts["in_flight"], counts["queued"]) == (2, 1)
    assert rules.draw(CAT, 0, 9) == [], "it does not stay behind"
    (moved,) = rules.draw(BOB, 0, 9)
    assert isinstance(moved, Unfinished)
    assert moved.prompt == mine[2], "the same attempt of the same draw"
    assert moved.judgements == (JUDGED, None)
    assert rules.draw(BOB, 0, 9) == [], "nothing else is missing"
    assert rules.put(ANN, scored(mine[2])) == "refused:unknown", "it is Bob's now"
    ahead = rules.draw(ANN, 1, 99)
    assert len(ahead) == 6, "the whole next period"
    assert rules.put(ANN, scored(ahead[0], 1)) == "kept"
    assert rules.put(BOB, scored(moved.prompt)) == "kept"
    for prompt in yours[1:]:
        assert rules.put(BOB, scored(prompt)) == "kept"
    assert not rules.stays(BOB)
    assert not rules.serves(BOB, 0), "the last one has come: it may load"
    for step in (2, 3):
        groups = rules.take(2)
        assert {group.scored.group.version for group in groups} == {0}
        rules.trained(ids(groups), step)
    stats = rules.stats()
    assert (stats["replay/moves"], stats["replay/moved_groups"]) == (1, 1)
    assert stats["replay/moved_tokens"] == 5
    assert stats["replay/wasted_tokens"] == 0
    assert Counter(fate.kind for fate in fates) == {"trained": 6}


def test_what_is_handed_over_with_nobody_behind_begins_anew():
    rules, (_, last) = led()
    rules.leave(ANN)  # her wait was over before the group was
    rules.hand_over(ANN, unfinished(last))
    (again, *_) = rules.draw(BOB, 1, 99)
    assert (again.id, again.attempt) == (last.id, 1)
    assert rules.stats()["replay/returned/aborted"] == 1


def test_who_asks_under_the_served_version_is_behind_no_longer():
    rules, _ = led()
    assert rules.stays(ANN)
    assert rules.draw(ANN, 1, 1)
    assert not rules.stays(ANN)


def test_a_suspect_is_not_moved_among_others():
    rules, _ = led()
    rules.release(DAN)
    suspect = Prompt(**{**_fields(rules.draw(BOB, 1, 1)[0]), "max_in_engine": 1})
    rules.hand_over(BOB, unfinished(suspect, 1))
    assert rules.counts()["in_flight"] == 2


def _fields(prompt: Prompt) -> dict:
    names = ("id", "text", "token_ids", "verifiers", "reference", "source", "attempt")
    return {name: getattr(prompt, name) for name in names}


@pytest.mark.parametrize("end", ["release", "leave"])
def test_a_period_whose_last_groups_are_lost_takes_some_of_the_next_version(end):
    """The one behind dies, or loads since its time is over: two groups of version 1 fill in, each
    of one version; the next period makes as many more, and each draw has its place."""
    rules, lost = led()
    ahead = rules.draw(BOB, 1, 99)
    for prompt in ahead[:3]:
        rules.put(BOB, scored(prompt, 1))
    getattr(rules, end)(ANN)
    if end == "leave":  # the load cuts them off
        for prompt in lost:
            rules.hand_over(ANN, unfinished(prompt))
    assert rules.counts()["buffered"] == 2 + 3
    assert rules.stats()["replay/filled_groups"] == 2
    groups = rules.take(2)
    rules.trained(ids(groups), 2)
    groups = rules.take(2)
    assert [group.scored.group.version for group in groups] == [1, 1]
    assert ids(groups) == ids(ahead[:2])
    rules.trained(ids(groups), 3)
    more = rules.draw(CAT, 1, 99) + rules.draw(DAN, 1, 99)  # after a death each goes alone
    assert len(more) == 2, "1 there, 3 in flight, 2 more of the 6 that the period wants"
    assert set(ids(more)) == set(ids(lost))
    rules.counts()


def test_groups_that_come_after_the_last_ones_were_lost_fill_in_first():
    rules, lost = led()
    rules.leave(ANN)
    for prompt in lost:
        rules.hand_over(ANN, unfinished(prompt))
    (first, *rest) = rules.draw(BOB, 1, 99)
    assert len(rest) == 7
    assert rules.need() == 0, "6 of the next period and 2 of this one are in flight"
    assert rules.put(BOB, scored(first, 1)) == "kept"
    assert rules.stats()["replay/filled_groups"] == 1
    assert len(rules.snapshot()["buffer"]) == 3


def test_what_the_filter_drops_is_made_up_for_by_the_one_behind():
    rules, (one, other) = led(credit=drop_uniform)
    assert rules.put(ANN, scored(one, rewards=(1.0, 1.0))) == "dropped:uniform"
    assert rules.stays(ANN)
    (more,) = rules.draw(ANN, 0, 9)
    assert rules.put(ANN, scored(more)) == "kept"
    assert rules.put(ANN, scored(other)) == "kept"
    assert not rules.stays(ANN)


def test_a_snapshot_while_one_is_behind_loses_no_draw():
    rules, lost = led()
    rules.hand_over(ANN, unfinished(lost[0]))  # she alone is behind: it begins anew
    again = saved(rules)
    assert again.counts()["drawn"] == rules.counts()["drawn"]
    assert again.usable == (1,)
    ahead = again.draw(BOB, 1, 99)
    assert len(ahead) == 6 + 2
    assert set(ids(lost)) <= set(ids(ahead))
    for prompt in ahead[:2]:
        again.put(BOB, scored(prompt, 1))
    assert again.stats()["replay/filled_groups"] == 2


def test_a_surplus_that_is_behind_is_taken_back_when_the_period_has_its_groups():
    rules = ledger(surplus=0.3, **MOVES)  # 8 draws for 6 groups
    prompts = rules.draw(ANN, 0, 8)
    for prompt in prompts[:4]:
        rules.put(ANN, scored(prompt))
    rules.trained(ids(rules.take(2)), 1)
    assert rules.lead(1, 3)
    for prompt in prompts[4:6]:
        rules.put(ANN, scored(prompt))
    assert not rules.serves(ANN, 0)
    assert rules.stats()["rollout/aborted_groups"] == 2
    assert ids(rules.draw(BOB, 1, 2)) == ids(prompts[6:])


class Walk:
    """Workers, a learner and chance: every rule of the ledger is asked, whatever happens when."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.fates = []
        options = {"interval": 4, "max_steps": 24, "engines": 4, "groups_per_engine": 3}
        surplus = self.chance.choice((0.0, 0.0, 0.3))
        self.rules = Ledger(
            Counting(), keep_all, needs(**options, surplus=surplus), self.fates.append
        )
        self.holds = dict.fromkeys(WORKERS, 0)  # the version of each
        self.flights = {worker: {} for worker in WORKERS}
        self.leased = []

    def run(self) -> Ledger:
        while self.rules.step < 24:
            act = self.chance.choices(
                (self.draw, self.put, self.load, self.learn, self.die), (4, 6, 3, 4, 0.15)
            )
            act[0]()
            self.rules.counts()
        self.rules.finish()
        return self.rules

    def draw(self) -> None:
        worker = self.chance.choice(list(self.holds))
        room = 3 - len(self.flights[worker])
        if room > 0:
            for one in self.rules.draw(worker, self.holds[worker], room):
                prompt = one.prompt if isinstance(one, Unfinished) else one
                self.flights[worker][prompt.id] = prompt

    def put(self) -> None:
        worker = self.chance.choice(list(self.holds))
        if self.flights[worker]:
            id = self.chance.choice(list(self.flights[worker]))
            prompt = self.flights[worker].pop(id)
            if self.chance.random() < 0.1:
                self.rules.give_back(worker, prompt, "engine_failed", 1)
            else:
                self.rules.put(worker, scored(prompt, self.holds[worker]))

    def load(self) -> None:
        worker = self.chance.choice(list(self.holds))
        version = self.holds[worker]
        if version == self.rules.version:
            return
        if self.rules.stays(worker):
            if self.chance.random() < 0.9:
                return
            self.rules.leave(worker)  # its time is over
        for prompt in self.flights[worker].values():
            self.rules.hand_over(worker, unfinished(prompt, version))
        self.flights[worker] = {}
        self.holds[worker] = self.rules.version

    def learn(self) -> None:
        rules = self.rules
        if self.leased:
            rules.trained(ids(self.leased), rules.step + 1)
            self.leased = []
            if rules.step % 4 == 0 and rules.step < 24 and rules.begin < rules.step:
                rules.advance(rules.step)
            return
        following = (rules.step // 4 + 1) * 4
        if rules.can_take(2):
            self.leased = rules.take(2)
        if following < 24 and rules.begin <= rules.step:
            rules.lead(rules.step, following)

    def die(self) -> None:
        worker = self.chance.choice(list(self.holds))
        self.rules.release(worker)
        del self.holds[worker], self.flights[worker]
        after = WorkerId(index=worker.index, incarnation=worker.incarnation + 1)
        self.holds[after], self.flights[after] = self.rules.version, {}


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_whatever_happens_when_no_draw_is_lost_and_each_has_one_fate(first):
    moves = filled = 0.0
    for seed in range(first, first + 50):
        walk = Walk(seed)
        rules = walk.run()
        assert len({fate.id for fate in walk.fates}) == len(walk.fates) == rules.counts()["drawn"]
        kinds = Counter(fate.kind for fate in walk.fates)
        assert kinds["trained"] == 48
        stats = rules.stats()
        assert stats["replay/lag_max"] <= 4 - 1 + 4
        moves += stats.get("replay/moved_groups", 0)
        filled += stats.get("replay/filled_groups", 0)
    assert moves > 20
    assert filled > 5
