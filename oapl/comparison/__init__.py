"""Evaluations side by side: by their figures, by their problems, over seeds.

`before_after` pairs the figures of two evaluations. The rest are the statistics of `oapl compare`:
`paired` puts two answers to the same problems beside one another by the bootstrap (`bootstrap`),
the sign-flip test (`sign_flips`) and McNemar's (`mcnemar`); `seeds` compares runs over their seeds;
`many` corrects for many sets; `power` tells before a run what could be shown; `words` says it.
Everything is numbers in, numbers out; what is drawn is drawn from a generator that is given.
"""

from oapl.comparison.before_after import HEADLINES, SE, Comparison, compare, score

__all__ = ["HEADLINES", "SE", "Comparison", "compare", "score"]
