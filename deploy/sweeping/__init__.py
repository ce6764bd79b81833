"""A grid of settings, one run after the other: cells (`grid`), checked (`plan`), run and told.

Invariants: every cell is checked before the first one starts; each is `oapl train` (or `sft`) in a
run folder of its own, so that the same command goes on wherever this one was ended; a cell is done
when its run said so, under the settings that it would have now.
"""
