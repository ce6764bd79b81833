"""No two engines, builds, restarts or resumptions draw with one seed; each stays the same."""

from itertools import islice

from actors.engines.base import BUILDS, engine_seeds


def seeds(run_seed: int = 0, **place: int) -> list[int]:
    return list(
        islice(engine_seeds(run_seed, **{"index": 0, "incarnation": 0, "step": 0} | place), 3)
    )


def test_seeds_differ_by_all_that_makes_an_engine():
    places = [{}, {"index": 1}, {"incarnation": 1}, {"step": 50}, {"step": 51}, {"run_seed": 1}]
    found = [seed for place in places for seed in seeds(**place)]
    assert len(set(found)) == len(found)
    assert found == [seed for place in places for seed in seeds(**place)]


def test_a_rebuilt_engine_does_not_reach_its_successors_seeds():
    first = list(islice(engine_seeds(0, index=0, incarnation=0, step=7), BUILDS))
    assert seeds(incarnation=1, step=7)[0] not in first
