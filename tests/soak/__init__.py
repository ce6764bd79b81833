"""`make soak`: one live run under a random schedule of faults; see `tests.soak.__main__`."""
