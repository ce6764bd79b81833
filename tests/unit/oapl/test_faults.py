"""The first fault of each kind is told in words."""

import pytest

from oapl.tracking.faults import FAULTS, TOLD_WHERE_MET, UNDER_OTHER_NAMES, FirstFaults
from oapl.tracking.names import METRICS, describe
from tests.unit.oapl.test_metric_names import VALUE, written


def test_each_kind_is_told_once_and_what_is_told_where_it_is_met_never():
    faults = FirstFaults()
    first = {"faults/skipped_steps": 1.0, "faults/worker_restarts": 2.0, "faults/engine": 0.0}
    (line,) = faults.lines({**first, "reward/mean": 1.0})
    assert line == (
        "fault: faults/skipped_steps = 1, learner steps left out for a non-finite loss or "
        "gradient; told once, the metric counts all"
    )
    (line,) = faults.lines({"faults/skipped_steps": 1.0, "faults/engine": 3.0})
    assert line.startswith("fault: faults/engine = 3, inference engines that failed")


def test_a_kind_of_somebody_s_own_engine_is_told_too():
    (line,) = FirstFaults().lines({"faults/of_mine": float("inf")})
    assert line.startswith("fault: faults/of_mine = inf, ")
    assert [*FirstFaults().lines({"faults/of_mine": float("nan")})] == []


def test_what_replay_refuses_since_a_worker_breaks_its_rules_is_told_and_what_came_late_is_not():
    counted = {"replay/refused_stale": 3.0, "replay/refused_unknown": 1.0, "critic/skipped": 1.0}
    assert [line.split(",")[0] for line in FirstFaults().lines(counted)] == [
        "fault: critic/skipped = 1",
        "fault: replay/refused_unknown = 1",
    ]


@pytest.mark.parametrize("name", sorted(TOLD_WHERE_MET | UNDER_OTHER_NAMES))
def test_what_is_named_is_a_metric_of_the_table(name):
    assert describe(name) not in (None, METRICS["faults/{KIND}"])


def test_every_fault_that_the_packages_count_has_words_of_its_own():
    names = {text for text in written() if text.startswith(FAULTS) and VALUE not in text}
    names = {name for name in names if not name.endswith("_")}  # the beginning of several
    assert "faults/cut_drains" in names
    assert [name for name in names if describe(name) is METRICS["faults/{KIND}"]] == []
