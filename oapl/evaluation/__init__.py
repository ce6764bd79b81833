"""Measures of an evaluation.

`protocol` says how a set is answered and judged, `problem` holds what was answered, `measures/` has
one file per measure, `summary` brings them together, `per_problem` gives the numbers that
comparisons are made of, `by_length` accuracy by length.
"""

from oapl.evaluation.by_length import LengthBin, by_length, edges_to
from oapl.evaluation.pass_at_k import pass_at_k
from oapl.evaluation.problem import Problem
from oapl.evaluation.protocol import Protocol
from oapl.evaluation.summary import averages, mean_and_error, score_of, summarise
from oapl.evaluation.votes import extract_answer, majority

__all__ = [
    "LengthBin",
    "Problem",
    "Protocol",
    "averages",
    "by_length",
    "edges_to",
    "extract_answer",
    "majority",
    "mean_and_error",
    "pass_at_k",
    "score_of",
    "summarise",
]
