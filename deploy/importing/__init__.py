"""Logged traces of other systems become stored groups.

`columns` says which column means what, `traces` reads a line, `rendering` makes tokens of it,
`grouping` puts the traces of a prompt together, `scoring` asks an engine for log-probs, `running`
writes the set, `report` tells what was done.
"""
