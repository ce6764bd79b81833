"""What goes on beside a thread's own work."""

import threading

import pytest

from oapl.remote.background import Background


def test_it_goes_on_until_it_ends_and_nobody_waits_longer_than_asked():
    gate = threading.Event()
    act = Background(lambda: gate.wait(10) and None)
    assert not act.is_over()
    assert not act.is_over(patience_s=0.01)
    gate.set()
    assert act.is_over(patience_s=10)
    act.check()


def test_what_it_raised_is_raised_where_it_is_asked_for():
    def fail():
        raise OSError(28, "No space left on device")

    act = Background(fail)
    assert act.is_over(patience_s=10)
    with pytest.raises(OSError, match="No space left"):
        act.check()
