"""What was started again is kept line by line, whatever became of the line before."""

from oapl.tracking.restarts import FILE, RestartLog, read


def test_what_is_added_is_read_back_in_order(tmp_path):
    log = RestartLog(tmp_path)
    log.add("worker 0", "died: killed by signal 9\nwith two lines")
    log.add("replay", "replay died")
    found = [*read(tmp_path)]
    assert [(one.part, one.is_of_all) for one in found] == [("worker 0", False), ("replay", True)]
    assert found[0].cause == "died: killed by signal 9\nwith two lines"
    assert found[0].at_unix_s <= found[1].at_unix_s


def test_a_line_that_a_kill_has_torn_takes_no_other_with_it(tmp_path):
    log = RestartLog(tmp_path)
    log.add("worker 0", "died")
    with (tmp_path / FILE).open("a") as file:
        file.write('{"at_unix_s": 17')
    log.add("rank", "learner rank 0 of 1 died")
    assert [one.part for one in read(tmp_path)] == ["worker 0", "rank"]


def test_where_nothing_can_be_written_nothing_fails(tmp_path):
    RestartLog(tmp_path / "gone").add("rank", "learner rank 0 of 1 died")
    assert [*read(tmp_path / "gone")] == []
