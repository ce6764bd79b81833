"""`oapl doctor`: what this machine has, and what is wrong with it for a run, each with its remedy.

One file per subject; each has `look`, which yields its findings. It looks and starts nothing (but
the sandboxes, to try them out, and Ray where asked to). `examination` says in which order, `report`
prints.
"""
